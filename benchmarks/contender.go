package main

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	experimental "google.golang.org/grpc/experimental/opentelemetry"
	"google.golang.org/grpc/stats/opentelemetry"

	"github.com/rpcscope/rpcscope/interceptors"
	rpcscope "github.com/rpcscope/rpcscope/propagation"
)

// contender is one way to observe calls.
type contender struct {
	name   string
	server func(*recorder) []grpc.ServerOption
	client func(*recorder) []grpc.DialOption
}

// The contenders; the others are compared with the first ones and assembled.
const (
	bareName      = "bare"
	otelgrpcName  = "otelgrpc"
	grpcOwnName   = "grpc's own"
	assembledName = "assembled"
	oursName      = "rpcscope"

	onOTelGRPCName = "rpcscope on otelgrpc"
	chainedName    = "rpcscope + 4 interceptors"
)

var contenders = []contender{
	{
		name:   bareName,
		server: func(*recorder) []grpc.ServerOption { return nil },
		client: func(*recorder) []grpc.DialOption { return nil },
	},
	{
		// Spans and the duration of calls.
		name: otelgrpcName,
		server: func(r *recorder) []grpc.ServerOption {
			return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpcOptions(r)...))}
		},
		client: func(r *recorder) []grpc.DialOption {
			return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpcOptions(r)...))}
		},
	},
	{
		// google.golang.org/grpc/stats/opentelemetry with its default metrics
		// and with spans, a client's of the call and of each attempt.
		name: grpcOwnName,
		server: func(r *recorder) []grpc.ServerOption {
			return []grpc.ServerOption{opentelemetry.ServerOption(grpcOptions(r))}
		},
		client: func(r *recorder) []grpc.DialOption {
			return []grpc.DialOption{opentelemetry.DialOption(grpcOptions(r))}
		},
	},
	{
		// otelgrpc and what is put beside it by hand.
		name:   assembledName,
		server: assembledServer,
		client: assembledClient,
	},
	// Spans, durations, calls in flight, errors by reason, access log, request
	// id, identity, typed errors and recovery.
	suite(oursName),
	suite(onOTelGRPCName, func(*recorder) interceptors.Option { return interceptors.WithOTelGRPC() }),
	suite(chainedName, noop, noop, noop, noop),
}

// w3c is what services propagate that do not use package propagation.
var w3c = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

func otelgrpcOptions(r *recorder) []otelgrpc.Option {
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(r.tracer), otelgrpc.WithMeterProvider(r.meter), otelgrpc.WithPropagators(w3c)}
}

func grpcOptions(r *recorder) opentelemetry.Options {
	return opentelemetry.Options{
		MetricsOptions: opentelemetry.MetricsOptions{MeterProvider: r.meter},
		TraceOptions:   experimental.TraceOptions{TracerProvider: r.tracer, TextMapPropagator: w3c},
	}
}

// suite is the suite with what it does unless told otherwise, and opts.
func suite(name string, opts ...func(*recorder) interceptors.Option) contender {
	return contender{
		name: name,
		server: func(r *recorder) []grpc.ServerOption {
			return interceptors.ServerOptions(suiteOptions[interceptors.ServerOption](r, opts)...)
		},
		client: func(r *recorder) []grpc.DialOption {
			return interceptors.DialOptions(suiteOptions[interceptors.ClientOption](r, opts)...)
		},
	}
}

// suiteOptions are an [interceptors.Option] each, as the side takes them.
func suiteOptions[O any](r *recorder, more []func(*recorder) interceptors.Option) []O {
	opts := []interceptors.Option{
		interceptors.WithTracerProvider(r.tracer), interceptors.WithMeterProvider(r.meter),
		interceptors.WithPropagator(rpcscope.New()), interceptors.WithLogger(r.log),
	}
	for _, option := range more {
		opts = append(opts, option(r))
	}
	side := make([]O, len(opts))
	for i, o := range opts {
		side[i] = any(o).(O)
	}
	return side
}

// noop does nothing but count the calls that it saw.
func noop(r *recorder) interceptors.Option {
	return interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		r.intercepted.Add(1)
		return next(ctx)
	})
}
