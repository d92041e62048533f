package telemetrytest

import (
	"slices"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/interceptors"
)

// ServerOptions returns the options of a gRPC server whose telemetry is
// recorded; opts are applied after the recorder's own.
func (r *Recorder) ServerOptions(opts ...interceptors.ServerOption) []grpc.ServerOption {
	var all []interceptors.ServerOption
	for _, o := range r.engine() {
		all = append(all, o)
	}
	return interceptors.ServerOptions(append(all, opts...)...)
}

// DialOptions returns the options of a gRPC client whose telemetry is
// recorded; opts are applied after the recorder's own. They hold no transport
// credentials.
func (r *Recorder) DialOptions(opts ...interceptors.ClientOption) []grpc.DialOption {
	var all []interceptors.ClientOption
	for _, o := range r.engine() {
		all = append(all, o)
	}
	return interceptors.DialOptions(append(all, slices.Clone(opts)...)...)
}

func (r *Recorder) engine() []interceptors.Option {
	return []interceptors.Option{
		interceptors.WithTracerProvider(r.tel.TracerProvider()),
		interceptors.WithMeterProvider(r.tel.MeterProvider()),
		interceptors.WithPropagator(r.tel.Propagator()),
		interceptors.WithLogger(r.Logger()),
	}
}
