//go:build unix

package native

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Backend is a back end that is built from its Go module, in the version that a module of the repository pins.
type Backend struct {
	Name     string   // for people
	Module   string   // its path
	Pin      string   // the folder of the module that pins it, below the root of the repository
	Programs []string // packages below the module's path; a program is named after the last element
	Flags    []string // of go build
	Minutes  int      // that the first build takes on two cores, as measured
}

// Backends are all that Build builds.
var Backends = []Backend{
	{
		Name: "Prometheus", Module: "github.com/prometheus/prometheus", Pin: "tools/prometheus",
		Programs: []string{"cmd/prometheus", "cmd/promtool"},
		// It scrapes nothing here: without the clients of a dozen clouds it is built in a third of the time.
		Flags:   []string{"-tags=remove_all_sd", "-ldflags=-s -w"},
		Minutes: 5,
	},
	{
		Name: "Jaeger", Module: "github.com/jaegertracing/jaeger", Pin: "tools/jaeger",
		Programs: []string{"cmd/jaeger"},
		Flags:    []string{"-ldflags=-s -w"},
		Minutes:  7,
	},
}

// Binaries are the paths of built programs by their names: "prometheus", "promtool", "jaeger".
type Binaries map[string]string

// CacheDir is where Build keeps what it built: below $XDG_CACHE_HOME if that is set, else below the user's cache folder.
func CacheDir() (string, error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir != "" && !filepath.IsAbs(dir) {
		return "", fmt.Errorf("XDG_CACHE_HOME is %q, want an absolute path or nothing", dir)
	}
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("%w: XDG_CACHE_HOME may name a folder for what is built", err)
		}
	}
	return filepath.Join(dir, "rpcscope"), nil
}

// Build returns the programs of the backends, which it builds if they are not in cache yet: once for each version and
// each change of what they are built of. It tells out how that goes, and nothing if there is nothing to build. root is the
// repository. Of several that build the same at once one does, and the others wait.
func Build(ctx context.Context, root, cache string, backends []Backend, out io.Writer) (Binaries, error) {
	built := Binaries{}
	for _, b := range backends {
		dir, err := b.build(ctx, root, cache, out)
		if err != nil {
			return nil, err
		}
		b.add(built, dir)
	}
	return built, nil
}

// Built returns the programs of all Backends, which Build has built before: a test has not the time.
func Built(root string) (Binaries, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	built := Binaries{}
	for _, b := range Backends {
		dir, err := b.dir(root, cache)
		if err != nil {
			return nil, err
		}
		if !b.complete(dir) {
			return nil, fmt.Errorf("%s is not built (%s): make e2e and make stack do so", b.Name, dir)
		}
		b.add(built, dir)
	}
	return built, nil
}

func (b Backend) add(built Binaries, dir string) {
	for _, p := range b.Programs {
		built[filepath.Base(p)] = filepath.Join(dir, filepath.Base(p))
	}
}

// build returns the folder that holds the programs.
func (b Backend) build(ctx context.Context, root, cache string, out io.Writer) (string, error) {
	dir, err := b.dir(root, cache)
	if err != nil {
		return "", err
	}
	if b.complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("no place for %s: %w", b.Name, err)
	}
	lock, err := lockFile(ctx, filepath.Join(cache, strings.ToLower(b.Name)+".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if b.complete(dir) { // built meanwhile by whoever held the lock
		return dir, nil
	}
	version, _, err := b.pinned(root)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	fmt.Fprintf(out, "==> building %s %s from its module, once, into %s (about %d minutes on two cores)\n", b.Name, version, dir, b.Minutes)
	if err := b.compile(ctx, filepath.Join(root, b.Pin), dir, out); err != nil {
		return "", fmt.Errorf("building %s from %s@%s, which %s/go.mod pins: %w", b.Name, b.Module, version, b.Pin, err)
	}
	fmt.Fprintf(out, "==> %s is built, %v\n", b.Name, time.Since(begun).Round(time.Second))
	return dir, nil
}

// dir returns the folder in cache that holds the programs, once they are built.
func (b Backend) dir(root, cache string) (string, error) {
	version, sum, err := b.pinned(root)
	return filepath.Join(cache, strings.ToLower(b.Name)+"-"+version+"-"+runtime.GOOS+"-"+runtime.GOARCH+"-"+sum), err
}

// pinned returns the version of the backend and a short hash of all that it is built of.
func (b Backend) pinned(root string) (version, sum string, err error) {
	hash := sha256.New()
	fmt.Fprintln(hash, b.Programs, b.Flags)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, b.Pin, name))
		if err != nil {
			return "", "", fmt.Errorf("%s is pinned nowhere: %w", b.Name, err)
		}
		hash.Write(content)
		if m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(b.Module) + ` (v\S+)`).FindSubmatch(content); version == "" && m != nil {
			version = string(m[1])
		}
	}
	if version == "" {
		return "", "", fmt.Errorf("%s/go.mod requires no %s", b.Pin, b.Module)
	}
	return version, fmt.Sprintf("%x", hash.Sum(nil)[:4]), nil
}

// complete tells whether dir, which only ever comes into being whole, is there.
func (b Backend) complete(dir string) bool {
	for _, p := range b.Programs {
		if _, err := os.Stat(filepath.Join(dir, filepath.Base(p))); err != nil {
			return false
		}
	}
	return true
}

// compile builds the programs and moves them to dir when all are there.
func (b Backend) compile(ctx context.Context, module, dir string, out io.Writer) (err error) {
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".unfinished-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(unfinished)) }()
	var packages []string
	for _, p := range b.Programs {
		packages = append(packages, b.Module+"/"+p)
	}
	all, err := goRun(ctx, module, out, "", append(append([]string{"list", "-deps"}, b.Flags...), packages...)...)
	if err != nil {
		return fmt.Errorf("%w\nits dependencies come from the Go module proxy, the first time: GOPROXY and GOFLAGS say from where (go env)", err)
	}
	goal := fmt.Sprintf(" of at most %d packages compiled", bytes.Count(all, []byte("\n")))
	args := append([]string{"build", "-v", "-buildvcs=false", "-o", unfinished + string(filepath.Separator)}, b.Flags...)
	if _, err := goRun(ctx, module, out, goal, append(args, packages...)...); err != nil {
		return err
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return err
	}
	return os.Rename(unfinished, dir)
}

// often is how often a build tells how far it is.
const often = 15 * time.Second

// goRun runs the go command in the folder of a module, tells out how it goes and returns what it printed on stdout.
func goRun(ctx context.Context, module string, out io.Writer, goal string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, cmp.Or(os.Getenv("GO"), "go"), args...)
	// A workspace of the developer's own does not have the modules that pin tools.
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off")
	// A go command that is asked to end removes what it has begun, which may be gigabytes.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout bytes.Buffer
	p := &progress{goal: goal, begun: time.Now()}
	cmd.Stdout, cmd.Stderr = &stdout, p
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return nil, fmt.Errorf("go %s: %w\n%s", args[0], cmp.Or(context.Cause(ctx), err), p.said())
			}
			return stdout.Bytes(), nil
		case <-ticker.C:
			fmt.Fprintln(out, "    "+p.String())
		}
	}
}

// progress reads what the go command tells on stderr: modules that it downloads, packages that it compiles, and the rest.
type progress struct {
	goal  string
	begun time.Time

	mu         sync.Mutex
	line       []byte
	downloaded int
	compiled   int
	rest       []string
}

var (
	downloading = regexp.MustCompile(`^go: downloading `)
	compiling   = regexp.MustCompile(`^[\w.~-]+(/[\w.~-]+)*$`)
)

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = append(p.line, b...)
	for {
		advance, token, _ := bufio.ScanLines(p.line, false)
		if advance == 0 {
			return len(b), nil
		}
		switch {
		case downloading.Match(token):
			p.downloaded++
		case compiling.Match(token):
			p.compiled++
		default:
			p.rest = append(p.rest, string(token))
		}
		p.line = p.line[advance:]
	}
}

// String tells how far it is.
func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := time.Since(p.begun).Round(time.Second).String()
	if p.downloaded > 0 {
		s += fmt.Sprintf(", %d modules downloaded", p.downloaded)
	}
	if p.goal != "" {
		s += fmt.Sprintf(", %d%s", p.compiled, p.goal)
	}
	return s
}

// said returns the last lines of what was neither a module nor a package.
func (p *progress) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := append(p.rest, string(p.line))
	return strings.TrimSpace(strings.Join(lines[max(0, len(lines)-20):], "\n"))
}

// lockFile opens a file, which it creates, once nobody else has it locked.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		f, err := tryLock(path)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s stays locked: %w", path, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// tryLock is lockFile that does not wait: its error is EWOULDBLOCK. Processes that inherit the file keep the lock as long as
// any of them lives.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}
