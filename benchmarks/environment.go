package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// environment tells where and with what a measurement was made, an item a line.
func environment(command string) []string {
	lines := []string{
		"command: `" + command + "`",
		"date: " + time.Now().UTC().Format(time.DateOnly),
		fmt.Sprintf("Go: %s %s/%s, GOMAXPROCS %d", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0)),
		fmt.Sprintf("CPU: %d of %s", runtime.NumCPU(), cpuModel()),
		"load average at the start: " + loadAverage(),
	}
	return append(lines, "modules: "+strings.Join(compared(), ", "))
}

const unknown = "unknown" // where the system is not Linux

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(info)) {
		if key, model, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return unknown
}

// loadAverage of the last 1, 5 and 15 minutes.
func loadAverage() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return unknown
	}
	fields := strings.Fields(string(load))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// compared are the modules that make the contenders, with their versions.
func compared() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var modules []string
	for _, m := range info.Deps {
		if slices.Contains([]string{
			"google.golang.org/grpc",
			"go.opentelemetry.io/otel/sdk",
			"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
			"github.com/grpc-ecosystem/go-grpc-middleware/v2",
			"github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus",
		}, m.Path) {
			modules = append(modules, m.Path+" "+m.Version)
		}
	}
	return modules
}
