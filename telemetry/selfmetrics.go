package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// observeSelf makes metrics of what becomes of the telemetry itself, under the
// names of OpenTelemetry's semantic conventions for SDKs. They are what
// [Telemetry.Stats] has, observed when metrics are collected.
func (c *core) observeSelf() error {
	meter := c.meterProvider.Meter("github.com/rpcscope/rpcscope/telemetry", metric.WithSchemaURL(semconv.SchemaURL))
	var errs []error
	for _, of := range []struct{ signal, item, unit, items string }{
		{signalTraces, "span", "{span}", "spans"},
		{signalLogs, "log", "{log_record}", "log records"},
		{signalMetrics, "metric_data_point", "{data_point}", "metric data points"},
	} {
		s := c.signals[of.signal]
		if len(s.deliveries) == 0 {
			continue // nothing leaves the process, or not by our exporters
		}
		errs = append(errs, s.observe(meter, of.item, of.unit, of.items))
	}
	return errors.Join(errs...)
}

var (
	queueFull    = metric.WithAttributes(semconv.ErrorTypeKey.String("queue_full"))
	exportFailed = metric.WithAttributes(semconv.ErrorTypeOther)
)

// observe makes the metrics of a signal, whose items have a name, a unit and a
// plural.
func (s *signal) observe(meter metric.Meter, item, unit, items string) error {
	exported, err := meter.Int64ObservableCounter("otel.sdk.exporter."+item+".exported", metric.WithUnit(unit),
		metric.WithDescription("The number of "+items+" for which the export has finished, either successful or failed."))
	if err != nil {
		return err
	}
	instruments := []metric.Observable{exported}
	var processed metric.Int64ObservableCounter
	var queued metric.Int64ObservableUpDownCounter
	if len(s.queues) > 0 {
		var errs [2]error
		processed, errs[0] = meter.Int64ObservableCounter("otel.sdk.processor."+item+".processed", metric.WithUnit(unit),
			metric.WithDescription("The number of "+items+" for which the processing has finished, either successful or failed."))
		queued, errs[1] = meter.Int64ObservableUpDownCounter("otel.sdk.processor."+item+".queue.size", metric.WithUnit(unit),
			metric.WithDescription("The number of "+items+" in the queue of the processors."))
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		instruments = append(instruments, processed, queued)
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		st := s.stats()
		o.ObserveInt64(exported, st.Exported)
		o.ObserveInt64(exported, st.Failed, exportFailed)
		if len(s.queues) > 0 {
			o.ObserveInt64(processed, st.Exported+st.Failed)
			o.ObserveInt64(processed, st.Dropped, queueFull)
			o.ObserveInt64(queued, int64(st.Queued))
		}
		return nil
	}, instruments...)
	return err
}
