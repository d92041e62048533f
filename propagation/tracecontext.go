package propagation

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
)

func (p *Propagator) extractTraceContext(ctx context.Context, carrier otelprop.TextMapCarrier) context.Context {
	switch format := p.traceContext.(type) {
	case nil:
		return ctx
	case otelprop.TraceContext:
		return format.Extract(ctx, carrier)
	default:
		// A format that reads baggage as well would carry it past the boundary.
		before := baggage.FromContext(ctx)
		ctx = format.Extract(baggage.ContextWithoutBaggage(ctx), carrier)
		return baggage.ContextWithBaggage(ctx, before)
	}
}

func (p *Propagator) injectTraceContext(ctx context.Context, carrier otelprop.TextMapCarrier, may Outbound) {
	if p.traceContext == nil {
		return
	}
	if !may.TraceContext {
		for _, field := range p.traceContext.Fields() {
			remove(carrier, field)
		}
		return
	}
	if _, ok := p.traceContext.(otelprop.TraceContext); !ok && baggage.FromContext(ctx).Len() > 0 {
		ctx = baggage.ContextWithoutBaggage(ctx)
	}
	p.traceContext.Inject(ctx, carrier)
}
