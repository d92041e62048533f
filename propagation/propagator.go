package propagation

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
)

const baggageHeader = "baggage"

// Propagator is an OpenTelemetry [otelprop.TextMapPropagator] for the trace
// context, the request id, and identity and baggage behind a trust boundary. It
// is made by [New], immutable, and safe for concurrent use.
type Propagator struct {
	traceContext  otelprop.TextMapPropagator // nil: none
	noBaggage     bool
	trust         TrustFunc // nil: nobody
	trustedIDOnly bool
	inbound       map[string]bool // nil: all
	outbound      OutboundFunc    // nil: DefaultOutbound
	limits        Limits          // no field is zero

	hash      *userHash // nil: no user.hash
	rawUserID bool
	tenants   map[string]attribute.KeyValue // nil: no tenant.id on metrics
}

var _ otelprop.TextMapPropagator = (*Propagator)(nil)

// New returns a Propagator. Without options it reads and writes W3C Trace
// Context, accepts a valid request id from everybody and identity and baggage
// from nobody, and sends what [DefaultOutbound] says.
func New(opts ...Option) *Propagator {
	p := &Propagator{
		traceContext: otelprop.TraceContext{},
		limits:       Limits{}.orDefault(),
	}
	for _, o := range opts {
		if o != nil {
			o.apply(p)
		}
	}
	return p
}

// Extract returns a copy of ctx with what carrier brings:
//
//   - the remote span context, as [trace.ContextWithRemoteSpanContext] sets it;
//   - the request id. One that is invalid, or several that contradict each
//     other, count as none. Extract does not make one: that is up to the server,
//     with [NewRequestID], if [RequestID] returns "" afterwards;
//   - from a trusted peer, the identity, unverified, unless ctx already has a
//     verified one;
//   - from a trusted peer, the other members of the baggage, as
//     [baggage.ContextWithBaggage] sets them.
//
// What carrier does not bring stays as it is in ctx. A member of the baggage that
// is malformed, over the limits or has a control character in it is left out; a
// member of the identity that is there twice with different values is, too.
func (p *Propagator) Extract(ctx context.Context, carrier otelprop.TextMapCarrier) context.Context {
	ctx, _ = p.extract(p.extractTraceContext(ctx, carrier), carrier)
	return ctx
}

// extract is Extract without the trace context. trusted tells whether the sender
// of the baggage in carrier is.
func (p *Propagator) extract(ctx context.Context, carrier otelprop.TextMapCarrier) (_ context.Context, trusted bool) {
	header := values(carrier, baggageHeader)
	if p.trust != nil && (len(header) > 0 || p.trustedIDOnly) {
		trusted = p.trust(ctx, carrier)
	}

	next := stateOf(ctx)
	was := next
	if id, _ := requestIDIn(carrier); id != "" && (trusted || !p.trustedIDOnly) {
		next.requestID = id
	}
	if trusted && len(header) > 0 && !p.noBaggage {
		id, other := p.readBaggage(header)
		if id != nil && (next.identity == nil || !next.identity.verified) {
			next.identity = id
		}
		if other.Len() > 0 {
			ctx = baggage.ContextWithBaggage(ctx, other)
		}
	}
	if next != was {
		ctx = next.in(ctx)
	}
	return ctx, trusted
}

// Inject writes what may leave from ctx to carrier, where every key is set, not
// appended.
//
// The request id already in carrier, which the application put there, is kept if
// it is valid; otherwise that of ctx takes its place. With neither, none is
// written: [Propagator.RoundTripper] and the gRPC client make one beforehand.
// The identity in ctx is sent, verified or not, unless it is expired.
//
// A carrier that is a [Destination], or else [ContextWithDestination], says
// where it goes. From a carrier that has a method Delete(key string), Inject
// removes what stands under its keys and may not leave, so that a proxy that
// copies headers does not forward what this process refused to believe.
func (p *Propagator) Inject(ctx context.Context, carrier otelprop.TextMapCarrier) {
	may := p.outboundTo(ctx, carrier)
	p.injectTraceContext(ctx, carrier, may)
	p.injectRequestID(ctx, carrier, may)
	if header := p.writeBaggage(ctx, may); header != "" {
		carrier.Set(baggageHeader, header)
	} else {
		remove(carrier, baggageHeader)
	}
}

func (p *Propagator) injectRequestID(ctx context.Context, carrier otelprop.TextMapCarrier, may Outbound) {
	if !may.RequestID {
		remove(carrier, RequestIDHeader)
		return
	}
	id, repeated := requestIDIn(carrier)
	if id != "" && !repeated {
		return
	}
	if id == "" {
		id = RequestID(ctx)
	}
	if id == "" && carrier.Get(RequestIDHeader) != "" {
		id = NewRequestID() // in place of an invalid one
	}
	if id != "" {
		carrier.Set(RequestIDHeader, id)
	}
}

// Fields returns the keys that Inject may set.
func (p *Propagator) Fields() []string {
	var fields []string
	if p.traceContext != nil {
		fields = slices.Clone(p.traceContext.Fields())
	}
	fields = append(fields, RequestIDHeader)
	if !p.noBaggage && !slices.Contains(fields, baggageHeader) {
		fields = append(fields, baggageHeader)
	}
	return fields
}

// values returns the values of key in carrier, all that it gives away.
func values(carrier otelprop.TextMapCarrier, key string) []string {
	if multi, ok := carrier.(otelprop.ValuesGetter); ok {
		return multi.Values(key)
	}
	if value := carrier.Get(key); value != "" {
		return []string{value}
	}
	return nil
}

func remove(carrier otelprop.TextMapCarrier, key string) {
	if d, ok := carrier.(interface{ Delete(key string) }); ok {
		d.Delete(key)
	}
}
