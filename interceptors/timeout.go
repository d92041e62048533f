package interceptors

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// ErrTimeout is what a call ends with when the time is up that [Timeout] or
// [MaxTimeout] gave it. Where the deadline was the caller's own, the call ends
// with a plain DeadlineExceeded.
var ErrTimeout = errors.Define(codes.DeadlineExceeded, "rpcscope", "TIMEOUT", "the time limit of the call has passed")

// Timeout gives a deadline, d from the moment it runs, to calls whose caller set
// none. What the caller did set stays as it is; see [MaxTimeout] for a limit to
// that. It panics if d is not positive.
//
//	interceptors.For(interceptors.Methods("/reports.v1.ReportService/*"), interceptors.Timeout(time.Minute)),
//	interceptors.For(interceptors.Methods("/users.v1.UserService/*"), interceptors.Timeout(2*time.Second), interceptors.MaxTimeout(10*time.Second)),
//
// Where several apply to a call the shortest counts. On a stream the deadline is
// that of the whole call, on both sides: one that is healthy and watches something
// ends too, unless [For] keeps streams out. Put it first: what comes before it has
// no deadline, and on a client it is that of all attempts together.
//
// On a server a stream whose deadline passes has ended for the caller at once,
// and whatever the handler is waiting for of gRPC fails. A unary handler is told
// through its context and answers itself; none is left behind. One that does not
// look at its context cannot be stopped: what it returns late is the outcome of the
// call, OK included, and remaining_ms below is negative. Where the time was up and the
// handler gave up for it, the error is [ErrTimeout], and rpcscope.server.rejected
// counts the call with the reason "timeout".
//
// On a client [CallTimeout] takes its place for one call.
//
// Span and access log have rpcscope.deadline.budget_ms, the time that the call
// had when it began, rpcscope.deadline.remaining_ms, what was left of it at the
// end, negative if that came late, and rpcscope.deadline.source, which is
// caller, default (Timeout) or maximum (MaxTimeout). Metrics of the calls that have
// one are rpcscope.server.deadline.budget, in seconds, and
// rpcscope.server.deadline.used, the share of it that they took: more than 1 if they
// came late. On a client they are rpcscope.client.deadline.*.
func Timeout(d time.Duration) Interceptor {
	mustLast("Timeout", d)
	return func(ctx context.Context, call *Call, next Next) error {
		if !call.hasDeadline() {
			defer call.tellDeadline(ctx)
		}
		if at, ok := callersDeadline(ctx, call); ok {
			call.add().deadline.meet(at)
			return next(ctx)
		}
		d := d
		if call.added != nil && call.added.overrides.timeout != nil {
			if d = *call.added.overrides.timeout; d == 0 {
				return next(ctx)
			}
		}
		return limited(ctx, call, next, d, "default")
	}
}

// MaxTimeout gives calls a deadline at most d from the moment it runs, also where
// the caller set a later one or none. For the rest it is like [Timeout], with
// which it goes together: then MaxTimeout limits what callers ask for, and
// Timeout is for those who do not. It panics if d is not positive.
func MaxTimeout(d time.Duration) Interceptor {
	mustLast("MaxTimeout", d)
	return func(ctx context.Context, call *Call, next Next) error {
		if !call.hasDeadline() {
			defer call.tellDeadline(ctx)
		}
		return limited(ctx, call, next, d, "maximum")
	}
}

func mustLast(function string, d time.Duration) {
	if d <= 0 {
		panic(fmt.Sprintf("interceptors: %s(%v): no call could succeed; want more than zero", function, d))
	}
}

// callersDeadline is the one that the call came with.
func callersDeadline(ctx context.Context, call *Call) (time.Time, bool) {
	if r := call.rpcIn(ctx); r != nil {
		ctx = r.Context
	}
	return ctx.Deadline()
}

// limited calls next with a deadline after d, unless there is a sooner one.
func limited(ctx context.Context, call *Call, next Next, d time.Duration, source string) error {
	at := time.Now().Add(d)
	if sooner, ok := ctx.Deadline(); ok && !at.Before(sooner) {
		call.add().deadline.meet(sooner)
		return next(ctx)
	}
	call.add().deadline = deadline{at, source}
	ctx, cancel := context.WithDeadlineCause(ctx, at, ErrTimeout)
	defer cancel()
	err := next(ctx)
	if err == nil || errors.Code(err) != codes.DeadlineExceeded || !over(ctx) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ErrTimeout) {
		return err // the caller's end came first
	}
	if !call.add().deadline.at.Equal(at) {
		return err // the one further inside, which was sooner, has said so
	}
	call.reject(ctx, "timeout")
	if domain, reason := errors.Reason(err); domain == "" && reason == "" {
		return errors.Wrap(err, ErrTimeout)
	}
	return err
}

// The attributes of a call that Timeout or MaxTimeout has seen.
const (
	deadlineBudgetKey    = attribute.Key("rpcscope.deadline.budget_ms")
	deadlineRemainingKey = attribute.Key("rpcscope.deadline.remaining_ms")
	deadlineSourceKey    = attribute.Key("rpcscope.deadline.source")
)

// hasDeadline tells whether Timeout or MaxTimeout has given the call a deadline, or met
// its caller's.
func (c *Call) hasDeadline() bool { return c.added != nil && !c.added.deadline.at.IsZero() }

// tellDeadline records what time the call had, and what share of that it took.
func (c *Call) tellDeadline(ctx context.Context) {
	r := c.rpcIn(ctx)
	if r == nil || !r.observed || !c.hasDeadline() {
		return
	}
	budget, used := c.added.deadline.at.Sub(c.start).Seconds(), 1.0
	if budget > 0 {
		used = time.Since(c.start).Seconds() / budget
	}
	c.m.e.deadlineBudget.Record(ctx, max(budget, 0), c.m.record...)
	c.m.e.deadlineUsed.Record(ctx, used, c.m.record...)
}

// deadline is that of a call, and who set it.
type deadline struct {
	at     time.Time
	source string
}

// meet notes a deadline that there was already.
func (d *deadline) meet(at time.Time) {
	if !d.at.Equal(at) {
		*d = deadline{at, "caller"}
	}
}

func (d *deadline) appendAttributes(attrs []attribute.KeyValue, start time.Time) []attribute.KeyValue {
	if d.at.IsZero() {
		return attrs
	}
	return append(attrs,
		deadlineBudgetKey.Int64(d.at.Sub(start).Milliseconds()),
		deadlineRemainingKey.Int64(time.Until(d.at).Milliseconds()),
		deadlineSourceKey.String(d.source))
}
