package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// setup is Setup for tests: no globals, and an error or a late Close is fatal.
func setup(t *testing.T, env map[string]string, opts ...telemetry.Option) *telemetry.Telemetry {
	t.Helper()
	all := append([]telemetry.Option{
		telemetry.WithoutGlobals(),
		telemetry.WithLookupEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok }),
		telemetry.WithServiceName("svc"),
		telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()),
	}, opts...)
	tel, err := telemetry.Setup(t.Context(), all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Close() })
	return tel
}

// emit makes one span, one measurement and one log record.
func emit(t *testing.T, tel *telemetry.Telemetry) {
	t.Helper()
	ctx, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "work")
	counter, err := tel.MeterProvider().Meter("test").Int64Counter("things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 3, metric.WithAttributes(attribute.String("k", "v")))
	handler := tel.SlogHandler(nil)
	if err := handler.Handle(ctx, record("done")); err != nil {
		t.Fatal(err)
	}
	span.End()
}

// Both protocols, every signal, from environment variables alone.
func TestOTLPDeliversAllSignals(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(protocol+"/"+compression, func(t *testing.T) {
				c := telemetrytest.NewCollector(t, telemetrytest.OK)
				tel := setup(t, map[string]string{
					"OTEL_EXPORTER_OTLP_ENDPOINT":    c.Endpoint(),
					"OTEL_EXPORTER_OTLP_PROTOCOL":    protocol,
					"OTEL_EXPORTER_OTLP_COMPRESSION": compression,
					"OTEL_EXPORTER_OTLP_HEADERS":     "x-api-key=s3cret%21",
				})
				emit(t, tel)
				if err := tel.ForceFlush(t.Context()); err != nil {
					t.Fatal(err)
				}
				span := c.WaitForSpan("work")
				log := c.WaitForLog("done")
				counted := c.WaitForMetric("things")
				if string(log.GetTraceId()) != string(span.GetTraceId()) || string(log.GetSpanId()) != string(span.GetSpanId()) {
					t.Errorf("log record is of trace %x, span %x; want %x, %x", log.GetTraceId(), log.GetSpanId(), span.GetTraceId(), span.GetSpanId())
				}
				if got := counted.GetSum().GetDataPoints()[0].GetAsInt(); got != 3 {
					t.Errorf("counter is %d, want 3", got)
				}
				for _, got := range []string{span.Service(), log.Service(), counted.Service()} {
					if got != "svc" {
						t.Errorf("service.name is %q, want svc", got)
					}
				}
				for _, signal := range []string{"traces", "metrics", "logs"} {
					if got := c.Header(signal).Get("X-Api-Key"); got != "s3cret!" {
						t.Errorf("%s: header x-api-key is %q, want s3cret!", signal, got)
					}
				}
				if err := tel.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				if st := tel.Stats(); st.Traces.Exported != 1 || st.Logs.Exported != 1 || st.Metrics.Exported == 0 || st.Traces.Failed+st.Logs.Failed+st.Metrics.Failed != 0 {
					t.Errorf("stats are %+v", st)
				}
			})
		}
	}
}

// What is queued when Shutdown is called still arrives.
func TestShutdownFlushes(t *testing.T) {
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()))
	emit(t, tel)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if len(c.Spans()) != 1 || len(c.Logs()) != 1 || len(c.Metrics()) == 0 {
		t.Errorf("received %d spans, %d log records, %d metrics", len(c.Spans()), len(c.Logs()), len(c.Metrics()))
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("a second Shutdown: %v", err)
	}
}

// Exponential histograms over OTLP, views, and signals that are off.
func TestMetricOptions(t *testing.T) { // rule 37
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	drop := sdkmetric.NewView(sdkmetric.Instrument{Name: "unwanted"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})
	tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}, telemetry.WithEndpoint(c.Endpoint()),
		telemetry.WithExponentialHistograms(), telemetry.WithView(drop), telemetry.WithoutTraces(), telemetry.WithoutLogs())
	meter := tel.MeterProvider().Meter("test")
	for _, name := range []string{"wanted", "unwanted"} {
		h, err := meter.Float64Histogram(name)
		if err != nil {
			t.Fatal(err)
		}
		h.Record(t.Context(), 1)
	}
	emit(t, tel)
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	exponential := c.WaitForMetric("wanted").GetExponentialHistogram()
	if len(exponential.GetDataPoints()) != 1 || exponential.GetAggregationTemporality() != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA {
		t.Errorf("got %v", exponential)
	}
	c.WaitForMetric("go.goroutine.count")
	for _, m := range c.Metrics() {
		if m.GetName() == "unwanted" {
			t.Error("the view does not hold")
		}
	}
	if len(c.Spans())+len(c.Logs()) != 0 {
		t.Errorf("received %d spans and %d log records though both are off", len(c.Spans()), len(c.Logs()))
	}
}

// An exporter of the user's is called once for each batch; its failures count.
func TestSpanExporterIsNotRetried(t *testing.T) {
	e := &failingExporter{}
	tel := setup(t, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, telemetry.WithSpanExporter(e), telemetry.WithoutMetrics(), telemetry.WithoutLogs())
	emit(t, tel)
	if err := tel.ForceFlush(t.Context()); !errors.Is(err, telemetry.ErrDataLost) {
		t.Errorf("ForceFlush: %v", err)
	}
	if st := tel.Stats().Traces; e.calls != 1 || st.Failed != 1 || st.State != telemetry.StateFailing || st.LastError.Error() != "disk full" {
		t.Errorf("%d calls; stats are %+v", e.calls, st)
	}
}

// Stats adds the exporters of a signal up; the worst state and the last error count.
func TestStatsOfSeveralExporters(t *testing.T) {
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	bad, worse := &failingExporter{}, &failingExporter{}
	var diag telemetry.DiagLog
	tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithSpanExporter(bad), telemetry.WithSpanExporter(worse),
		telemetry.WithoutMetrics(), telemetry.WithoutLogs(), telemetry.WithDiagnostics(diag.Handler()))
	emit(t, tel)
	if st := tel.Stats(); st.Traces.Queued != 3 || st.Traces.State != telemetry.StateIdle || st.Traces.LastError != nil || st.Metrics.State != telemetry.StateOff || st.Logs.State != telemetry.StateOff {
		t.Errorf("before: %+v", st)
	}
	if err := tel.ForceFlush(t.Context()); !errors.Is(err, telemetry.ErrDataLost) {
		t.Errorf("ForceFlush: %v", err)
	}
	st := tel.Stats().Traces
	if st.Exported != 1 || st.Failed != 2 || st.Dropped != 0 || st.Queued != 0 || st.State != telemetry.StateFailing || st.LastError.Error() != "disk full" {
		t.Errorf("stats are %+v", st)
	}
	for _, place := range []string{"exporter://WithSpanExporter", "exporter://WithSpanExporter#2"} {
		if got := diag.Lines("cannot deliver telemetry to " + place + "\""); len(got) != 1 {
			t.Errorf("%s: reported %q", place, got)
		}
	}
}
