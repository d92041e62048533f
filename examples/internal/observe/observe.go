// Package observe says who observes a program of this module.
package observe

import (
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
)

// By is what spans, metrics and logs are made with. What is nil is the global one: the zero value is right for a program
// that calls telemetry.Setup, and one with several services in a process, such as the demo, fills it from each handle.
type By struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     otelprop.TextMapPropagator
	Logger         *slog.Logger
	Messages       bool // measure messages too: sizes, how many there are, and the time to the first
}

// Through returns what tel makes them with, and log as the logger; nil: tel takes the logs too.
func Through(tel *telemetry.Telemetry, log *slog.Logger) By {
	if log == nil {
		log = slog.New(tel.SlogHandler(nil))
	}
	return By{TracerProvider: tel.TracerProvider(), MeterProvider: tel.MeterProvider(), Propagator: tel.Propagator(), Logger: log}
}

// Log returns the logger.
func (b By) Log() *slog.Logger {
	if b.Logger == nil {
		return slog.Default()
	}
	return b.Logger
}

// Propagation returns the propagator.
func (b By) Propagation() otelprop.TextMapPropagator {
	if b.Propagator == nil {
		return otel.GetTextMapPropagator()
	}
	return b.Propagator
}

// Server returns the options of a server observed by b, then opts.
func (b By) Server(opts ...interceptors.ServerOption) []interceptors.ServerOption {
	own := []interceptors.ServerOption{
		interceptors.WithTracerProvider(b.TracerProvider), interceptors.WithMeterProvider(b.MeterProvider),
		interceptors.WithPropagator(b.Propagator), interceptors.WithLogger(b.Logger),
	}
	if b.Messages {
		own = append(own, interceptors.WithMessageMetrics())
	}
	return append(own, opts...)
}

// Client returns the options of a client observed by b, then opts.
func (b By) Client(opts ...interceptors.ClientOption) []interceptors.ClientOption {
	own := []interceptors.ClientOption{
		interceptors.WithTracerProvider(b.TracerProvider), interceptors.WithMeterProvider(b.MeterProvider),
		interceptors.WithPropagator(b.Propagator), interceptors.WithLogger(b.Logger),
	}
	if b.Messages {
		own = append(own, interceptors.WithMessageMetrics())
	}
	return append(own, opts...)
}
