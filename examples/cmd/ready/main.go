// Ready asks a URL whether what serves it is ready: exit code 0 if the answer is 200 within 3 seconds, else 1. It is the
// health check of images that have no shell and no other program to ask with.
package main

import (
	"fmt"
	"os"

	"github.com/rpcscope/rpcscope/examples/internal/command"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "Usage: ready URL")
		os.Exit(2)
	}
	if err := command.Check(command.Ready, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ready:", err)
		os.Exit(1)
	}
}
