package interceptors

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

const (
	retryBackoffKey  = attribute.Key("rpcscope.retry.backoff_ms")
	retryCauseKey    = attribute.Key("rpcscope.retry.cause")
	retryAttemptsKey = attribute.Key("rpcscope.retry.attempts")
	retryStoppedKey  = attribute.Key("rpcscope.retry.stopped")
)

// turn is an attempt that an interceptor makes of a call.
type turn struct {
	call  *Call
	n     int    // from 1
	kind  string // initial, retry, hedge
	attrs []attribute.KeyValue
}

// turnKey tells of a turn those who watch what gRPC makes of it.
type turnKey struct{}

// try makes an attempt with a span of its own, and counts it. With
// [WithAttempts] both are done by who watches gRPC.
func (c *Call) try(ctx context.Context, t turn, next Next) (err error) {
	r := rpcFromContext(ctx, ClientSide)
	if c.m == nil || r == nil || !r.observed {
		return next(ctx)
	}
	e := r.engine()
	if e.attempts {
		t.call = c
		return next(context.WithValue(ctx, turnKey{}, &t))
	}
	var span trace.Span
	if e.tracer != nil {
		ctx, span = r.startSpan(ctx, attemptPrefix+c.m.name, trace.WithAttributes(append(t.attrs,
			previousAttemptsKey.Int(t.n-1), transparentRetryKey.Bool(false))...))
	}
	returned := false
	defer func() {
		ended := err
		if !returned {
			ended = errors.Internal(errPanicked)
		}
		r.endAttempt(ctx, span, t.kind, ended, time.Now())
	}()
	err = next(ctx)
	returned = true
	return err
}

// isOf tells whether the attempt is one at c or at what c is a fork of, and not at a
// call whose interceptors make c with its context.
func (t *turn) isOf(c *Call) bool {
	return t.call == c || c.isFork() && c.added.fork.of == t.call
}

// againKey tells of a turn that has others before it.
type againKey struct{}

// again returns the context of an attempt that has others before it, of which
// counted tells the server.
func (c *Call) again(ctx context.Context, previous int) context.Context {
	c.add()
	return context.WithValue(ctx, againKey{}, &turn{call: c, n: previous + 1})
}

// counted returns ctx, with which the call is sent, with what gRPC says to the server
// of attempts before this one.
func (c *Call) counted(ctx context.Context) context.Context {
	if c.added == nil { // nor is there an again
		return ctx
	}
	t, ok := ctx.Value(againKey{}).(*turn)
	if !ok || !t.isOf(c) {
		return ctx
	}
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = metadata.MD{}
	}
	md.Set(previousAttemptsHeader, strconv.Itoa(t.n-1))
	return metadata.NewOutgoingContext(ctx, md)
}

// committed tells whether no other attempt can be made: something of this one
// has reached the caller, or what the caller sent is not at hand any more.
func (c *Call) committed(ctx context.Context) bool {
	s, ok := ctx.Value(chainedKey{}).(*chainedStream)
	return ok && &s.r.call == c && s.current() != nil && !s.replayable()
}

// retriedByGRPC tells whether the service config has a retry policy for the
// method.
func (c *Call) retriedByGRPC(ctx context.Context) bool {
	r := rpcFromContext(ctx, ClientSide)
	if r == nil || r.conn() == nil {
		return false
	}
	return r.conn().GetMethodConfig(c.FullMethod).RetryPolicy != nil
}

// stopRetrying counts a failure that would have been retried but for reason.
func (c *Call) stopRetrying(ctx context.Context, reason string) {
	c.AddAttributes(retryStoppedKey.String(reason))
	if c.m == nil || !c.m.e.retriesStopped.Enabled(ctx) {
		return
	}
	c.m.e.retriesStopped.Add(ctx, 1, c.m.with(retryStoppedKey.String(reason)))
}
