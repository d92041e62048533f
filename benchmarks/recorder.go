package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// recorder is where one side of a contender records. It is made the same way
// for all of them, so that they differ in nothing but themselves.
type recorder struct {
	tracer *sdktrace.TracerProvider
	meter  *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
	log    *slog.Logger

	// What the assembled contender has besides.
	registry      *prometheus.Registry
	authenticated atomic.Int64
	limited       atomic.Int64

	intercepted atomic.Int64 // by interceptors that do nothing else
}

// newRecorder samples ratio of the traces that start here and follows the
// caller's decision on others. The finished spans go to processor, the log from
// that level on to log as JSON.
func newRecorder(ratio float64, level slog.Level, log io.Writer, processor sdktrace.SpanProcessor) *recorder {
	reader := sdkmetric.NewManualReader()
	return &recorder{
		tracer: sdktrace.NewTracerProvider(
			sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))),
			sdktrace.WithSpanProcessor(processor)),
		meter:    sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		reader:   reader,
		log:      slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: level})),
		registry: prometheus.NewRegistry(),
	}
}

// dropSpans is a processor without a cost of its own: what comes after it is
// the same for everybody.
type dropSpans struct{}

func (dropSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (dropSpans) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (dropSpans) Shutdown(context.Context) error                  { return nil }
func (dropSpans) ForceFlush(context.Context) error                { return nil }
