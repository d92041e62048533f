// Users is the command line client of the users service.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rpcscope/rpcscope/examples/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds the default action
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
