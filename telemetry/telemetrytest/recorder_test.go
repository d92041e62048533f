package telemetrytest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTB records failures instead of failing.
type fakeTB struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	logged   []string
	cleanups []func()
}

func (f *fakeTB) Helper()          {}
func (f *fakeTB) Name() string     { return "Fake" }
func (f *fakeTB) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logged = append(f.logged, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// failuresOf runs test with a fake testing.TB, cleanups included.
func failuresOf(t *testing.T, test func(tb testing.TB)) []string {
	t.Helper()
	fake := &fakeTB{TB: t}
	run := func(f func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		<-done
	}
	run(func() { test(fake) })
	for i := len(fake.cleanups) - 1; i >= 0; i-- {
		run(fake.cleanups[i])
	}
	return fake.failures
}

func work(ctx context.Context, rec *Recorder) {
	tracer := rec.Telemetry().TracerProvider().Tracer("t")
	ctx, parent := tracer.Start(ctx, "parent", trace.WithSpanKind(trace.SpanKindClient))
	_, child := tracer.Start(ctx, "child", trace.WithAttributes(attribute.String("k", "v"), attribute.Int("n", 1)))
	child.AddEvent("happened")
	child.SetStatus(otelcodes.Error, "broke")
	child.End()
	rec.Logger().InfoContext(ctx, "hello", "who", "world")
	parent.End()
	meter := rec.Telemetry().MeterProvider().Meter("t")
	counter, _ := meter.Int64Counter("calls")
	counter.Add(ctx, 2, metric.WithAttributes(attribute.String("m", "a")))
	counter.Add(ctx, 3, metric.WithAttributes(attribute.String("m", "b")))
	gauge, _ := meter.Float64Gauge("level")
	gauge.Record(ctx, 1.5)
	histogram, _ := meter.Float64Histogram("seconds")
	histogram.Record(ctx, 0.25, metric.WithAttributes(attribute.String("m", "a")))
	histogram.Record(ctx, 0.5, metric.WithAttributes(attribute.String("m", "a")))
}

func TestAssertionsPass(t *testing.T) {
	rec := New(t)
	work(t.Context(), rec)
	parent := rec.Spans().Kind(trace.SpanKindClient).One().Root().Status(otelcodes.Unset)
	child := rec.Spans().Named("child").With(attribute.Int("n", 1)).One().
		Has(attribute.String("k", "v")).
		HasExactly(attribute.Int("n", 1), attribute.String("k", "v")).
		Lacks("other").Status(otelcodes.Error).ChildOf(parent)
	if e := child.Event("happened"); e.Name != "happened" {
		t.Errorf("event is %v", e)
	}
	if v := child.Attr("k"); v.AsString() != "v" {
		t.Errorf("attribute k is %v", v)
	}
	if n := rec.Spans().Len(); n != 2 {
		t.Errorf("recorded %d spans, want 2", n)
	}
	rec.Logs().Message("hello").With(attribute.String("who", "world")).One().Has(attribute.String("who", "world")).Lacks("trace_id").Of(parent)

	a := attribute.String("m", "a")
	calls := rec.Metric("calls").Exists()
	if calls.Counter() != 5 || calls.Counter(a) != 2 || calls.Counter(attribute.String("m", "c")) != 0 {
		t.Errorf("counters are %d, %d, %d", calls.Counter(), calls.Counter(a), calls.Counter(attribute.String("m", "c")))
	}
	if sets := calls.Attributes(); len(sets) != 2 || !sets[0].HasValue("m") {
		t.Errorf("attribute sets are %v", sets)
	}
	if got := rec.Metric("level").Gauge(); got != 1.5 {
		t.Errorf("gauge is %v", got)
	}
	h := rec.Metric("seconds")
	if h.HistogramCount(a) != 2 || h.HistogramSum() != 0.75 {
		t.Errorf("histogram has %d, %v", h.HistogramCount(a), h.HistogramSum())
	}
	if e := h.Exemplars(a); len(e) != 1 && len(e) != 2 || e[0].TraceID != parent.SpanContext().TraceID().String() {
		t.Errorf("exemplars are %v", e)
	}
	if n := rec.Metric("absent").Counter(); n != 0 {
		t.Errorf("an absent counter is %d", n)
	}
	if diff := cmp.Diff("parent client\n  child internal error\n", rec.Tree()); diff != "" {
		t.Errorf("tree, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff("recorded:\n\tseconds histogram {m=a} 2 of sum 0.75\n", h.String()); diff != "" {
		t.Errorf("histogram, -want +got:\n%s", diff)
	}
	for _, sm := range rec.Collect().ScopeMetrics {
		if len(sm.Metrics) != 3 {
			t.Errorf("collected %v", sm.Metrics)
		}
	}
	rec.Reset()
	if rec.Spans().Len()+rec.Logs().Len() != 0 || rec.Tree() != "" {
		t.Error("Reset forgot nothing")
	}
}

// A failed assertion stops the test and lists what was recorded.
func TestAssertionsFail(t *testing.T) {
	const child = `child internal {k=v n=1} Error "broke" event happened`
	tests := []struct {
		name   string
		assert func(*Recorder)
		want   []string
	}{
		{"One of none", func(r *Recorder) { r.Spans().Named("absent").One() }, []string{`got 0 spans named "absent", want 1; recorded:`, "parent client {}", child}},
		{"One of many", func(r *Recorder) { r.Spans().One() }, []string{"got 2 spans", child}},
		{"Has", func(r *Recorder) { r.Spans().Named("child").One().Has(attribute.String("k", "w")) }, []string{"span lacks {k=w}; it is:", child}},
		{"HasExactly", func(r *Recorder) { r.Spans().Named("child").One().HasExactly(attribute.String("k", "v")) }, []string{"span lacks {} and has {n=1} too many", child}},
		{"Lacks", func(r *Recorder) { r.Spans().Named("child").One().Lacks("n") }, []string{"span has {n=1}", child}},
		{"Status", func(r *Recorder) { r.Spans().Named("child").One().Status(otelcodes.Ok) }, []string{"span status is Error, want Ok", child}},
		{"ChildOf", func(r *Recorder) { r.Spans().Named("parent").One().ChildOf(r.Spans().Named("child").One()) }, []string{`span "parent"`, `is no child of "child"`, "parent client\n\t  child internal error"}},
		{"Root", func(r *Recorder) { r.Spans().Named("child").One().Root() }, []string{`span "child" has a parent`, "parent client\n\t  child internal error"}},
		{"Event", func(r *Recorder) { r.Spans().Named("child").One().Event("absent") }, []string{`span has no event "absent"`, child}},
		{"log One", func(r *Recorder) { r.Logs().Message("absent").One() }, []string{`got 0 log records with message "absent", want 1`, "INFO hello {who=world}"}},
		{"log Has", func(r *Recorder) { r.Logs().One().Has(attribute.Int("x", 1)) }, []string{"log record lacks {x=1}", "INFO hello"}},
		{"log Lacks", func(r *Recorder) { r.Logs().One().Lacks("who") }, []string{"log record has {who=world}"}},
		{"log Of", func(r *Recorder) { r.Logs().One().Of(r.Spans().Named("child").One()) }, []string{`is not of span "child"`}},
		{"metric Exists", func(r *Recorder) { r.Metric("absent").Exists() }, []string{"nothing was recorded for metric absent; recorded: calls, level, seconds"}},
		{"metric kind", func(r *Recorder) { r.Metric("calls").HistogramCount() }, []string{"metric calls is a counter, not a histogram; recorded:", "calls counter {m=a} 2", "calls counter {m=b} 3"}},
		{"gauge of none", func(r *Recorder) { r.Metric("level").Gauge(attribute.Int("x", 1)) }, []string{"metric level has 0 data points with {x=1}, want 1; recorded:", "level gauge {} 1.5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			failures := failuresOf(t, func(tb testing.TB) {
				rec := New(tb)
				work(context.Background(), rec)
				tt.assert(rec)
				tb.Errorf("went on")
			})
			if len(failures) != 1 {
				t.Fatalf("failures are %q", failures)
			}
			for _, want := range tt.want {
				if !strings.Contains(failures[0], want) {
					t.Errorf("failure is\n%s\nwant in it: %s", failures[0], want)
				}
			}
		})
	}
}

// Recorders of tests that run side by side know nothing of each other: neither
// telemetry nor open spans nor goroutines.
func TestParallel(t *testing.T) {
	for i := range 20 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			rec := New(t)
			ctx, root := rec.Telemetry().TracerProvider().Tracer("t").Start(t.Context(), "root "+t.Name())
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { work(ctx, rec) })
			}
			if open := rec.Open(); !slices.ContainsFunc(open, func(s Span) bool { return s.Name() == "root "+t.Name() }) {
				t.Errorf("open are %v", open)
			}
			wg.Wait()
			if n := len(rec.Spans().Named("child").Ended()); n != 10 {
				t.Errorf("%d children have ended, want 10", n)
			}
			root.End()
			want := "root " + t.Name() + " internal\n" + strings.Repeat("  parent client\n    child internal error\n", 10)
			if diff := cmp.Diff(want, rec.Tree()); diff != "" {
				t.Errorf("tree, -want +got:\n%s", diff)
			}
			if n, logged := rec.Metric("calls").Counter(), rec.Logs().Len(); n != 50 || logged != 10 {
				t.Errorf("counted %d and logged %d, want 50 and 10; %s", n, logged, rec.Metric("calls"))
			}
		})
	}
}

// A goroutine is the failure of the test that started it, and of no other,
// whoever else runs beside and however deep it was started.
func TestLeakIsFoundAmongParallelTests(t *testing.T) {
	const tests = 5
	stop, all := make(chan struct{}), make(chan struct{})
	defer close(stop)
	var begun atomic.Int32
	var wg sync.WaitGroup
	for i := range tests {
		wg.Go(func() {
			failures := failuresOf(t, func(tb testing.TB) {
				rec := New(tb)
				if i == 0 {
					go func() { go func() { <-stop }() }()
				}
				if begun.Add(1) == tests {
					close(all)
				}
				<-all // they run side by side
				work(context.Background(), rec)
			})
			if got := len(failures); (got == 1) != (i == 0) || got > 1 {
				t.Errorf("failures of %d are %q", i, failures)
			}
		})
	}
	wg.Wait()
}

// Spans and goroutines that outlive the test are failures of it, and of no
// other that runs beside.
func TestLeaks(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	failures := failuresOf(t, func(tb testing.TB) {
		rec := New(tb)
		other := failuresOf(t, func(tb testing.TB) { New(tb) })
		if len(other) > 0 {
			t.Errorf("a clean test failed: %q", other)
		}
		_, _ = rec.Telemetry().TracerProvider().Tracer("t").Start(context.Background(), "open end")
	})
	if len(failures) != 1 || !strings.Contains(failures[0], `span "open end" was never ended`) {
		t.Errorf("failures are %q", failures)
	}
	failures = failuresOf(t, func(tb testing.TB) {
		New(tb)
		go func() { <-stop }()
	})
	if len(failures) != 1 || !strings.Contains(failures[0], "a goroutine that the test started still runs") || !strings.Contains(failures[0], "TestLeaks") {
		t.Errorf("failures are %q", failures)
	}
}

// One waits for a span that is still open.
func TestOneWaits(t *testing.T) {
	rec := New(t)
	_, span := rec.Telemetry().TracerProvider().Tracer("t").Start(t.Context(), "slow")
	var wg sync.WaitGroup
	wg.Go(func() { span.End() })
	rec.Spans().Named("slow").One()
	wg.Wait()
}

// Nothing of a Recorder is global, and no environment reaches it.
func TestHermetic(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	t.Setenv("OTEL_SERVICE_NAME", "intruder")
	before := otel.GetTracerProvider()
	rec := New(t, telemetry.WithServiceName("mine"))
	if otel.GetTracerProvider() != before {
		t.Error("the global tracer provider was replaced")
	}
	work(t.Context(), rec)
	span := rec.Spans().Named("child").One()
	if name, _ := span.Resource().Set().Value("service.name"); name.AsString() != "mine" {
		t.Errorf("service.name is %s", name.AsString())
	}
}

// New fails a test whose options make no sense.
func TestNewFails(t *testing.T) {
	failures := failuresOf(t, func(tb testing.TB) {
		New(tb, telemetry.WithLookupEnv(func(name string) (string, bool) { return "nonsense", name == "OTEL_TRACES_EXPORTER" }),
			telemetry.WithDiagnostics(nil), telemetry.WithoutMetrics(), telemetry.WithoutLogs())
	})
	if len(failures) != 1 || !strings.Contains(failures[0], `OTEL_TRACES_EXPORTER="nonsense"`) {
		t.Errorf("failures are %q", failures)
	}
}

// A span that stays open is missing, after a while, and the test's log says why.
func TestOpenSpanIsSaid(t *testing.T) {
	var fake *fakeTB
	failures := failuresOf(t, func(tb testing.TB) {
		fake = tb.(*fakeTB)
		rec := New(tb)
		_, span := rec.Telemetry().TracerProvider().Tracer("t").Start(t.Context(), "stream")
		if n := rec.Spans().Len(); n != 0 {
			t.Errorf("%d spans have ended, want none", n)
		}
		span.End()
		if n := rec.Spans().Len(); n != 1 {
			t.Errorf("%d spans have ended, want 1", n)
		}
	})
	want := []string{"telemetrytest: waited 2s for spans that are still open, and goes on without them; Ended, Open and Collect do not wait:\n\tstream internal {}\n"}
	if diff := cmp.Diff(want, fake.logged); diff != "" || len(failures) > 0 {
		t.Errorf("failures: %q; logged (-want +got):\n%s", failures, diff)
	}
}
