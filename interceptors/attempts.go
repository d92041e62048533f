package interceptors

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
)

// The names of gRPC's proposal A72 for the spans of attempts.
const (
	attemptPrefix       = "Attempt."
	previousAttemptsKey = attribute.Key("previous-rpc-attempts")
	transparentRetryKey = attribute.Key("transparent-retry")
)

// attemptKey tells in rpcscope.client.attempts why an attempt was made.
const attemptKey = attribute.Key("rpcscope.attempt")

// previousAttemptsHeader is how gRPC tells a server of the attempts before.
const previousAttemptsHeader = "grpc-previous-rpc-attempts"

// clientStats sees what a client's interceptors do not: the attempts that gRPC
// makes of a call, and the sizes of messages. It is installed only for those
// who ask for one of the two, as it makes every call dearer.
type clientStats struct{ *client }

var _ stats.Handler = clientStats{}

func (clientStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (clientStats) HandleConn(context.Context, stats.ConnStats) {}

// watchesAttempts tells whether clientStats is installed.
func (e *engine) watchesAttempts() bool {
	return e.attempts || e.messages != nil || e.messageEvents || e.otelgrpc
}

// tries is what a client's call knows of its attempts.
type tries struct {
	made      atomic.Int64               // but for transparent retries
	last      atomic.Pointer[trace.Span] // otelgrpc's, of the last attempt
	unsettled atomic.Pointer[attempt]    // has ended; how is not known yet
}

// attempt is one try of gRPC's at a call. It is the context that the attempt
// runs with.
type attempt struct {
	context.Context

	r              *rpc
	span           trace.Span // nil unless the attempt has one
	kind           string     // initial, retry, transparent_retry
	sent, received int64      // messages; gRPC tells of those of one direction in order
	ended          atomic.Bool
	over           time.Time // when it ended
}

type attemptContextKey struct{}

func (a *attempt) Value(key any) any {
	if key == (attemptContextKey{}) {
		return a
	}
	return a.Context.Value(key)
}

func (c clientStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	r := rpcFromContext(ctx, ClientSide)
	if r == nil || r.engine() != c.engine || !r.observed {
		return ctx
	}
	a := &attempt{Context: ctx, r: r}
	if r.spanPerAttempt() {
		a.Context, a.span = r.startSpan(ctx, attemptPrefix+r.call.m.name)
		a.Context = r.outgoing(a.Context) // the server's span is a child of this one
	}
	return a
}

func (c clientStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	a, _ := ctx.Value(attemptContextKey{}).(*attempt)
	if a == nil || a.r.engine() != c.engine {
		return
	}
	switch event := event.(type) {
	case *stats.Begin:
		a.begin(ctx, event.IsTransparentRetryAttempt)
	case *stats.OutPayload:
		a.sent++
		a.r.message(ctx, message{id: a.sent, size: event.Length, compressed: event.CompressedLength})
	case *stats.InPayload:
		a.received++
		a.r.message(ctx, message{received: true, id: a.received, size: event.Length, compressed: event.CompressedLength})
	case *stats.End:
		a.end(ctx, event)
	}
}

// spanPerAttempt tells whether the attempts of the call have spans, whose
// context is then what travels.
func (r *rpc) spanPerAttempt() bool {
	return r.observed && r.engine().attempts && r.engine().tracer != nil
}

// begin tells attempts apart. One that gRPC makes again because the last one
// never reached a server is no retry (rule 7).
func (a *attempt) begin(ctx context.Context, transparent bool) {
	previous := a.r.tries.made.Load()
	if last := a.r.tries.unsettled.Swap(nil); last != nil {
		last.settle(status.Error(a.r.retriedFor(transparent), "tried again"))
	}
	switch {
	case transparent:
		a.kind = "transparent_retry"
		previous = max(previous-1, 0)
	default:
		a.kind = "initial"
		if previous > 0 {
			a.kind = "retry"
		}
		a.r.tries.made.Add(1)
	}
	if t, ok := ctx.Value(turnKey{}).(*turn); ok && t.isOf(&a.r.call) && !transparent {
		previous, a.kind = int64(t.n-1), t.kind
		if a.span != nil {
			a.span.SetAttributes(t.attrs...)
		}
	}
	if a.span != nil {
		a.span.SetAttributes(previousAttemptsKey.Int64(previous), transparentRetryKey.Bool(transparent))
	}
	if a.r.engine().otelgrpc {
		span := trace.SpanFromContext(ctx)
		a.r.tries.last.Store(&span)
	}
}

func (a *attempt) end(ctx context.Context, event *stats.End) {
	if !a.ended.CompareAndSwap(false, true) {
		return
	}
	r := a.r
	if r.engine().otelgrpc {
		// otelgrpc ends its span after this.
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.SetAttributes(r.attributes(nil, errors.Code(event.Error), r.fromRPC(event.Error))...)
		}
	}
	a.over = event.EndTime
	if event.Error != nil {
		a.settle(event.Error)
		return
	}
	// So gRPC says also when the attempt failed while the client was sending
	// (rule 2).
	if last := r.tries.unsettled.Swap(a); last != nil {
		last.settle(nil) // an interceptor inside of ours makes several calls of one
	}
}

// settle records the attempt with what it ended with.
func (a *attempt) settle(err error) {
	if !a.r.engine().attempts {
		return
	}
	ctx := a.r.traced()
	if a.span != nil {
		ctx = a
	}
	a.r.endAttempt(ctx, a.span, a.kind, err, a.over)
}

// endAttempt counts an attempt and ends its span, which may be nil.
func (r *rpc) endAttempt(ctx context.Context, span trace.Span, kind string, err error, over time.Time) {
	defer survive("WithTracerProvider: the span of an attempt, or a span processor,", &r.call)
	code := errors.Code(err)
	ended := r.call.m.outcome(code)
	r.engine().attempted.Add(ctx, 1, r.call.m.with(ended.attrs[0], attemptKey.String(kind)))
	if span == nil {
		return
	}
	if code != codes.OK {
		span.SetStatus(otelcodes.Error, errors.Message(err))
	}
	span.SetAttributes(ended.attrs...)
	span.End(trace.WithTimestamp(over))
}

// settle records the attempt that the call, which err ended, ended with.
func (r *rpc) settle(err error) {
	if r.tries == nil {
		return
	}
	if last := r.tries.unsettled.Swap(nil); last != nil {
		last.settle(err)
	}
}

// retriedFor is the code of an attempt that gRPC makes again: if the service
// config names one, that; else it is not known.
func (r *rpc) retriedFor(transparent bool) codes.Code {
	if transparent {
		return codes.Unavailable // refused, or the connection went away
	}
	policy := r.conn().GetMethodConfig(r.call.FullMethod).RetryPolicy
	if policy == nil || len(policy.RetryableStatusCodes) != 1 {
		return codes.Unknown
	}
	for code := range policy.RetryableStatusCodes {
		return code
	}
	return codes.Unknown
}
