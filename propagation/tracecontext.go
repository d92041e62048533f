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
		if len(carrier.Get(traceStateHeader)) > maxTraceState {
			carrier = withoutTraceState{carrier}
		}
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

const (
	traceStateHeader = "tracestate"

	// maxTraceState is above what 32 members of the largest size need (W3C Trace
	// Context, section 3.3.1). OpenTelemetry copies what it cannot parse into an
	// error, and then drops both.
	maxTraceState = 32 << 10
)

// withoutTraceState is a carrier without the tracestate that stands in it.
type withoutTraceState struct{ otelprop.TextMapCarrier }

func (c withoutTraceState) Get(key string) string {
	if key == traceStateHeader {
		return ""
	}
	return c.TextMapCarrier.Get(key)
}
