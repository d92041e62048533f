//go:build unix

package native

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A Daemon is a stack that goes on when the command that started it has ended. One process, which is in a session of its own,
// starts and stops the others. All of them hold one lock, so that the stack runs exactly as long as the lock is held, and so long
// no other session has its number: the right processes are stopped, even when the first was killed.
type Daemon struct {
	Root string  // the repository
	Bin  string  // the folder of the example programs
	Rate float64 // see Config
	Free bool    // take free ports
	Out  io.Writer
}

// Serve is the command with which Up starts the process that has the others.
const Serve = "serve"

// state is what a stack that runs has written down.
type state struct {
	PID   int // and the session
	Begun time.Time
	Ports Ports
	Ready bool
}

func (d Daemon) dir() string             { return filepath.Join(d.Bin, "stack-state") }
func (d Daemon) path(name string) string { return filepath.Join(d.dir(), name) }

// Build builds what has to be built.
func (d Daemon) Build(ctx context.Context) (Binaries, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	return Build(ctx, d.Root, cache, Backends, d.Out)
}

// Up starts the stack and prints its addresses. It does nothing if it runs.
func (d Daemon) Up(ctx context.Context) error {
	if err := os.MkdirAll(d.dir(), 0o755); err != nil {
		return err
	}
	if running, err := d.running(); running || err != nil {
		return errors.Join(err, d.Status(ctx))
	}
	if !d.Free {
		if err := UsualPorts().Check(); err != nil { // now, and not after ten minutes
			return fmt.Errorf("%w\nStop what listens there, or let the stack take free ports: make stack STACK=-free-ports", err)
		}
	}
	if _, err := d.Build(ctx); err != nil {
		return err
	}
	fmt.Fprintln(d.Out, "==> starting the stack")
	if err := d.spawn(ctx); err != nil {
		return fmt.Errorf("the stack does not start: %w", err)
	}
	return nil
}

// spawn starts Serve and hands on what it reports until it is ready.
func (d Daemon) spawn(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(d.path("stack.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	reports, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	cmd := exec.Command(self, "-root", d.Root, "-bin", d.Bin, "-rate", strconv.FormatFloat(d.Rate, 'f', -1, 64), //nolint:noctx // it outlives this process
		"-free-ports="+strconv.FormatBool(d.Free), Serve)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{report}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), report.Close()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // it may have ended
	defer stop()
	if _, err := io.Copy(d.Out, reports); err != nil {
		return err
	}
	if s, err := d.read(); err == nil && s.Ready {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	return cmp.Or(d.said(), context.Cause(ctx), err, errors.New("it has ended"))
}

// said returns what went wrong in the process that Up started, if anything did.
func (d Daemon) said() error {
	content, err := os.ReadFile(d.path("stack.log"))
	if err != nil {
		return err
	}
	if content = bytes.TrimPrefix(bytes.TrimSpace(content), []byte("stack: ")); len(content) > 0 {
		return errors.New(string(content))
	}
	return nil
}

// held are the locks of the process that Up started, the first of which no other process inherits. It has them until it has
// ended, and has said its last words.
var held [2]*os.File

// Serve runs the stack until ctx is done, and reports on the file that Up hands it.
func (d Daemon) Serve(ctx context.Context) (err error) {
	report := os.NewFile(3, "report")
	if _, err := report.Stat(); err != nil {
		return fmt.Errorf("%s is for up to start: %w", Serve, err)
	}
	soon, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("the stack runs already"))
	defer cancel()
	for i, name := range []string{"first.lock", "lock"} {
		var err error
		if held[i], err = lockFile(soon, d.path(name)); err != nil { // others hold it for a moment, to see whether it is free
			return err
		}
	}
	s := state{PID: os.Getpid(), Begun: time.Now(), Ports: UsualPorts()}
	if d.Free {
		var err error
		if s.Ports, err = FreePorts(); err != nil {
			return err
		}
	}
	if err := d.write(s); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(d.path("state.json"))) }()
	backends, err := d.Build(ctx)
	if err != nil {
		return err
	}
	stack, err := Start(ctx, Config{
		Root: d.Root, Dir: d.dir(), Backends: backends, Examples: d.Bin, Ports: s.Ports, Rate: d.Rate,
		Password: os.Getenv("USERS_ADMIN_PASSWORD"), Log: report, inherited: held[1],
	})
	if err != nil {
		return err
	}
	d.describe(report, s.Ports)
	s.Ready = true
	if err := errors.Join(d.write(s), report.Close()); err != nil {
		return errors.Join(err, stack.Stop())
	}
	<-ctx.Done()
	return stack.Stop()
}

// describe tells where everything is.
func (d Daemon) describe(w io.Writer, p Ports) {
	fmt.Fprintf(w, `
  %-28s the users page: sign up, or log in as %s, whose password is
  %-28s $USERS_ADMIN_PASSWORD, or %q
  %-28s the users service, gRPC; users-audit is at %s
  %-28s Jaeger's API: /api/traces?service=users-web, /api/dependencies
  %-28s Prometheus' API: /api/v1/query?query=..., /api/v1/alerts
  %-28s OTLP over gRPC, for programs of your own; over HTTP at %s

  The modules of Jaeger and Prometheus carry no web pages; those of docker compose, with Grafana, do.
  Logs and data are in %s. make stack-down stops it all.
`, p.URL(UsersWeb), admin, "", defaultPassword, p.address(UsersAPI), p.address(UsersAudit), p.URL(JaegerHTTP), p.URL(PrometheusHTTP), p.URL(OTLPGRPC), p.URL(OTLPHTTP), d.dir())
}

// Status prints whether the stack runs, and where. It returns an error for each service that is not healthy.
func (d Daemon) Status(ctx context.Context) error {
	running, err := d.running()
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintln(d.Out, "The stack does not run: make stack starts it.")
		return nil
	}
	s, err := d.read()
	if err != nil {
		return fmt.Errorf("the stack begins or ends just now: %w", err)
	}
	fmt.Fprintf(d.Out, "The stack runs already, since %s, as process %d.\n", s.Begun.Format(time.DateTime), s.PID)
	d.describe(d.Out, s.Ports)
	var problems []error
	for _, service := range (Config{Ports: s.Ports, Examples: d.Bin}).services() {
		if err := service.healthy(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s is not healthy: %w", service.name, err))
		}
	}
	return errors.Join(problems...)
}

// Down stops the stack. It returns an error for each service that did not end well.
func (d Daemon) Down(ctx context.Context) error {
	running, err := d.running()
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintln(d.Out, "The stack does not run.")
		return nil
	}
	s, err := d.read()
	if err != nil {
		return fmt.Errorf("the stack begins or ends just now: %w", err)
	}
	fmt.Fprintln(d.Out, "==> stopping the stack")
	if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	// The first ends when the others have. Where it was killed, they are still there: the session tells which.
	err = d.await(ctx, "first.lock")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if running, err := d.running(); !running || err != nil {
			break
		}
		if err := syscall.Kill(-s.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err = d.await(ctx, "lock"); err == nil && signal == syscall.SIGKILL {
			err = errors.New("not all of the stack ended when it was told to, and had to be killed")
		}
	}
	if removed := os.Remove(d.path("state.json")); !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	if err = errors.Join(err, d.said()); err == nil {
		fmt.Fprintln(d.Out, "The stack is stopped.")
	}
	return err
}

// await waits until a lock is free.
func (d Daemon) await(ctx context.Context, name string) error {
	bounded, cancel := context.WithTimeout(ctx, 2*grace)
	defer cancel()
	lock, err := lockFile(bounded, d.path(name))
	if err != nil {
		return err
	}
	return lock.Close()
}

// running tells whether a process holds the lock.
func (d Daemon) running() (bool, error) {
	lock, err := tryLock(d.path("lock"))
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return true, nil
	case errors.Is(err, os.ErrNotExist): // nor the folder
		return false, nil
	case err != nil:
		return false, err
	}
	return false, lock.Close()
}

func (d Daemon) read() (s state, err error) {
	content, err := os.ReadFile(d.path("state.json"))
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	return s, err
}

func (d Daemon) write(s state) error {
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	unfinished := d.path("state.json.unfinished")
	return errors.Join(os.WriteFile(unfinished, content, 0o644), os.Rename(unfinished, d.path("state.json")))
}
