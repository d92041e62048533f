package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv names the program that this binary is to be, in a process of its own.
const childEnv = "TELEMETRY_TEST_CHILD"

// Programs are what this binary can be in a process of its own.
var Programs = map[string]func(){}

// runChild runs the program that childEnv names, if any.
func runChild() bool {
	main := Programs[os.Getenv(childEnv)]
	if main == nil {
		return false
	}
	main()
	return true
}

// Child is a process that runs one of the Programs.
type Child struct {
	*exec.Cmd
	Stdin  io.Writer
	Stdout *bufio.Reader
	Stderr bytes.Buffer // once it has ended
}

// StartChild starts a program, with env beside what this process has of it. It
// is killed after 30 seconds.
func StartChild(t *testing.T, program string, env ...string) *Child {
	t.Helper()
	if Programs[program] == nil {
		t.Fatalf("there is no program %s", program)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	c := &Child{Cmd: exec.CommandContext(ctx, exe)}
	c.Env = append(append(os.Environ(), childEnv+"="+program), env...)
	c.Cmd.Stderr = &c.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout = in, bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// ReadLine fails the test unless the next line on stdout is want.
func (c *Child) ReadLine(t *testing.T, want string) {
	t.Helper()
	line, err := c.Stdout.ReadString('\n')
	if strings.TrimSpace(line) != want {
		t.Fatalf("child printed %q (%v), want %q", line, err, want)
	}
}

// Signal sends sig.
func (c *Child) Signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := c.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// WantSignaled fails the test unless sig has killed the process.
func (c *Child) WantSignaled(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if status := c.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != sig {
		t.Errorf("child ended with %v, want %v", c.ProcessState, sig)
	}
}
