package main

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
)

// programs are measured in this order, and in turns.
var programs = []program{
	{name: "bare", title: "no telemetry"},
	{name: "rpcscope", title: "rpcscope"},
	{name: "autoexport", title: "autoexport"},
	{name: "rpcscope-file", title: "rpcscope with a file", file: true},
	{name: "otelconf", title: "otelconf", file: true},
}

type program struct {
	name, title string
	file        bool // has a configuration file
}

// result is what was measured of a program.
type result struct {
	program
	path          string
	size          int64
	modules       int       // linked, the program's own not among them
	millis        []float64 // to ready, of each round
	ratios        []float64 // of millis, to the reference's in the same round
	allocs, bytes []float64 // of the set-up
}

// measure builds the programs into dir and starts each of them rounds times.
func measure(dir string, rounds int) ([]*result, error) {
	var results []*result
	for _, p := range programs {
		r, err := build(dir, p)
		if err != nil {
			return nil, err
		}
		if _, err := r.start(); err != nil { // not counted: reads the binary from the disk
			return nil, err
		}
		results = append(results, r)
	}
	for range rounds {
		times := map[string]float64{}
		for _, r := range results {
			took, err := r.start()
			if err != nil {
				return nil, err
			}
			times[r.name] = float64(took.Microseconds()) / 1e3
		}
		for _, r := range results {
			r.millis = append(r.millis, times[r.name])
			r.ratios = append(r.ratios, times[r.name]/times[reference])
		}
	}
	return results, nil
}

// build compiles a program as it would be shipped.
func build(dir string, p program) (*result, error) {
	r := &result{program: p, path: filepath.Join(dir, p.name)}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", r.path, "./programs/"+p.name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building %s: %w\n%s", p.name, err, out)
	}
	info, err := os.Stat(r.path)
	if err != nil {
		return nil, err
	}
	parts, err := buildinfo.ReadFile(r.path)
	if err != nil {
		return nil, err
	}
	r.size, r.modules = info.Size(), len(parts.Deps)
	return r, nil
}

// start starts the program, and stops it when it is ready.
func (r *result) start() (time.Duration, error) {
	cmd := exec.CommandContext(context.Background(), r.path)
	cmd.Env = environment(os.Environ(), r.file)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	line, readErr := bufio.NewReader(stdout).ReadBytes('\n')
	took := time.Since(begin)
	_ = stdin.Close() // which ends it
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%s: %w", r.name, err)
	}
	if readErr != nil {
		return 0, fmt.Errorf("%s: %w", r.name, readErr)
	}
	var report ready.Report
	if err := json.Unmarshal(line, &report); err != nil {
		return 0, fmt.Errorf("%s: %w", r.name, err)
	}
	r.allocs, r.bytes = append(r.allocs, float64(report.Allocs)), append(r.bytes, float64(report.Bytes))
	return took, nil
}

// environment says to all the same, in variables or in a file.
func environment(own []string, file bool) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(kv string) bool { return strings.HasPrefix(kv, "OTEL_") })
	if file {
		return append(env, "OTEL_CONFIG_FILE=otel.yaml")
	}
	return append(env, "OTEL_SERVICE_NAME=startup", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1")
}

// quartiles returns the first, the median and the third.
func quartiles(values []float64) [3]float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] } // the nearest
	return [3]float64{at(0.25), at(0.5), at(0.75)}
}
