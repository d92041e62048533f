// Command autoexport sets telemetry up with contrib's autoexport, and the SDK
// around it as its examples do.
package main

import (
	"context"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
)

func main() { ready.Main(setup) }

func setup(ctx context.Context) error {
	res := resource.DefaultWithContext(ctx)
	spans, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return err
	}
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithBatcher(spans), trace.WithResource(res)))
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil {
		return err
	}
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(res)))
	logs, err := autoexport.NewLogExporter(ctx)
	if err != nil {
		return err
	}
	otel.SetLoggerProvider(log.NewLoggerProvider(log.WithProcessor(log.NewBatchProcessor(logs)), log.WithResource(res)))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	return runtime.Start()
}
