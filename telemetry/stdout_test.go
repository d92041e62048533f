package telemetry

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
)

// The exporters "console" of metrics and logs: a line each.
func TestMetricConsole(t *testing.T) { // rule 31
	var b bytes.Buffer
	exponential := sdkmetric.NewView(sdkmetric.Instrument{Name: "wide.*"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})
	tel, err := Setup(t.Context(), WithoutGlobals(), quiet(nil).Option(), WithRuntimeMetrics(false), WithView(exponential),
		WithMetricReader(sdkmetric.NewPeriodicReader(newMetricConsole(&b), sdkmetric.WithInterval(time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	meter := tel.MeterProvider().Meter("m")
	counter, _ := meter.Int64Counter("calls", metric.WithUnit("{call}"))
	counter.Add(t.Context(), 3, metric.WithAttributes(attribute.String("k", "v")))
	gauge, _ := meter.Float64Gauge("level")
	gauge.Record(t.Context(), 1.5)
	seconds, _ := meter.Float64Histogram("took", metric.WithUnit("s"))
	seconds.Record(t.Context(), 0.25)
	bytesSent, _ := meter.Int64Histogram("sent", metric.WithUnit("By"))
	bytesSent.Record(t.Context(), 7, metric.WithAttributes(attribute.String("k", "two\nlines\x1b[31m")))
	wide, _ := meter.Float64Histogram("wide.float")
	wide.Record(t.Context(), 2.5)
	wideInt, _ := meter.Int64Histogram("wide.int")
	wideInt.Record(t.Context(), 5)
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	want := "metric calls{k=v} 3 call\nmetric level 1.5\nmetric took count=1 sum=0.25 s\nmetric sent{k=two lines\uFFFD[31m} count=1 sum=7 By\n" +
		"metric wide.float count=1 sum=2.5\nmetric wide.int count=1 sum=5\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

func TestLogConsole(t *testing.T) { // rule 31
	var b bytes.Buffer
	tel, err := Setup(t.Context(), WithoutGlobals(), quiet(nil).Option(), WithLogProcessor(newLogConsole(&b)))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}}))
	r := slog.NewRecord(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), slog.LevelWarn, "two\nlines \x1b[31m", 0)
	r.AddAttrs(slog.Int("n", 1))
	if err := tel.SlogHandler(nil).Handle(ctx, r); err != nil {
		t.Fatal(err)
	}
	want := "log 2026-01-02T03:04:05Z WARN two lines \uFFFD[31m n=1 trace_id=00000000000000000000000000000001 span_id=0000000000000002\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

// Every kind of metric data is counted.
func TestDataPoints(t *testing.T) {
	var sm metricdata.ScopeMetrics
	for _, data := range []metricdata.Aggregation{
		metricdata.Gauge[int64]{DataPoints: make([]metricdata.DataPoint[int64], 1)},
		metricdata.Gauge[float64]{DataPoints: make([]metricdata.DataPoint[float64], 2)},
		metricdata.Sum[int64]{DataPoints: make([]metricdata.DataPoint[int64], 4)},
		metricdata.Sum[float64]{DataPoints: make([]metricdata.DataPoint[float64], 8)},
		metricdata.Histogram[int64]{DataPoints: make([]metricdata.HistogramDataPoint[int64], 16)},
		metricdata.Histogram[float64]{DataPoints: make([]metricdata.HistogramDataPoint[float64], 32)},
		metricdata.ExponentialHistogram[int64]{DataPoints: make([]metricdata.ExponentialHistogramDataPoint[int64], 64)},
		metricdata.ExponentialHistogram[float64]{DataPoints: make([]metricdata.ExponentialHistogramDataPoint[float64], 128)},
	} {
		sm.Metrics = append(sm.Metrics, metricdata.Metrics{Data: data})
	}
	if got := dataPoints(&metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{sm}}); got != 255 {
		t.Errorf("counted %d, want 255", got)
	}
}
