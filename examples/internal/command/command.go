// Package command is what the programs of the servers have in common: exit codes, health checks, and a port to serve on.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Main runs the program of this name, and ends it with 1 if that fails.
func Main(name string, run func(args []string) error) {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Check asks what listens on address whether it is well, for 3 seconds at most.
func Check(ask func(ctx context.Context, address string) error, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return ask(ctx, address)
}

// Listening returns what serves on address until its context is done.
func Listening(address string, serve func(context.Context, net.Listener) error) func(context.Context) error {
	return func(ctx context.Context) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return serve(ctx, l)
	}
}

// Ready returns nil if a GET of url is answered with 200.
func Ready(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s, want 200", url, response.Status)
	}
	return nil
}
