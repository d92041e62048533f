// Package program builds the example programs and runs them as processes, for tests.
package program

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build builds the example programs with these names into dir, all of them where none is named. root is the repository.
func Build(ctx context.Context, root, dir string, names ...string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if len(names) == 0 {
		names = []string{"..."}
	}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = filepath.Join(root, "examples")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the examples: %w\n%s", err, out)
	}
	return nil
}

// Patience is how long a test waits for a process to say or do something: far longer than it takes.
const Patience = 30 * time.Second

// A Program is a process that a test started. Its output goes to the test's.
type Program struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // what it printed; closed at its end
	mu    sync.Mutex
	out   bytes.Buffer
}

// Start starts the program at path with nothing in its environment but env, and the programs beside it in its PATH.
func Start(t *testing.T, env []string, path string, args ...string) *Program {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{t: t, cmd: exec.CommandContext(t.Context(), path, args...), lines: make(chan string, 1000)}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append([]string{"PATH=" + filepath.Dir(path)}, env...), w, w
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGKILL) }
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	go p.read(r)
	t.Cleanup(func() {
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("%s printed:\n%s", path, &p.out)
		}
	})
	return p
}

func (p *Program) read(r *os.File) {
	defer r.Close()
	defer close(p.lines)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.out.WriteString(scanner.Text() + "\n")
		p.mu.Unlock()
		select {
		case p.lines <- scanner.Text():
		default: // nobody waits for lines any more
		}
	}
}

// PID returns the id of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// CPUTime returns how much time of processors the process has taken, which has ended.
func (p *Program) CPUTime() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Find waits for a line like pattern and returns its first group.
func (p *Program) Find(pattern string) string {
	p.t.Helper()
	late := time.After(Patience)
	for re := regexp.MustCompile(pattern); ; {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended without a line like %s", p.cmd.Path, pattern)
			}
			if found := re.FindStringSubmatch(line); found != nil {
				return found[1]
			}
		case <-late:
			p.t.Fatalf("%s printed no line like %s in %v", p.cmd.Path, pattern, Patience)
		}
	}
}

// Wait waits for the process to end by itself, returns what it printed and fails the test if its exit code is not 0.
func (p *Program) Wait() string {
	p.t.Helper()
	late := time.AfterFunc(Patience, func() { _ = p.cmd.Process.Kill() }) // Wait tells of it
	defer late.Stop()
	for range p.lines { // to its end, or Wait and read race
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v, want exit code 0", p.cmd.Path, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Stop asks the process to end, as docker compose and Kubernetes do, and waits for it.
func (p *Program) Stop() string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	return p.Wait()
}
