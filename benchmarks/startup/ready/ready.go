// Package ready is what the programs have in common: a gRPC server, and a line
// on stdout when it is up.
package ready

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"google.golang.org/grpc"
)

// Report is what a program says about itself when it is ready.
type Report struct {
	Allocs uint64 // of the set-up alone
	Bytes  uint64
}

// Main runs setup, starts the server, reports and waits until stdin is closed.
func Main(setup func(context.Context) error) {
	if err := run(setup); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(setup func(context.Context) error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := setup(context.Background()); err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	server := grpc.NewServer()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(listener) }()
	if err := json.NewEncoder(os.Stdout).Encode(Report{Allocs: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
