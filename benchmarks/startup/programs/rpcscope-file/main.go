// Command rpcscope-file sets telemetry up with package telemetry, from a file.
package main

import (
	"context"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/otelconf"
)

func main() {
	ready.Main(func(ctx context.Context) error {
		_, err := telemetry.Setup(ctx, otelconf.FromEnvironment())
		return err
	})
}
