// Demo shows what rpcscope does: requests through a web app and a gRPC service into a database, each as one trace, then
// errors and metrics. It checks itself: exit code 1 says that something was not as it should be. With -serve it keeps the
// system running until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rpcscope/rpcscope/examples/internal/demo"
)

func main() {
	serve := flag.Bool("serve", false, "keep the system running, with a page, until interrupted")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds the default action
	run := demo.Run
	if *serve {
		run = demo.Serve
	}
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
