//go:build unix

package native

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/tests/internal/compose"
)

const root = "../../.."

// TestMain is also what a service of the stack does here, whose path is a link to the test: it listens where it is told to.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	switch {
	case slices.Contains(os.Args, Serve):
		serve()
	case strings.HasSuffix(name, ".test"):
		goleak.VerifyTestMain(m)
	default:
		pretend(name, os.Args[1:])
	}
}

// pretend is a service that is as healthy as a file beside it says: "ends" has it end, "deaf" not end when it is told to,
// "sick" not answer.
func pretend(name string, args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if at := slices.Index(args, "-listen"); slices.Contains(args, "-check") {
		if err := answers("http://" + args[at+1])(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	how, err := os.ReadFile(os.Args[0] + ".how")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	fmt.Println(name, "is", stdcmp.Or(string(how), "well"), os.Environ())
	if string(how) == "ends" {
		os.Exit(3)
	}
	for i, arg := range args {
		address := arg[strings.LastIndex(arg, "=")+1:]
		listens := strings.Contains(arg, "listen-address=") || strings.Contains(arg, "endpoint=") || (i > 0 && (args[i-1] == "-listen" || args[i-1] == "-status"))
		if listens && string(how) != "sick" {
			go func() {
				panic(http.ListenAndServe(address, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			}()
		}
	}
	<-ctx.Done()
	if string(how) == "deaf" {
		select {}
	}
	fmt.Println("ended", name)
}

// serve is what command stack does for Up.
func serve() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := (Daemon{Root: os.Args[2], Bin: os.Args[4], Rate: 1, Free: true}).Serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

// pretended returns the folder of a link to this test for each service, and how one of them is to be.
func pretended(t *testing.T, name, how string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"prometheus", "promtool", "jaeger", "users-audit", "users-api", "users-web", "users-load"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if name != "" {
		write(t, filepath.Join(dir, name+".how"), how)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func free(t *testing.T) Ports {
	t.Helper()
	p, err := FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// configured returns a stack of pretended services on free ports.
func configured(t *testing.T, name, how string) Config {
	t.Helper()
	dir := pretended(t, name, how)
	return Config{
		Root: root, Dir: t.TempDir(), Examples: dir, Ports: free(t), Rate: 1, Log: io.Discard,
		Backends: Binaries{"prometheus": filepath.Join(dir, "prometheus"), "jaeger": filepath.Join(dir, "jaeger")},
	}
}

// writer is called for each Write.
type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// contains fails the test if err does not say all of want.
func contains(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got error %v, want one with %q", err, w)
		}
	}
}

// silent fails the test if somebody still listens on one of the ports.
func silent(t *testing.T, p Ports) {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Errorf("after the stack: %v", err)
	}
}

func TestStack(t *testing.T) {
	t.Setenv("OTEL_SDK_DISABLED", "true") // reaches nobody
	c := configured(t, "", "")
	var log bytes.Buffer
	c.Log = &log
	c.Args = map[string][]string{"users-api": {"-last"}}
	t.Chdir(filepath.Dir(c.Examples))
	c.Examples = filepath.Base(c.Examples)
	write(t, filepath.Join(c.Dir, "data", "of the last stack"), "")
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	var order []string
	for _, p := range s.processes {
		order = append(order, p.name)
		if got := p.cmd.Args[len(p.cmd.Args)-1]; (got == "-last") != (p.name == "users-api") {
			t.Errorf("%s: got last argument %s", p.name, got)
		}
	}
	if diff := cmp.Diff([]string{"prometheus", "jaeger", "users-audit", "users-api", "users-web", "users-load"}, order); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if got := strings.Count(log.String(), ": healthy after"); got != len(order) {
		t.Errorf("got %d healthy services of %d in\n%s", got, len(order), &log)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "data", "of the last stack")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the data of the last stack gone", err)
	}
	_, err = Start(t.Context(), c)
	contains(t, err, fmt.Sprintf("port %d, for users-web, is not to be had", c.Ports[UsersWeb]), "Prometheus")
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	for _, name := range order {
		out, err := s.Log(name)
		if err != nil || !strings.Contains(string(out), name+" is well") || strings.Contains(string(out), "OTEL_SDK_DISABLED") {
			t.Errorf("got log %q of %s, error %v, want one without the caller's environment", out, name, err)
		}
		if !strings.Contains(string(out), "ended "+name) {
			t.Errorf("got log %q of %s, want what it says at its end", out, name)
		}
	}
	silent(t, c.Ports)
}

// What goes wrong while the stack starts names the service and shows its log, and leaves nothing behind.
func TestStackDoesNotStart(t *testing.T) {
	t.Run("a service ends", func(t *testing.T) {
		c := configured(t, "users-api", "ends")
		_, err := Start(t.Context(), c)
		contains(t, err, "users-api has ended: exit status 3", "users-api is ends", filepath.Join("logs", "users-api.log"))
		silent(t, c.Ports)
	})
	t.Run("a service is not healthy", func(t *testing.T) {
		c := configured(t, "jaeger", "sick")
		ctx, cancel := context.WithCancelCause(t.Context())
		c.Log = writer(func([]byte) { cancel(errors.New("nobody waits any longer")) }) // of Prometheus
		_, err := Start(ctx, c)
		contains(t, err, "jaeger does not become healthy: nobody waits any longer", filepath.Join("logs", "jaeger.log"))
		silent(t, c.Ports)
	})
	t.Run("a program is not there", func(t *testing.T) {
		c := configured(t, "", "")
		c.Examples = t.TempDir()
		_, err := Start(t.Context(), c)
		contains(t, err, "users-audit", "no such file")
		silent(t, c.Ports)
	})
	t.Run("interrupted", func(t *testing.T) {
		c := configured(t, "jaeger", "sick")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("somebody pressed Ctrl-C"))
		_, err := Start(ctx, c)
		contains(t, err, "somebody pressed Ctrl-C")
		silent(t, c.Ports)
	})
}

// A service that ends while the stack runs is told of, by Check and by Stop.
func TestServiceEnds(t *testing.T) {
	c := configured(t, "", "")
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p := s.processes[1]
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	contains(t, s.Check(), "jaeger has ended: signal: killed")
	contains(t, s.Stop(), "jaeger has ended: signal: killed")
	silent(t, c.Ports)
}

// daemon returns one of pretended services whose back ends have been built.
func daemon(t *testing.T, name, how string) (Daemon, *bytes.Buffer) {
	t.Helper()
	dir := pretended(t, name, how)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range Backends {
		built, err := b.dir(root, cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(built), 0o755), os.Symlink(dir, built)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	d := Daemon{Root: root, Bin: dir, Rate: 1, Free: true, Out: &out}
	t.Cleanup(func() {
		if running, _ := d.running(); running {
			t.Errorf("the stack still runs: %v", d.Down(context.Background()))
		}
	})
	return d, &out
}

func TestDaemon(t *testing.T) {
	d, out := daemon(t, "", "")
	check := func(what string, err error, want string) {
		t.Helper()
		if err != nil || !strings.Contains(out.String(), want) {
			t.Fatalf("%s: got error %v and\n%s\nwant %q", what, err, out, want)
		}
		out.Reset()
	}
	check("status", d.Status(t.Context()), "The stack does not run")
	check("down", d.Down(t.Context()), "The stack does not run")
	err := d.Up(t.Context())
	s, readErr := d.read()
	if readErr != nil {
		t.Fatal(err, readErr)
	}
	check("up", err, s.Ports.URL(UsersWeb))
	check("up again", d.Up(t.Context()), fmt.Sprintf("The stack runs already, since %s, as process %d.", s.Begun.Format(time.DateTime), s.PID))
	check("status", d.Status(t.Context()), s.Ports.URL(PrometheusHTTP))
	check("down", d.Down(t.Context()), "The stack is stopped.")
	silent(t, s.Ports)
	check("status", d.Status(t.Context()), "The stack does not run")
}

// When the first process is killed, the others are still known for what they are.
func TestDaemonKilled(t *testing.T) {
	d, out := daemon(t, "", "")
	if err := d.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := d.Down(t.Context()); err != nil || !strings.Contains(out.String(), "The stack is stopped.") {
		t.Errorf("got error %v and\n%s", err, out)
	}
	silent(t, s.Ports)
}

func TestDaemonDoesNotStart(t *testing.T) {
	t.Run("a service ends", func(t *testing.T) {
		d, _ := daemon(t, "users-web", "ends")
		contains(t, d.Up(t.Context()), "the stack does not start: users-web has ended: exit status 3", "users-web is ends")
	})
	t.Run("a port is taken", func(t *testing.T) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		contains(t, Ports{PrometheusHTTP: port}.Check(), "port "+strconv.Itoa(port)+", for Prometheus, is not to be had", "address already in use")
	})
}

func TestCacheDir(t *testing.T) {
	for _, tt := range []struct{ xdg, home, want, err string }{
		{xdg: "/var/cache/me", home: "/home/me", want: "/var/cache/me/rpcscope"},
		{xdg: "cache", home: "/home/me", err: `XDG_CACHE_HOME is "cache", want an absolute path`},
		{err: "XDG_CACHE_HOME may name a folder"},
	} {
		t.Setenv("XDG_CACHE_HOME", tt.xdg)
		t.Setenv("HOME", tt.home)
		got, err := CacheDir()
		if got != tt.want || (err != nil) != (tt.err != "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%+v: got %q, error %v", tt, got, err)
		}
	}
}

// hello returns a repository that pins a back end of a few lines, and that.
func hello(t *testing.T) (string, Backend) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tools/hello/go.mod"), "module tools\n\ngo 1.26\n\nrequire example.com/hello v1.2.3\n\nreplace example.com/hello => ./source\n")
	write(t, filepath.Join(dir, "tools/hello/go.sum"), "")
	write(t, filepath.Join(dir, "tools/hello/source/go.mod"), "module example.com/hello\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "tools/hello/source/cmd/hello/main.go"), "package main\n\nfunc main() {}\n")
	return dir, Backend{Name: "Hello", Module: "example.com/hello", Pin: "tools/hello", Programs: []string{"cmd/hello"}, Minutes: 1}
}

func TestBuild(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "")
	dir, b := hello(t)
	cache := filepath.Join(t.TempDir(), "cache")

	var out bytes.Buffer
	var mu sync.Mutex
	var together sync.WaitGroup
	for range 2 {
		together.Go(func() {
			var own bytes.Buffer
			got, err := Build(t.Context(), dir, cache, []Backend{b}, &own)
			if err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(got["hello"]); err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("got %v, %v, want a program", info, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out.Write(own.Bytes())
		})
	}
	together.Wait()
	if got := strings.Count(out.String(), "==> building Hello v1.2.3"); got != 1 {
		t.Errorf("got %d builds, want one by two at once:\n%s", got, &out)
	}

	out.Reset()
	t.Setenv("GO", "/nowhere/go") // which nobody asks for what there is
	if _, err := Build(t.Context(), dir, cache, []Backend{b}, &out); err != nil || out.Len() > 0 {
		t.Errorf("the second time: got error %v and %q, want neither", err, &out)
	}
	b.Flags = []string{"-trimpath"}
	_, err := Build(t.Context(), dir, cache, []Backend{b}, &out)
	contains(t, err, "/nowhere/go") // it would build another
}

// What cannot be built names what and why, and leaves nothing that looks as if it had been.
func TestBuildFails(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	for _, tt := range []struct {
		name, file, content string
		want                []string
	}{
		{"does not compile", "source/cmd/hello/main.go", "package main\n\nfunc main() { undefined() }\n",
			[]string{"building Hello from example.com/hello@v1.2.3, which tools/hello/go.mod pins: go build: exit status 1", "undefined: undefined"}},
		{"module is not to be had", "go.mod", "module tools\n\ngo 1.26\n\nrequire example.com/hello v1.2.3\n",
			[]string{"example.com/hello@v1.2.3", "module lookup disabled by GOPROXY=off", "GOPROXY and GOFLAGS say from where"}},
		{"not pinned", "go.mod", "module tools\n\ngo 1.26\n", []string{"tools/hello/go.mod requires no example.com/hello"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, b := hello(t)
			cache := t.TempDir()
			write(t, filepath.Join(dir, "tools/hello", tt.file), tt.content)
			_, err := Build(t.Context(), dir, cache, []Backend{b}, io.Discard)
			contains(t, err, tt.want...)
			left, err := filepath.Glob(filepath.Join(cache, "*-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("got %q, error %v, want nothing left", left, err)
			}
		})
	}
	t.Run("no place", func(t *testing.T) {
		dir, b := hello(t)
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, "")
		_, err := Build(t.Context(), dir, filepath.Join(file, "cache"), []Backend{b}, io.Discard)
		contains(t, err, "no place for Hello", "not a directory")
	})
}

func TestProgress(t *testing.T) {
	p := &progress{goal: " of at most 9 packages compiled", begun: time.Now()}
	for _, s := range []string{"go: downloading example.com/a v1.2.3\ninternal/abi\nexample", ".com/a-b/c.d\n# example.com/e\nmain.go:1:2: undefined: x\n"} {
		if _, err := io.WriteString(p, s); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := p.String(), "0s, 1 modules downloaded, 2 of at most 9 packages compiled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := p.said(), "# example.com/e\nmain.go:1:2: undefined: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPins holds what is built together with what compose starts.
func TestPins(t *testing.T) {
	for _, b := range Backends {
		if version, _, err := b.pinned(root); err != nil || !strings.HasPrefix(version, "v") {
			t.Errorf("%s: got version %q, error %v", b.Name, version, err)
		}
	}
	project, err := compose.Load(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	version, _, err := Backends[0].pinned(root)
	if err != nil {
		t.Fatal(err)
	}
	// The module of Prometheus 3.15.0 is v0.315.0.
	want := strings.NewReplacer("v0.3", "v3.").Replace(version)
	if image := project.Services["prometheus"].Image; !strings.Contains(image, ":"+want+"@") {
		t.Errorf("compose has %s, and the module is %s, want the same version", image, version)
	}
}

// TestLikeCompose looks for a flag or variable of the compose file that the stack without Docker does not give.
func TestLikeCompose(t *testing.T) {
	project, err := compose.Load(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Root: root, Dir: "data", Ports: UsualPorts(), Rate: 1}
	without := []string{"-redis"} // there is none here
	both := 0
	for _, s := range c.services() {
		containers, ok := project.Services[s.name]
		if !ok {
			continue
		}
		both++
		for _, arg := range containers.Command {
			flag, _, _ := strings.Cut(arg, "=")
			has := slices.ContainsFunc(s.args, func(own string) bool { return own == flag || strings.HasPrefix(own, flag+"=") })
			if strings.HasPrefix(flag, "-") && !has && !slices.Contains(without, flag) {
				t.Errorf("%s: compose gives it %s", s.name, arg)
			}
		}
		for name := range containers.Environment {
			if !slices.ContainsFunc(s.env, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
				t.Errorf("%s: compose sets %s", s.name, name)
			}
		}
		for _, mount := range containers.Volumes {
			own := mount.Source
			if abs, err := filepath.Abs(root); err == nil {
				own = strings.TrimPrefix(own, abs+"/")
			}
			if strings.HasPrefix(own, "dashboards/") && !strings.Contains(strings.Join(append(s.args, s.env...), " "), filepath.Join(root, own)) {
				t.Errorf("%s: compose mounts %s", s.name, own)
			}
		}
	}
	if both < 5 {
		t.Errorf("compose starts %d services of these, want Prometheus, Jaeger and the example's three at least", both)
	}
}
