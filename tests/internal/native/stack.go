//go:build unix

package native

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	patience = time.Minute      // for a service to become healthy
	grace    = 20 * time.Second // for one to end, which is longer than each of them takes
	every    = 15 * time.Second // between exports, as in compose
)

// A Stack is running.
type Stack struct {
	Ports Ports

	dir       string
	processes []*process
}

// A process is a service that was started.
type process struct {
	service
	cmd   *exec.Cmd
	log   string        // its path
	ended chan struct{} // closed when err is set
	err   error
}

// Start starts the services and waits until each is healthy. If one is not, those before it are stopped again.
func Start(ctx context.Context, c Config) (*Stack, error) {
	if c.Ports == nil {
		c.Ports = UsualPorts()
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	c.Every, c.Password = cmp.Or(c.Every, every), cmp.Or(c.Password, defaultPassword)
	// The services start in another folder.
	for _, path := range []*string{&c.Root, &c.Dir, &c.Examples} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		*path = abs
	}
	if err := c.Ports.Check(); err != nil {
		return nil, err
	}
	data, logs := filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "logs")
	for _, dir := range []string{data, logs} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			return nil, err
		}
	}
	c.Dir = data
	s := &Stack{Ports: c.Ports, dir: logs}
	for _, service := range c.services() {
		begun := time.Now()
		if err := s.start(ctx, service, c.inherited); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
		fmt.Fprintf(c.Log, "    %s: healthy after %v\n", service.name, time.Since(begun).Round(10*time.Millisecond))
	}
	return s, nil
}

// start starts a service and waits until it is healthy.
func (s *Stack) start(ctx context.Context, service service, inherited *os.File) error {
	p := &process{service: service, cmd: exec.Command(service.path, service.args...), log: filepath.Join(s.dir, service.name+".log"), ended: make(chan struct{})} //nolint:noctx // Stop ends it
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Dir = s.dir                              // where nothing of the caller's is
	p.cmd.Env = append([]string{}, service.env...) // nil would be the caller's
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if inherited != nil {
		p.cmd.ExtraFiles = []*os.File{inherited}
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", service.name, err)
	}
	s.processes = append(s.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.await(ctx)
}

// await waits until the service is healthy.
func (p *process) await(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last error // of the service, and not of the end of ctx
	for {
		err := p.healthy(ctx)
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-p.ended: // also when another program answered in its place
			return p.ending()
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not become healthy: %w (%w)\n%s", p.name, context.Cause(ctx), cmp.Or(last, err), p.tail())
		case <-p.ended:
			return p.ending()
		case <-ticker.C:
		}
	}
}

// ending tells why the process has ended, which nobody asked for.
func (p *process) ending() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s has ended: %s\n%s", p.name, how, p.tail())
}

// tail returns the end of the log and its path.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return fmt.Sprintf("%s\n(the end of %s)", bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")), p.log)
}

// Check returns an error that names each service that has ended.
func (s *Stack) Check() error {
	var gone []error
	for _, p := range s.processes {
		select {
		case <-p.ended:
			gone = append(gone, p.ending())
		default:
		}
	}
	return errors.Join(gone...)
}

// Log returns what a service has printed until now.
func (s *Stack) Log(service string) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.dir, service+".log"))
}

// Stop ends the services, those first that need others, and returns an error for each that did not end well: by itself
// before, with an exit code that is not 0, or not at all until it was killed.
func (s *Stack) Stop() error {
	var problems []error
	for _, p := range slices.Backward(s.processes) {
		if err := p.stop(); err != nil {
			problems = append(problems, err)
		}
	}
	s.processes = nil
	return errors.Join(problems...)
}

func (p *process) stop() error {
	select {
	case <-p.ended:
		return p.ending()
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		// Of the signal itself die those that had not come far enough to handle it.
		if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); p.err != nil && (!ok || s.Signal() != syscall.SIGTERM) {
			return p.ending()
		}
		return nil
	case <-timer.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	<-p.ended
	return fmt.Errorf("%s did not end in %v and was killed\n%s", p.name, grace, p.tail())
}
