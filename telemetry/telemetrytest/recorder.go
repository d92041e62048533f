package telemetrytest

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/telemetry"
)

// settle is how long assertions wait for what is still under way.
const settle = 2 * time.Second

// Recorder keeps the telemetry of one test. It is safe for concurrent use.
type Recorder struct {
	tb     testing.TB
	tel    *telemetry.Telemetry
	reader *sdkmetric.ManualReader

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, at each change
	ended   []sdktrace.ReadOnlySpan
	open    map[trace.SpanID]sdktrace.ReadOnlySpan
	logs    []sdklog.Record
}

// New returns a Recorder whose telemetry reads no environment, exports nothing,
// samples everything, records no runtime metrics and leaves OpenTelemetry's
// globals alone; opts are applied after that. The test fails at its end if a
// span was left open or a goroutine that it started still runs.
func New(tb testing.TB, opts ...telemetry.Option) *Recorder {
	tb.Helper()
	r := &Recorder{
		tb:      tb,
		reader:  sdkmetric.NewManualReader(),
		changed: make(chan struct{}),
		open:    map[trace.SpanID]sdktrace.ReadOnlySpan{},
	}
	leaks := watchGoroutines(tb)
	tel, err := telemetry.Setup(context.Background(), append([]telemetry.Option{
		telemetry.WithoutGlobals(),
		telemetry.WithLookupEnv(noExporters),
		telemetry.WithServiceName("test"),
		telemetry.WithRuntimeMetrics(false),
		telemetry.WithSampler(sdktrace.AlwaysSample()),
		telemetry.WithMinLogLevel(-8), // everything: a test asserts on what was logged
		telemetry.WithSpanProcessor((*spanRecorder)(r)),
		telemetry.WithMetricReader(r.reader),
		telemetry.WithLogProcessor((*logRecorder)(r)),
	}, opts...)...)
	r.tel = tel
	if err != nil {
		_ = tel.Close()
		tb.Fatalf("telemetrytest: %v", err)
	}
	tb.Cleanup(func() {
		r.wait(func() bool { return len(r.open) == 0 })
		r.mu.Lock()
		open := slices.Collect(maps.Values(r.open)) // no span ends, for the Recorder, once tel is closed
		r.mu.Unlock()
		for _, s := range open {
			tb.Errorf("telemetrytest: span %q was never ended", s.Name())
		}
		if err := tel.Close(); err != nil {
			tb.Errorf("telemetrytest: closing telemetry: %v", err)
		}
		leaks.check(tb)
	})
	return r
}

// noExporters is the environment of a Recorder.
func noExporters(name string) (string, bool) {
	switch name {
	case "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER":
		return "none", true
	}
	return "", false
}

// Telemetry returns the handle whose telemetry is recorded.
func (r *Recorder) Telemetry() *telemetry.Telemetry { return r.tel }

// Reset forgets the spans and log records so far. Metrics go on: they are
// cumulative.
func (r *Recorder) Reset() {
	r.tb.Helper()
	r.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.logs = nil, nil
}

// change runs f and wakes those who wait.
func (r *Recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait waits until cond, called with r.mu held, is true; for settle at most.
func (r *Recorder) wait(cond func() bool) bool {
	timeout := time.NewTimer(settle)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		}
	}
}

// settled waits until no span is open, and says in the test's log what it did not
// wait for any longer.
func (r *Recorder) settled() {
	r.tb.Helper()
	if r.wait(func() bool { return len(r.open) == 0 }) {
		return
	}
	var open strings.Builder
	for _, s := range r.Open() {
		open.WriteString("\t" + describeSpan(s.ReadOnlySpan) + "\n")
	}
	r.tb.Logf("telemetrytest: waited %v for spans that are still open, and goes on without them; Ended, Open and Collect do not wait:\n%s", settle, open.String())
}

// spanRecorder is the Recorder as a span processor.
type spanRecorder Recorder

func (r *spanRecorder) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	(*Recorder)(r).change(func() { r.open[s.SpanContext().SpanID()] = s })
}

func (r *spanRecorder) OnEnd(s sdktrace.ReadOnlySpan) {
	(*Recorder)(r).change(func() {
		delete(r.open, s.SpanContext().SpanID())
		r.ended = append(r.ended, s)
	})
}

func (*spanRecorder) ForceFlush(context.Context) error { return nil }
func (*spanRecorder) Shutdown(context.Context) error   { return nil }

// logRecorder is the Recorder as a log processor.
type logRecorder Recorder

func (*logRecorder) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (r *logRecorder) OnEmit(_ context.Context, rec *sdklog.Record) error {
	(*Recorder)(r).change(func() { r.logs = append(r.logs, rec.Clone()) })
	return nil
}

func (*logRecorder) ForceFlush(context.Context) error { return nil }
func (*logRecorder) Shutdown(context.Context) error   { return nil }

// Tree renders the ended spans as text, a line each, children indented below
// their parent: name, kind, and "error" where the status is one. It holds no
// ids and no times, and siblings are sorted by their text, so that it compares
// with a golden file.
//
//	users.v1.UserService/GetUser client
//	  users.v1.UserService/GetUser server
//	    SELECT users internal error
func (r *Recorder) Tree() string {
	r.settled()
	r.mu.Lock()
	spans := slices.Clone(r.ended)
	r.mu.Unlock()
	known := map[trace.SpanID]bool{}
	for _, s := range spans {
		known[s.SpanContext().SpanID()] = true
	}
	children := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	for _, s := range spans {
		parent := s.Parent().SpanID()
		if !known[parent] {
			parent = trace.SpanID{}
		}
		children[parent] = append(children[parent], s)
	}
	var render func(id trace.SpanID, indent string) string
	render = func(id trace.SpanID, indent string) string {
		var parts []string
		for _, s := range children[id] {
			line := indent + s.Name() + " " + s.SpanKind().String()
			if s.Status().Code == otelcodes.Error {
				line += " error"
			}
			parts = append(parts, line+"\n"+render(s.SpanContext().SpanID(), indent+"  "))
		}
		slices.Sort(parts)
		return strings.Join(parts, "")
	}
	return render(trace.SpanID{}, "")
}

// listTree is Tree, set off from the failure it is part of.
func (r *Recorder) listTree() string {
	return strings.TrimRight("\t"+strings.ReplaceAll(r.Tree(), "\n", "\n\t"), "\t")
}

// describe renders attributes, sorted by key.
func describe(attrs []attribute.KeyValue) string {
	attrs = slices.Clone(attrs)
	slices.SortFunc(attrs, func(a, b attribute.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
	var parts []string
	for _, kv := range attrs {
		parts = append(parts, string(kv.Key)+"="+kv.Value.String())
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// Logger returns a logger whose records are recorded, and written nowhere.
func (r *Recorder) Logger() *slog.Logger { return slog.New(r.tel.SlogHandler(nil)) }
