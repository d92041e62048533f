// Command bare has no telemetry.
package main

import (
	"context"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
)

func main() { ready.Main(func(context.Context) error { return nil }) }
