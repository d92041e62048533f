package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// refused stands for a machine on which nothing listens on the default port.
var refused = telemetry.WithGRPCDialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
	return nil, syscall.ECONNREFUSED
}))

// within fails the test if f takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s, want at most %s", what, took, limit)
	}
}

// Zero configuration, and nothing listens: one INFO line for all signals, no
// time lost, no error.
func TestNoCollector(t *testing.T) { // rules 30, 33
	leaks := goleak.IgnoreCurrent()
	var diag telemetry.DiagLog
	var tel *telemetry.Telemetry
	within(t, 100*time.Millisecond, "Setup", func() {
		tel = setup(t, nil, refused, telemetry.WithDiagnostics(diag.Handler()))
	})
	for range 3 {
		emit(t, tel)
	}
	within(t, time.Second, "Close", func() {
		if err := tel.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if got := diag.Lines(""); len(got) != 1 || !strings.HasPrefix(got[0], `level=INFO msg="no collector at http://localhost:4317, the default;`) {
		t.Errorf("reported %q", got)
	}
	if st := tel.Stats(); st.Traces.Failed != 3 || st.Traces.State != telemetry.StateFailing || st.Traces.LastError == nil {
		t.Errorf("stats are %+v", st)
	}
	goleak.VerifyNone(t, leaks)
}

// A configured collector that is in trouble: nothing waits for it but Shutdown,
// and that only until its deadline; the loss is reported; nothing is left behind.
func TestCollectorInTrouble(t *testing.T) { // rules 33, 34
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		for _, mode := range []telemetrytest.Mode{telemetrytest.Refuse, telemetrytest.Blackhole, telemetrytest.Stall, telemetrytest.Unavailable} {
			t.Run(protocol+"/"+mode.String(), func(t *testing.T) {
				c := telemetrytest.NewCollector(t, mode)
				leaks := goleak.IgnoreCurrent()
				var diag telemetry.DiagLog
				var tel *telemetry.Telemetry
				within(t, 100*time.Millisecond, "Setup", func() {
					tel = setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithProtocol(protocol), telemetry.WithDiagnostics(diag.Handler()))
				})
				tracer := tel.TracerProvider().Tracer("test")
				within(t, time.Second, "ending 5000 spans", func() {
					for range 5000 {
						_, span := tracer.Start(t.Context(), "work")
						span.End()
					}
				})
				const deadline = 300 * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				within(t, deadline+500*time.Millisecond, "Shutdown", func() {
					if err := tel.Shutdown(ctx); !errors.Is(err, telemetry.ErrDataLost) {
						t.Errorf("Shutdown: %v, want ErrDataLost", err)
					}
				})
				if got := diag.Lines("level=WARN msg=\"cannot deliver telemetry to " + c.Endpoint()); len(got) != 1 {
					t.Errorf("reported %q", diag.Lines(""))
				}
				if got := diag.Lines("the queue of traces is full"); len(got) != 1 {
					t.Errorf("dropping was reported %d times, want once", len(got))
				}
				st := tel.Stats().Traces
				if st.Dropped == 0 || st.Dropped+st.Failed+int64(st.Queued) != 5000 || st.Exported != 0 || st.Queued != 0 {
					t.Errorf("stats are %+v, want 5000 spans in all", st)
				}
				c.SetMode(telemetrytest.Refuse) // its own goroutines
				goleak.VerifyNone(t, leaks)
			})
		}
	}
}

// An expired context still releases everything.
func TestShutdownWithExpiredContext(t *testing.T) { // rule 34
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	leaks := goleak.IgnoreCurrent()
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithPrometheus("127.0.0.1:0"))
	emit(t, tel)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, 500*time.Millisecond, "Shutdown", func() {
		if err := tel.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v, want the context's error", err)
		}
	})
	c.SetMode(telemetrytest.Refuse)
	goleak.VerifyNone(t, leaks)
}

// The same with nothing that answers: what was lost is said, and counted.
func TestShutdownWithExpiredContextCountsTheLoss(t *testing.T) { // rule 34
	c := telemetrytest.NewCollector(t, telemetrytest.Blackhole)
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()))
	for range 600 {
		emit(t, tel)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, 500*time.Millisecond, "Shutdown", func() {
		err := tel.Shutdown(ctx)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, telemetry.ErrDataLost) {
			t.Errorf("Shutdown: %v, want the context's error and ErrDataLost", err)
		}
		for _, want := range []string{"600 spans", "the last metrics", "600 log records"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Shutdown: %v, want %s in it", err, want)
			}
		}
	})
	if st := tel.Stats(); st.Traces.Failed != 600 || st.Logs.Failed != 600 || st.Traces.Queued+st.Logs.Queued != 0 {
		t.Errorf("stats are %+v", st)
	}
}

// A second Shutdown returns what the first did, and does not wait longer than
// its own context says.
func TestShutdownTwice(t *testing.T) { // rule 34
	c := telemetrytest.NewCollector(t, telemetrytest.Blackhole)
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()))
	emit(t, tel)
	first := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	go func() { first <- tel.Shutdown(ctx) }()
	waitFor(t, "the first Shutdown", tel.Closing)
	short, cancelShort := context.WithCancel(t.Context())
	cancelShort()
	within(t, 500*time.Millisecond, "the second Shutdown", func() {
		if err := tel.Shutdown(short); !errors.Is(err, context.Canceled) {
			t.Errorf("the second Shutdown: %v", err)
		}
	})
	want := <-first
	if !errors.Is(want, telemetry.ErrDataLost) {
		t.Errorf("the first Shutdown: %v", want)
	}
	if err := tel.Shutdown(short); err == nil || err.Error() != want.Error() {
		t.Errorf("the third Shutdown: %v, want %v", err, want)
	}
	if err := tel.ForceFlush(t.Context()); err != nil {
		t.Errorf("ForceFlush afterwards: %v", err)
	}
}

// wedgedConn is a connection whose network has died: from some time on what is
// written is not taken, and nobody says so.
type wedgedConn struct {
	net.Conn
	stuck  <-chan struct{} // closed at that time
	closed chan struct{}
	once   sync.Once
}

func (c *wedgedConn) Write(b []byte) (int, error) {
	select {
	case <-c.stuck:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Write(b)
	}
}

func (c *wedgedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A connection that takes no more bytes, which gRPC would wait for to close
// for 5 seconds, is closed at the deadline.
func TestShutdownOfWedgedConnection(t *testing.T) { // rule 34
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	leaks := goleak.IgnoreCurrent()
	stuck := make(chan struct{})
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithGRPCDialOptions(grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &wedgedConn{Conn: conn, stuck: stuck, closed: make(chan struct{})}, nil
	})))
	emit(t, tel)
	if err := tel.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stuck)
	for range 100 {
		emit(t, tel)
	}
	const deadline = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	within(t, deadline+500*time.Millisecond, "Shutdown", func() {
		if err := tel.Shutdown(ctx); !errors.Is(err, telemetry.ErrDataLost) {
			t.Errorf("Shutdown: %v, want ErrDataLost", err)
		}
	})
	c.SetMode(telemetrytest.Refuse)
	goleak.VerifyNone(t, leaks)
}

// One signal's dead endpoint takes nothing from the others.
func TestDeadTracesDoNotCostMetrics(t *testing.T) { // rule 34
	dead, alive := telemetrytest.NewCollector(t, telemetrytest.Blackhole), telemetrytest.NewCollector(t, telemetrytest.OK)
	tel := setup(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":        alive.Endpoint(),
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": dead.Endpoint(),
	}, telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()))
	emit(t, tel)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := tel.Shutdown(ctx)
	if !errors.Is(err, telemetry.ErrDataLost) || !strings.Contains(err.Error(), "1 spans") || strings.Contains(err.Error(), "data points") {
		t.Errorf("Shutdown: %v, want one span lost and nothing else", err)
	}
	alive.WaitForMetric("things")
	alive.WaitForLog("done")
}

// A collector that comes late, or back, gets what was queued; one line says so.
func TestLateCollector(t *testing.T) { // rule 33
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.Refuse)
			var diag telemetry.DiagLog
			tel := setup(t, map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "10"}, telemetry.WithEndpoint(c.Endpoint()),
				telemetry.WithProtocol(protocol), telemetry.WithoutMetrics(), telemetry.WithoutLogs(), telemetry.WithDiagnostics(diag.Handler()))
			_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "early")
			span.End()
			waitFor(t, "the report of trouble", func() bool { return len(diag.Lines("cannot deliver")) == 1 })
			c.SetMode(telemetrytest.OK)
			c.WaitForSpan("early")
			waitFor(t, "the report of recovery", func() bool { return len(diag.Lines("delivered again")) == 1 })
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if got := diag.Lines(""); len(got) != 2 {
				t.Errorf("reported %q, want two lines", got)
			}
		})
	}
}

// A back end that takes traces only: one warning for each other signal, no loss.
func TestTracesOnly(t *testing.T) { // rule 33
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.TracesOnly)
			var diag telemetry.DiagLog
			tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithProtocol(protocol), telemetry.WithDiagnostics(diag.Handler()))
			for range 3 {
				emit(t, tel)
				if err := tel.ForceFlush(t.Context()); err != nil {
					t.Errorf("ForceFlush: %v", err)
				}
			}
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if n := len(c.Spans()); n != 3 {
				t.Errorf("received %d spans, want 3", n)
			}
			for _, signal := range []string{"metrics", "logs"} {
				if got := diag.Lines("does not take " + signal); len(got) != 1 {
					t.Errorf("%s: reported %q, want one line", signal, got)
				}
			}
			if got := diag.Lines(""); len(got) != 2 {
				t.Errorf("reported %q, want two lines", got)
			}
			if st := tel.Stats(); st.Traces.State != telemetry.StateOK || st.Logs.State != telemetry.StateUnsupported || st.Logs.Failed != 3 {
				t.Errorf("stats are %+v", st)
			}
		})
	}
}

// Several exporters of a signal are stopped side by side as well.
func TestShutdownOfManyExporters(t *testing.T) { // rule 34
	block := func() *blockingExporter { return &blockingExporter{} }
	a, b := block(), block()
	tel := setup(t, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, telemetry.WithSpanExporter(a), telemetry.WithSpanExporter(b),
		telemetry.WithoutMetrics(), telemetry.WithoutLogs(), telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()))
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "work")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	within(t, 600*time.Millisecond, "Shutdown", func() { _ = tel.Shutdown(ctx) })
	for i, e := range []*blockingExporter{a, b} {
		if e.started.IsZero() || e.started.After(time.Now().Add(-100*time.Millisecond)) {
			t.Errorf("exporter %d was called at %s", i, e.started)
		}
	}
}

// deafExporter does not heed its context; it returns when released.
type deafExporter struct{ release chan struct{} }

func (e *deafExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	<-e.release
	return nil
}

func (*deafExporter) Shutdown(context.Context) error { return nil }

// Neither an exporter of the user's that does not heed its context, nor a scrape
// that is not read, nor a reader that hangs holds Shutdown up.
func TestShutdownDoesNotWaitForTheDeaf(t *testing.T) { // rule 34
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	e := &deafExporter{make(chan struct{})}
	defer close(e.release)
	hanging := sdkmetric.NewPeriodicReader(deafMetrics{release: e.release}, sdkmetric.WithInterval(time.Hour))
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithSpanExporter(e), telemetry.WithMetricReader(hanging), telemetry.WithPrometheus("127.0.0.1:0"))
	emit(t, tel)
	const deadline = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	within(t, deadline+500*time.Millisecond, "Shutdown", func() {
		if err := tel.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
	})
	// Those beside them have had all of the time.
	c.WaitForSpan("work")
	c.WaitForLog("done")
	c.WaitForMetric("things")
}

// deafMetrics is a metric exporter that does not heed its context either.
type deafMetrics struct {
	sdkmetric.Exporter
	release chan struct{}
}

func (deafMetrics) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.DefaultTemporalitySelector(k)
}

func (deafMetrics) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

func (e deafMetrics) Export(context.Context, *metricdata.ResourceMetrics) error {
	<-e.release
	return nil
}

func (deafMetrics) ForceFlush(context.Context) error { return nil }
func (deafMetrics) Shutdown(context.Context) error   { return nil }

// Neither a name that nobody knows, nor an address that swallows packets, nor a
// context that has ended keeps Setup.
func TestSetupDoesNotWait(t *testing.T) { // rule 33
	for _, endpoint := range []string{"http://no-such-host.invalid:4317", "http://no-such-host.invalid:4318", "https://192.0.2.1:4317", "http://192.0.2.1:4318"} {
		t.Run(endpoint, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			within(t, 100*time.Millisecond, "Setup", func() {
				tel, err := telemetry.Setup(ctx, telemetry.WithoutGlobals(), telemetry.Env{}.Option(), telemetry.WithEndpoint(endpoint),
					telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()))
				if err != nil {
					t.Error(err)
				}
				defer func() { _ = tel.Shutdown(ctx) }()
				if st := tel.Stats(); st.Traces.State != telemetry.StateIdle || st.Metrics.State != telemetry.StateIdle || st.Logs.State != telemetry.StateIdle {
					t.Errorf("stats are %+v", st)
				}
			})
			goleak.VerifyNone(t, leaks)
		})
	}
}

// What fails to be set up is off; the rest delivers.
func TestPartialFailure(t *testing.T) { // rule 32
	tests := []struct {
		signal, variable, value string
	}{
		{"traces", "OTEL_TRACES_EXPORTER", "jaeger"},
		{"traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector:21"},
		{"metrics", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4317"},
		{"logs", "OTEL_LOGS_EXPORTER", "syslog"},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			leaks := goleak.IgnoreCurrent()
			env := telemetry.Env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), tt.variable: tt.value}
			tel, err := telemetry.Setup(t.Context(), telemetry.WithoutGlobals(), env.Option(), telemetry.WithServiceName("svc"),
				telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()))
			var ce *telemetry.ConfigError
			if !errors.As(err, &ce) || ce.Signal != tt.signal || ce.Source != tt.variable || ce.Value != tt.value {
				t.Errorf("Setup: %v, want a ConfigError of %s", err, tt.variable)
			}
			emit(t, tel)
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			got := map[string]bool{"traces": len(c.Spans()) > 0, "metrics": len(c.Metrics()) > 0, "logs": len(c.Logs()) > 0}
			want := map[string]bool{"traces": true, "metrics": true, "logs": true}
			want[tt.signal] = false
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("delivered, -want +got:\n%s", diff)
			}
			st := tel.Stats()
			off := map[string]bool{"traces": st.Traces.State == telemetry.StateOff, "metrics": st.Metrics.State == telemetry.StateOff, "logs": st.Logs.State == telemetry.StateOff}
			if !off[tt.signal] || off["traces"] && off["metrics"] || off["metrics"] && off["logs"] {
				t.Errorf("off are %v", off)
			}
			c.SetMode(telemetrytest.Refuse)
			goleak.VerifyNone(t, leaks)
		})
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint("waited 10 s for ", what))
		}
	}
}
