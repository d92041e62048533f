// Command otelconf sets telemetry up with contrib's otelconf, from a file.
package main

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/contrib/otelconf"
	"go.opentelemetry.io/otel"

	"github.com/rpcscope/rpcscope/benchmarks/startup/ready"
)

func main() { ready.Main(setup) }

func setup(ctx context.Context) error {
	sdk, err := otelconf.NewSDK(otelconf.WithContext(ctx)) // reads OTEL_CONFIG_FILE
	if err != nil {
		return err
	}
	otel.SetTracerProvider(sdk.TracerProvider())
	otel.SetMeterProvider(sdk.MeterProvider())
	otel.SetLoggerProvider(sdk.LoggerProvider())
	otel.SetTextMapPropagator(sdk.Propagator())
	return runtime.Start()
}
