//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bin is the folder of the built example programs.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rpcscope-e2e-")
	if err != nil {
		panic(err)
	}
	bin = dir
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./cmd/...")
	build.Dir = "../../examples"
	if out, err := build.CombinedOutput(); err != nil {
		panic("building the examples: " + err.Error() + "\n" + string(out))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // a folder left among temporary files hurts nobody
		os.Exit(code)
	}))
}

// patience is how long a test waits for a process to say or do something: far longer than it takes.
const patience = 30 * time.Second

// A process is a program that a test started. Its output goes to the test's.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // what it printed; closed at its end
	mu    sync.Mutex
	out   bytes.Buffer
}

// start starts a program of the examples with nothing in its environment but env.
func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	return startProgram(t, env, filepath.Join(bin, name), args...)
}

func startProgram(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), path, args...), lines: make(chan string, 1000)}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append([]string{"PATH=" + bin}, env...), w, w
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

func (p *process) read(r *os.File) {
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

// find waits for a line like pattern and returns its first group.
func (p *process) find(pattern string) string {
	p.t.Helper()
	late := time.After(patience)
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
			p.t.Fatalf("%s printed no line like %s in %v", p.cmd.Path, pattern, patience)
		}
	}
}

// wait waits for the process to end by itself, returns what it printed and fails the test if its exit code is not 0.
func (p *process) wait() string {
	p.t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() }) // Wait tells of it
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

// stop asks the process to end, as docker compose and Kubernetes do, and waits for it.
func (p *process) stop() string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	return p.wait()
}
