package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/rpcscope/rpcscope/errors"
)

// asCaller is the variable that tells a process of this program that it is a caller.
const asCaller = "RPCSCOPE_OUTAGE_CALLER"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Getenv(asCaller) != "" {
		return serveCaller(os.Stdin, os.Stdout)
	}
	writes := flag.Bool("write", false, "write docs/faults.md and docs/faults.svg")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("want no arguments, got %q", flag.Args())
	}
	fmt.Fprintf(os.Stderr, "outage: %v\n", full.lasts()+drain)
	results, err := full.measure(context.Background())
	if err != nil {
		return err
	}
	text := report(full, results)
	fmt.Print(text)
	if !*writes {
		return nil
	}
	if err := os.WriteFile("../docs/faults.svg", []byte(plot(full, results)), 0o644); err != nil {
		return err
	}
	return write("../docs/faults.md", text)
}

// measure runs all set-ups side by side, and returns what became of each.
func (p plan) measure(ctx context.Context) ([]*result, error) {
	ctx, cancel := context.WithTimeout(ctx, p.lasts()+drain+time.Minute)
	defer cancel()
	begin := time.Now().Add(2 * time.Second)
	all := setups()
	results, failures := make([]*result, len(all)), make([]error, len(all))
	var running sync.WaitGroup
	for n, s := range all {
		running.Go(func() {
			var err error
			if results[n], err = p.suffer(ctx, order{Setup: n, Begin: begin, Lasts: p.lasts()}); err != nil {
				failures[n] = fmt.Errorf("%s: %w", s.name, err)
				cancel()
			}
		})
	}
	running.Wait()
	return results, errors.Join(failures...)
}

// suffer takes a dependency through the phases while its caller carries out o.
func (p plan) suffer(ctx context.Context, o order) (r *result, err error) {
	d, err := newDependency()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	o.Target = d.proxy.Addr()
	ctx, cancel := context.WithCancel(ctx)
	lived := make(chan error, 1)
	go func() { lived <- d.live(ctx, p, o.Begin) }()
	r, err = o.delegate(ctx)
	cancel()
	if err := errors.Join(err, <-lived); err != nil {
		return nil, err
	}
	r.Asked = d.asked
	return r, nil
}

// delegate has a process carry out the order.
func (o *order) delegate(ctx context.Context) (*result, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, program)
	child.Env = append(os.Environ(), asCaller+"=yes")
	child.Stdin, child.Stderr = bytes.NewReader(text), os.Stderr
	out, err := child.Output()
	if err != nil {
		return nil, fmt.Errorf("the caller's process: %w", err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("what the caller's process wrote: %w", err)
	}
	return &r, nil
}
