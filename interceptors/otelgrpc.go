package interceptors

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/stats"
)

// WithOTelGRPC leaves spans and the rpc.*.call.duration points to package
// otelgrpc, for those who must have exactly what it records. Request id, access
// log, errors, panics, the rpcscope.* metrics and the interceptors work on top
// of it as ever, and the span of otelgrpc gets the attributes that the suite's
// own would have. otelgrpc is given the same providers, propagator, filter and
// public endpoint; opts come after those. Nil options are skipped.
//
// What otelgrpc does not see stays unseen by spans and durations: each attempt
// that gRPC makes is a span and a point of its own, so that [WithAttempts] only
// counts; a call that fails before its first attempt has neither; the span of
// an unknown method never ends; and a stream that is rejected while the client
// sends is recorded OK. The [Matcher] of [WithFilter] sees FullMethod and Side
// only.
func WithOTelGRPC(opts ...otelgrpc.Option) Option {
	return option(func(c *config) {
		c.otelgrpc = true
		c.otelgrpcOptions = nil
		for _, o := range opts {
			if o != nil {
				c.otelgrpcOptions = append(c.otelgrpcOptions, o)
			}
		}
	})
}

// otelgrpcHandler is otelgrpc's half of the engine.
func (e *engine) otelgrpcHandler() stats.Handler {
	p := e.propagator
	if p == nil {
		p = otel.GetTextMapPropagator()
	}
	opts := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(e.tracerProvider),
		otelgrpc.WithMeterProvider(e.meterProvider),
		otelgrpc.WithPropagators(p),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
			return e.observes(&Call{FullMethod: info.FullMethodName, Side: e.side})
		}),
	}
	if e.withoutTracing {
		opts = append(opts, otelgrpc.WithTracerProvider(tracenoop.NewTracerProvider()))
	}
	if e.withoutMetrics {
		opts = append(opts, otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()))
	}
	if e.external {
		opts = append(opts, otelgrpc.WithPropagators(thirdParty{p}))
	}
	if e.publicEndpoint {
		opts = append(opts, otelgrpc.WithPublicEndpoint())
	}
	opts = append(opts, e.otelgrpcOptions...)
	if e.side == ClientSide {
		return surviving{otelgrpc.NewClientHandler(opts...), e.side}
	}
	return surviving{otelgrpc.NewServerHandler(opts...), e.side}
}

// surviving is a handler whose panics end neither a call nor the process.
type surviving struct {
	stats.Handler
	side Side
}

const brokenOTelGRPC = "WithOTelGRPC: its handler, or a span processor,"

func (h surviving) TagRPC(ctx context.Context, info *stats.RPCTagInfo) (tagged context.Context) {
	tagged = ctx //nolint:wastedassign // it is what is left where the handler panics
	if r := rpcFromContext(ctx, h.side); r != nil {
		defer survive(brokenOTelGRPC, &r.call)
	}
	return h.Handler.TagRPC(ctx, info)
}

func (h surviving) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if r := rpcFromContext(ctx, h.side); r != nil {
		defer survive(brokenOTelGRPC, &r.call)
	}
	h.Handler.HandleRPC(ctx, event)
}

// recorded returns the call's span, whoever made it, or nil.
func (r *rpc) recorded() trace.Span {
	if span := r.lastAttempt(); span != nil {
		return span
	}
	return r.span()
}

// lastAttempt is otelgrpc's span of a client's call, or nil.
func (r *rpc) lastAttempt() trace.Span {
	if r.tries == nil {
		return nil
	}
	if last := r.tries.last.Load(); last != nil {
		return *last
	}
	return nil
}

// traced returns the context of the call's span, also where otelgrpc made it.
func (r *rpc) traced() context.Context {
	if span := r.lastAttempt(); span != nil {
		return trace.ContextWithSpan(r, span)
	}
	return r
}

// thirdParty injects nothing but trace context, whatever the propagator knows
// of [External].
type thirdParty struct {
	otelpropagation.TextMapPropagator
}

func (p thirdParty) Inject(ctx context.Context, carrier otelpropagation.TextMapCarrier) {
	p.TextMapPropagator.Inject(ctx, withoutBaggage{carrier})
}

type withoutBaggage struct {
	otelpropagation.TextMapCarrier
}

func (c withoutBaggage) Set(key, value string) {
	if key != baggageHeader {
		c.TextMapCarrier.Set(key, value)
	}
}
