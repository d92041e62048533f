package telemetry

import (
	"context"
	"errors"

	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanProcessor queues ended spans for one exporter.
type spanProcessor struct {
	*batcher[sdktrace.ReadOnlySpan]
	exporter sdktrace.SpanExporter
}

func newSpanProcessor(cfg batchConfig, e sdktrace.SpanExporter, d *delivery, full func()) *spanProcessor {
	return &spanProcessor{exporter: e, batcher: newBatcher(cfg, func(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
		return d.send(ctx, len(batch), func(ctx context.Context) error { return e.ExportSpans(ctx, batch) })
	}, full)}
}

func (*spanProcessor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (p *spanProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		p.put(s)
	}
}

func (p *spanProcessor) ForceFlush(ctx context.Context) error { return p.flush(ctx) }

func (p *spanProcessor) Shutdown(ctx context.Context) error {
	return errors.Join(p.shutdown(ctx), shutdownExporter(ctx, p.exporter.Shutdown))
}

// logProcessor queues log records for one exporter.
type logProcessor struct {
	*batcher[sdklog.Record]
	exporter sdklog.Exporter
}

func newLogProcessor(cfg batchConfig, e sdklog.Exporter, d *delivery, full func()) *logProcessor {
	return &logProcessor{exporter: e, batcher: newBatcher(cfg, func(ctx context.Context, batch []sdklog.Record) error {
		return d.send(ctx, len(batch), func(ctx context.Context) error { return e.Export(ctx, batch) })
	}, full)}
}

func (*logProcessor) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (p *logProcessor) OnEmit(_ context.Context, r *sdklog.Record) error {
	p.put(r.Clone())
	return nil
}

func (p *logProcessor) ForceFlush(ctx context.Context) error { return p.flush(ctx) }

func (p *logProcessor) Shutdown(ctx context.Context) error {
	return errors.Join(p.shutdown(ctx), shutdownExporter(ctx, p.exporter.Shutdown))
}

// shutdownExporter releases an exporter. An expired context is no error of its own.
func shutdownExporter(ctx context.Context, shutdown func(context.Context) error) error {
	if err := shutdown(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// metricExporter sends through a delivery. To the periodic reader an export
// never fails: the failure is counted and reported already. Nor does a reader
// that is shut down break off the export under way, which would lose what was
// collected for it: that is for the delivery, when the time is up.
type metricExporter struct {
	sdkmetric.Exporter
	delivery *delivery
}

func (e *metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	_ = e.delivery.send(context.WithoutCancel(ctx), dataPoints(rm), func(ctx context.Context) error { return e.Exporter.Export(ctx, rm) })
	return nil
}

func (e *metricExporter) Shutdown(ctx context.Context) error {
	return shutdownExporter(ctx, e.Exporter.Shutdown)
}

func dataPoints(rm *metricdata.ResourceMetrics) int {
	n := 0
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				n += len(data.DataPoints)
			case metricdata.Gauge[float64]:
				n += len(data.DataPoints)
			case metricdata.Sum[int64]:
				n += len(data.DataPoints)
			case metricdata.Sum[float64]:
				n += len(data.DataPoints)
			case metricdata.Histogram[int64]:
				n += len(data.DataPoints)
			case metricdata.Histogram[float64]:
				n += len(data.DataPoints)
			case metricdata.ExponentialHistogram[int64]:
				n += len(data.DataPoints)
			case metricdata.ExponentialHistogram[float64]:
				n += len(data.DataPoints)
			}
		}
	}
	return n
}
