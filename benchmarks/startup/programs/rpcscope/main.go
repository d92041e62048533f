// Command rpcscope sets telemetry up with package telemetry.
package main

import (
	"context"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
	"github.com/rpcscope/rpcscope/telemetry"
)

func main() {
	ready.Main(func(ctx context.Context) error {
		_, err := telemetry.Setup(ctx)
		return err
	})
}
