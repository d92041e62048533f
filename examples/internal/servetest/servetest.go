// Package servetest runs servers of the examples in tests.
package servetest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Start runs serve on a free port of its own, until the end of the test or until stop is called, which returns when it
// has ended. An error of serve fails the test.
func Start(t testing.TB, serve func(context.Context, net.Listener) error) (address string, stop func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}
