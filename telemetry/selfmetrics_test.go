package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// selfMetrics are the otel.sdk.* of a reader: the points by name and error.type.
func selfMetrics(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != "github.com/rpcscope/rpcscope/telemetry" {
			continue
		}
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok {
				t.Fatalf("%s is a %T, want a sum of integers", m.Name, m.Data)
			}
			for _, p := range sum.DataPoints {
				name := m.Name
				if kind, failed := p.Attributes.Value("error.type"); failed {
					name += " " + kind.AsString()
				}
				got[name] = p.Value
			}
		}
	}
	return got
}

// What became of the telemetry is telemetry too: what Stats counts is what the
// metrics of OpenTelemetry's semantic conventions for SDKs say.
func TestSelfMetrics(t *testing.T) { // rule 33
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	reader := sdkmetric.NewManualReader()
	tel := setup(t, map[string]string{
		"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
	}, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithMetricReader(reader), telemetry.WithSpanExporter(&failingExporter{}))
	for range 3 {
		emit(t, tel)
		_ = tel.ForceFlush(t.Context()) // the exporter fails
	}
	points := tel.Stats().Metrics.Exported
	if points < 3 {
		t.Errorf("%d data points were exported, want one with each flush at least", points)
	}
	want := map[string]int64{
		"otel.sdk.exporter.metric_data_point.exported": points, "otel.sdk.exporter.metric_data_point.exported _OTHER": 0,
		"otel.sdk.exporter.span.exported": 3, "otel.sdk.exporter.span.exported _OTHER": 3,
		"otel.sdk.processor.span.processed": 6, "otel.sdk.processor.span.processed queue_full": 0, "otel.sdk.processor.span.queue.size": 0,
		"otel.sdk.exporter.log.exported": 3, "otel.sdk.exporter.log.exported _OTHER": 0,
		"otel.sdk.processor.log.processed": 3, "otel.sdk.processor.log.processed queue_full": 0, "otel.sdk.processor.log.queue.size": 0,
	}
	if diff := cmp.Diff(want, selfMetrics(t, reader)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Spans that a full queue dropped are counted as such, and those that wait as waiting.
func TestSelfMetricsOfFullQueue(t *testing.T) { // rule 33
	reader := sdkmetric.NewManualReader()
	exporter := &blockingExporter{}
	tel := setup(t, map[string]string{
		"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
		"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
	}, telemetry.WithMetricReader(reader), telemetry.WithSpanExporter(exporter), telemetry.WithShutdownTimeout(10*time.Millisecond))
	for range 100 {
		_, span := tel.TracerProvider().Tracer("test").Start(context.Background(), "s")
		span.End()
	}
	got, st := selfMetrics(t, reader), tel.Stats().Traces
	want := map[string]int64{
		"otel.sdk.exporter.span.exported": 0, "otel.sdk.exporter.span.exported _OTHER": 0,
		"otel.sdk.processor.span.processed": 0, "otel.sdk.processor.span.processed queue_full": st.Dropped, "otel.sdk.processor.span.queue.size": int64(st.Queued),
	}
	if diff := cmp.Diff(want, got); diff != "" || st.Dropped < 90 || st.Dropped+int64(st.Queued) != 100 {
		t.Errorf("of 100 spans %d were dropped and %d wait (-want +got):\n%s", st.Dropped, st.Queued, diff)
	}
}

// Where nothing is exported there is nothing to tell.
func TestNoSelfMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	tel := setup(t, map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, telemetry.WithMetricReader(reader))
	emit(t, tel)
	if got := selfMetrics(t, reader); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
