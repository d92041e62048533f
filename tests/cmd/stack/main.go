//go:build unix

// Stack runs Jaeger, Prometheus and the example system under load on this machine, without Docker: what `make stack` and
// `make stack-down` do. It is started in the root of the repository.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rpcscope/rpcscope/tests/internal/native"
)

const usage = `Usage: stack [flags] COMMAND

  build   make sure that Jaeger, Prometheus and promtool are there, which takes minutes the first time
  up      start the stack, which goes on when this command ends
  down    stop it
  status  tell whether it runs

Flags:

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds the default action
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("stack", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	d := native.Daemon{Out: os.Stdout}
	flags.StringVar(&d.Root, "root", ".", "the repository's `folder`")
	flags.StringVar(&d.Bin, "bin", ".bin", "the `folder` with the example programs; the stack's data and logs go to stack-state below it")
	flags.Float64Var(&d.Rate, "rate", 20, "`calls` a second of the load generator; 0: it is not started")
	flags.BoolVar(&d.Free, "free-ports", false, "take ports that are free instead of the usual ones")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !(d.Rate >= 0 && d.Rate <= 10_000) {
		return fmt.Errorf("-rate %v, want 0 to 10000", d.Rate)
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("got %d commands %q, want one of build, up, down, status", flags.NArg(), flags.Args())
	}
	switch command := flags.Arg(0); command {
	case "build":
		_, err := d.Build(ctx)
		return err
	case "up":
		return d.Up(ctx)
	case "down":
		return d.Down(ctx)
	case "status":
		return d.Status(ctx)
	case native.Serve: // of Up
		return d.Serve(ctx)
	default:
		return fmt.Errorf("command %q, want build, up, down or status", command)
	}
}
