package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// printExporter prints the names of the spans it is given.
type printExporter struct{}

func (printExporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, s := range spans {
		fmt.Println("exported", s.Name())
	}
	return nil
}

func (printExporter) Shutdown(context.Context) error { return nil }

// runProgram is a program that makes a span and leaves the rest to fn.
func runProgram(fn func(context.Context) error) func() {
	return func() {
		err := Run(context.Background(), func(ctx context.Context) error {
			_, span := otel.Tracer("child").Start(ctx, "work")
			span.End()
			return fn(ctx)
		}, quiet(nil).Option(), WithSpanExporter(printExporter{}), WithServiceName("child"), WithRuntimeMetrics(false))
		if err != nil {
			fmt.Fprintln(os.Stderr, "Run:", err)
			os.Exit(1)
		}
	}
}

func init() {
	Programs["wait"] = runProgram(func(ctx context.Context) error { fmt.Println("ready"); <-ctx.Done(); return ctx.Err() })
	Programs["deaf"] = runProgram(func(context.Context) error { fmt.Println("ready"); select {} })
	Programs["panic"] = runProgram(func(context.Context) error { panic("boom") })
	Programs["fail"] = runProgram(func(context.Context) error { return errors.New("it failed") })
	Programs["setup"] = func() {
		tel := MustSetup(context.Background(), quiet(nil).Option(), WithSpanExporter(printExporter{}), WithServiceName("child"))
		_, span := tel.TracerProvider().Tracer("child").Start(context.Background(), "work")
		span.End()
		fmt.Println("ready")
		if line, _ := bufio.NewReader(os.Stdin).ReadString('\n'); line == "panic\n" {
			panic("boom")
		}
		select {}
	}
}

func TestRunEndsOnSignal(t *testing.T) { // rule 35
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			c := StartChild(t, "wait")
			c.ReadLine(t, "ready")
			c.Signal(t, sig)
			c.ReadLine(t, "exported work")
			if err := c.Wait(); err != nil || c.Stderr.Len() > 0 {
				t.Errorf("child: %v; stderr:\n%s", err, &c.Stderr)
			}
		})
	}
}

// The second signal finds the default action.
func TestRunSecondSignalKills(t *testing.T) { // rule 35
	c := StartChild(t, "deaf")
	c.ReadLine(t, "ready")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Wait() // its state says more
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for { // the first one that arrives ends the context, the next the process
		if err := c.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-done:
			c.WantSignaled(t, syscall.SIGTERM)
			return
		case <-tick.C:
		}
	}
}

// A panic is flushed before and goes on, with its own stack and exit code 2.
func TestRunPanics(t *testing.T) { // rule 35
	c := StartChild(t, "panic")
	c.ReadLine(t, "exported work")
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 2 {
		t.Errorf("child ended with %v, want exit code 2", c.ProcessState)
	}
	if text := c.Stderr.String(); !strings.Contains(text, "panic: boom") || !strings.Contains(text, "run_test.go") || strings.Contains(text, "recovered") {
		t.Errorf("stderr:\n%s", text)
	}
}

func TestRunReturnsError(t *testing.T) {
	c := StartChild(t, "fail")
	c.ReadLine(t, "exported work")
	if err := c.Wait(); err == nil || !strings.Contains(c.Stderr.String(), "Run: it failed") {
		t.Errorf("child: %v; stderr:\n%s", c.ProcessState, &c.Stderr)
	}
}

// Setup alone handles neither signals nor panics.
func TestSetupLeavesSignalsAndPanicsAlone(t *testing.T) { // rule 35
	t.Run("signal", func(t *testing.T) {
		c := StartChild(t, "setup")
		c.ReadLine(t, "ready")
		c.Signal(t, syscall.SIGTERM)
		_ = c.Wait()
		c.WantSignaled(t, syscall.SIGTERM)
	})
	t.Run("panic", func(t *testing.T) {
		c := StartChild(t, "setup")
		c.ReadLine(t, "ready")
		if _, err := io.WriteString(c.Stdin, "panic\n"); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(c.Stdout)
		if err != nil || len(rest) > 0 {
			t.Errorf("child printed %q (%v), want nothing flushed", rest, err)
		}
		if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 2 {
			t.Errorf("child ended with %v, want exit code 2", c.ProcessState)
		}
	})
}

// Faulty telemetry stops no service, unless it is told to.
func TestRunWithFaultySettings(t *testing.T) {
	var diag DiagLog
	opts := []Option{WithoutGlobals(), Env{"OTEL_TRACES_EXPORTER": "x", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}.Option(), WithDiagnostics(diag.Handler())}
	called := 0
	fn := func(context.Context) error { called++; return nil }
	if err := Run(t.Context(), fn, opts...); err != nil || called != 1 {
		t.Errorf("Run: %v, fn called %d times", err, called)
	}
	if len(diag.Lines(`level=ERROR msg="OTEL_TRACES_EXPORTER=`)) != 1 {
		t.Errorf("reported:\n%s", &diag)
	}
	var ce *ConfigError
	if err := Run(t.Context(), fn, append(opts, WithStrict())...); !errors.As(err, &ce) || called != 1 {
		t.Errorf("strict Run: %v, fn called %d times", err, called)
	}
}

// The end of the caller's own context is fn's business.
func TestRunWithCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, func(ctx context.Context) error { return ctx.Err() }, WithoutGlobals(), quiet(nil).Option())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want %v", err, context.Canceled)
	}
}

// Setup twice: the second handle shares what is live, and ends nothing.
func TestSecondSetup(t *testing.T) { // rule 35
	var diag DiagLog
	opts := []Option{quiet(nil).Option(), WithDiagnostics(diag.Handler()), WithPrometheus(""), WithConsole(&bytes.Buffer{}), WithServiceName("one")}
	first, err := Setup(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Setup(t.Context(), opts...)
	if !errors.Is(err, ErrAlreadySetup) {
		t.Errorf("second Setup: %v", err)
	}
	if second.TracerProvider() != first.TracerProvider() || second.MeterProvider() != first.MeterProvider() || otel.GetTracerProvider() != first.TracerProvider() {
		t.Error("the second handle does not share the first one's providers")
	}
	if err := second.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, span := otel.Tracer("t").Start(t.Context(), "s"); !span.IsRecording() {
		t.Error("the second handle's Shutdown ended the first one's providers")
	}
	if n := strings.Count(scrape(t, first.MetricsHandler(), ""), "\ngo_goroutine_count{"); n != 1 {
		t.Errorf("runtime metrics are there %d times", n)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	third, err := Setup(t.Context(), opts...)
	if err != nil {
		t.Errorf("Setup after Close: %v", err)
	}
	if _, span := third.TracerProvider().Tracer("t").Start(t.Context(), "s"); !span.IsRecording() {
		t.Error("the third set-up does not record")
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}

// Setups at once: one sets up, the others share it.
func TestConcurrentSetups(t *testing.T) { // rule 35
	var fresh atomic.Int64
	handles := make([]*Telemetry, 8)
	var wg sync.WaitGroup
	for i := range handles {
		wg.Go(func() {
			tel, err := Setup(t.Context(), quiet(nil).Option(), WithConsole(&bytes.Buffer{}), WithServiceName("one"))
			if err == nil {
				fresh.Add(1)
			} else if !errors.Is(err, ErrAlreadySetup) {
				t.Error(err)
			}
			handles[i] = tel
		})
	}
	wg.Wait()
	if n := fresh.Load(); n != 1 {
		t.Errorf("%d handles are of their own", n)
	}
	for _, tel := range handles {
		if tel.TracerProvider() != handles[0].TracerProvider() || tel.Logger() != handles[0].Logger() {
			t.Error("two handles have providers of their own")
		}
		if err := tel.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, tel := range handles {
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMustSetupPanics(t *testing.T) {
	defer func() {
		if _, ok := recover().(error); !ok {
			t.Error("no panic with an error")
		}
	}()
	MustSetup(t.Context(), WithoutGlobals(), quiet(Env{"OTEL_LOGS_EXPORTER": "x"}).Option(), WithDiagnostics(slog.DiscardHandler))
}

// WithSlogDefault sets the default logger.
func TestSlogDefault(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	tel, err := Setup(t.Context(), quiet(nil).Option(), WithSlogDefault(), WithServiceName("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	if slog.Default().Handler() != tel.Logger().Handler() {
		t.Error("slog.Default is not the handle's logger")
	}
}
