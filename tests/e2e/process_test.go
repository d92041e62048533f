//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// bin is the folder of the built example programs.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rpcscope-e2e-")
	if err != nil {
		panic(err)
	}
	bin = dir
	if err := program.Build(context.Background(), "../..", dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // a folder left among temporary files hurts nobody
		os.Exit(code)
	}))
}

// start starts a program of the examples with nothing in its environment but env.
func start(t *testing.T, env []string, name string, args ...string) *program.Program {
	t.Helper()
	return program.Start(t, env, filepath.Join(bin, name), args...)
}
