package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// The shutdown timeout of the programs below.
const childTimeout = time.Second

func init() {
	telemetry.Programs["load"] = loadProgram
	telemetry.Programs["panic in a handler's process"] = panicProgram
	telemetry.Programs["batch job"] = batchProgram
}

// report is what the program "load" prints at its end.
type report struct {
	Calls       int64
	Spans, Logs int64 // that went to the processors
	Stats       telemetry.Stats
}

// counter counts what the exporters' queues are handed.
type counter struct{ spans, logs atomic.Int64 }

func (*counter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (c *counter) OnEnd(sdktrace.ReadOnlySpan) { c.spans.Add(1) }

func (c *counter) OnEmit(context.Context, *sdklog.Record) error {
	c.logs.Add(1)
	return nil
}

func (*counter) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }
func (*counter) ForceFlush(context.Context) error                       { return nil }
func (*counter) Shutdown(context.Context) error                         { return nil }

// loadProgram is a service, with clients that call it as fast as they can
// until a signal ends it.
func loadProgram() {
	var (
		count counter
		calls atomic.Int64
		tel   *telemetry.Telemetry
	)
	err := telemetry.Run(context.Background(), func(ctx context.Context) error {
		var err error
		if tel, err = telemetry.Setup(ctx); !errors.Is(err, telemetry.ErrAlreadySetup) {
			return fmt.Errorf("Setup within Run: %w", err)
		}
		return serveLoad(ctx, slog.New(tel.SlogHandler(nil)), &calls)
	}, telemetry.WithSpanProcessor(&count), telemetry.WithLogProcessor(&count), telemetry.WithShutdownTimeout(childTimeout))
	if err != nil {
		fmt.Fprintln(os.Stderr, "Run:", err)
		os.Exit(1)
	}
	st := tel.Stats()
	for _, s := range []*telemetry.SignalStats{&st.Traces, &st.Metrics, &st.Logs} {
		s.LastError = nil // has no JSON
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{Calls: calls.Load(), Spans: count.spans.Load(), Logs: count.logs.Load(), Stats: st})
}

func serveLoad(ctx context.Context, logger *slog.Logger, calls *atomic.Int64) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(logger))...)
	testgrpc.RegisterTestServiceServer(server, emptyService{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), append(interceptors.DialOptions(interceptors.WithLogger(logger)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := testgrpc.NewTestServiceClient(conn).EmptyCall(context.Background(), &testgrpc.Empty{}); err != nil {
					fmt.Fprintln(os.Stderr, "call:", err)
				}
				if calls.Add(1) == 3000 {
					fmt.Println("ready")
				}
			}
		})
	}
	wg.Wait()
	server.GracefulStop()
	return errors.Join(<-served, conn.Close())
}

// SIGTERM under load: the service ends in time and with exit code 0, what it
// had queued is delivered if anybody takes it, and every span and log record is
// accounted for.
func TestSIGTERMUnderLoad(t *testing.T) { // rules 33, 34, 35
	for _, mode := range []telemetrytest.Mode{telemetrytest.OK, telemetrytest.Refuse, telemetrytest.Blackhole, telemetrytest.Stall} {
		t.Run(mode.String(), func(t *testing.T) {
			c := telemetrytest.NewCollector(t, mode)
			child := telemetry.StartChild(t, "load", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint(), "OTEL_SERVICE_NAME=child", "OTEL_BSP_SCHEDULE_DELAY=100")
			child.ReadLine(t, "ready")
			start := time.Now()
			child.Signal(t, syscall.SIGTERM)
			var got report
			if err := json.NewDecoder(child.Stdout).Decode(&got); err != nil {
				t.Fatalf("%v; stderr:\n%s", err, &child.Stderr)
			}
			if took := time.Since(start); took > childTimeout+500*time.Millisecond {
				t.Errorf("the end took %s", took)
			}
			if err := child.Wait(); err != nil || strings.Contains(child.Stderr.String(), "call:") {
				t.Errorf("child: %v; stderr:\n%s", err, &child.Stderr)
			}
			if got.Calls < 3000 || got.Spans != 2*got.Calls { // a client's and a server's each
				t.Errorf("%d spans of %d calls", got.Spans, got.Calls)
			}
			for name, of := range map[string]struct {
				emitted int64
				stats   telemetry.SignalStats
			}{"traces": {got.Spans, got.Stats.Traces}, "logs": {got.Logs, got.Stats.Logs}} {
				if st := of.stats; st.Exported+st.Dropped+st.Failed != of.emitted || st.Queued != 0 {
					t.Errorf("%s: %d emitted, stats are %+v", name, of.emitted, st)
				}
			}
			st, lost := got.Stats, strings.Contains(child.Stderr.String(), "telemetry: data lost: ")
			if mode == telemetrytest.OK {
				if n := int64(len(c.Spans())); n != st.Traces.Exported || st.Traces.Failed+st.Logs.Failed+st.Metrics.Failed != 0 || lost {
					t.Errorf("received %d spans; stats are %+v; stderr:\n%s", n, st, &child.Stderr)
				}
			} else if st.Traces.Exported+st.Logs.Exported+st.Metrics.Exported != 0 || !lost {
				t.Errorf("stats are %+v; stderr:\n%s", st, &child.Stderr)
			}
		})
	}
}

// panicProgram panics with telemetry still queued.
func panicProgram() {
	_ = telemetry.Run(context.Background(), func(ctx context.Context) error {
		tel, _ := telemetry.Setup(ctx)
		ctx, span := otel.Tracer("child").Start(ctx, "work")
		slog.New(tel.SlogHandler(nil)).InfoContext(ctx, "done")
		span.End()
		panic("boom")
	}, telemetry.WithShutdownTimeout(childTimeout))
}

// A panic: what was queued is flushed, within the time, before the process ends
// with its own stack and exit code 2.
func TestPanicUnderRun(t *testing.T) { // rule 35
	for _, mode := range []telemetrytest.Mode{telemetrytest.OK, telemetrytest.Blackhole} {
		t.Run(mode.String(), func(t *testing.T) {
			c := telemetrytest.NewCollector(t, mode)
			start := time.Now()
			child := telemetry.StartChild(t, "panic in a handler's process", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint(), "OTEL_SERVICE_NAME=child")
			_ = child.Wait()
			if took := time.Since(start); took > 2*time.Second+childTimeout+500*time.Millisecond { // two to start the process
				t.Errorf("the end took %s", took)
			}
			if code := child.ProcessState.ExitCode(); code != 2 || !strings.Contains(child.Stderr.String(), "panic: boom") || !strings.Contains(child.Stderr.String(), "telemetry_test.panicProgram") {
				t.Errorf("exit code %d; stderr:\n%s", code, &child.Stderr)
			}
			if mode == telemetrytest.OK && (len(c.Spans()) != 1 || len(c.Logs()) != 1 || len(c.Metrics()) == 0) {
				t.Errorf("received %d spans, %d log records, %d metrics", len(c.Spans()), len(c.Logs()), len(c.Metrics()))
			}
			if lost := strings.Contains(child.Stderr.String(), "telemetry: data lost: 1 spans"); lost != (mode != telemetrytest.OK) {
				t.Errorf("lost: %t; stderr:\n%s", lost, &child.Stderr)
			}
		})
	}
}

// batchProgram ends by itself, with telemetry that nobody takes.
func batchProgram() {
	err := telemetry.Run(context.Background(), func(ctx context.Context) error {
		_, span := otel.Tracer("child").Start(ctx, "work")
		span.End()
		fmt.Println("flushing")
		return nil
	}, telemetry.WithShutdownTimeout(time.Minute))
	if err != nil {
		os.Exit(1)
	}
}

// The first signal finds the last flush under way, and does not break it off;
// the second one ends the process at once.
func TestSignalsDuringTheLastFlush(t *testing.T) { // rule 35
	for name, signals := range map[string]int{"one": 1, "two": 2} {
		t.Run(name, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.Stall)
			child := telemetry.StartChild(t, "batch job", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint(), "OTEL_SERVICE_NAME=child", "OTEL_METRICS_EXPORTER=none")
			child.ReadLine(t, "flushing")
			c.WaitFor("the flush", func() bool { return c.Stalled() > 0 })
			child.Signal(t, syscall.SIGTERM)
			if signals == 1 {
				c.SetMode(telemetrytest.OK) // what is stalled is answered UNAVAILABLE, and tried again
				if err := child.Wait(); err != nil {
					t.Errorf("child: %v; stderr:\n%s", err, &child.Stderr)
				}
				return
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = child.Wait() }()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ended := false; !ended; {
				if err := child.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				select {
				case <-done:
					ended = true
				case <-tick.C:
				}
			}
			child.WantSignaled(t, syscall.SIGTERM)
		})
	}
}
