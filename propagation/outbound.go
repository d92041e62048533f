package propagation

import (
	"context"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// Outbound says what may leave with a call. Its zero value lets nothing leave,
// not even the trace context; [DefaultOutbound] is the policy in force without
// an [OutboundFunc].
type Outbound struct {
	TraceContext bool // traceparent and tracestate, or what WithTraceContext put in their place
	RequestID    bool // x-request-id
	UserID       bool // the baggage member user.id
	TenantID     bool // the baggage member tenant.id
	SessionID    bool // the baggage member session.id

	// Baggage names the further members of the OpenTelemetry baggage in the
	// context that may leave, the most important first: where [Limits] do not
	// allow all of them, the first are sent. The key "*" stands for all that are
	// not named, in the order of their keys. The members of an identity are not
	// among them: what leaves under their names is the [Identity] in the context.
	Baggage []string
}

// DefaultOutbound returns the default policy: trace context, request id, user id
// and tenant id leave, the session id and other baggage do not.
func DefaultOutbound() Outbound {
	return Outbound{TraceContext: true, RequestID: true, UserID: true, TenantID: true}
}

// OutboundFunc decides what may leave with a call to method of target. It must
// be safe for concurrent use. See [Destination] for what the two strings are;
// both are empty if the carrier does not tell.
type OutboundFunc func(ctx context.Context, target, method string) Outbound

// Destination may be implemented by a carrier that knows where it goes.
//
// For a gRPC call target is the canonical dial target ("dns:///users:443") and
// method the full method ("/users.v1.UserService/GetUser"); for an HTTP request
// they are the host of the URL ("api.example.com:8443") and its path. external
// means a third party: the trace context goes there and nothing else, whatever
// the [OutboundFunc] says.
type Destination interface {
	Destination() (target, method string, external bool)
}

// ContextWithDestination returns a copy of ctx from which [Propagator.Inject]
// takes the destination if the carrier is no [Destination]. It is for code whose
// carrier belongs to somebody else, such as an interceptor around otelgrpc or a
// transport around otelhttp.
func ContextWithDestination(ctx context.Context, target, method string, external bool) context.Context {
	next := stateOf(ctx)
	next.destination = &destination{target, method, external}
	return next.in(ctx)
}

type destination struct {
	target, method string
	external       bool
}

// outboundTo returns what may leave in carrier.
func (p *Propagator) outboundTo(ctx context.Context, carrier otelprop.TextMapCarrier) Outbound {
	var to destination
	if d, ok := carrier.(Destination); ok {
		to.target, to.method, to.external = d.Destination()
	} else if d := stateOf(ctx).destination; d != nil {
		to = *d
	}
	switch {
	case to.external:
		return Outbound{TraceContext: true}
	case p.outbound == nil:
		return DefaultOutbound()
	default:
		return p.outbound(ctx, to.target, to.method)
	}
}
