package interceptors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// RetryPolicy tells [Retry] which failures it makes another attempt after, how
// many there are and when. The zero value is a policy too: each field has the
// default that it names.
type RetryPolicy struct {
	// MaxAttempts is how many attempts there are, the first one included. The
	// default is 3; 1 means that nothing is retried.
	MaxAttempts int

	// The wait before a retry is a random time of up to InitialBackoff, by
	// default 50 ms, before the first one, and Multiplier times as long, by
	// default 2, before each other, but never more than MaxBackoff, by default
	// a second. All of it is random ("full jitter"), so that callers who failed
	// together do not come back together.
	InitialBackoff, MaxBackoff time.Duration
	Multiplier                 float64

	// Codes are those that are worth another attempt; the default is
	// UNAVAILABLE only. A method that is not idempotent has no others: what it
	// failed with tells whether it may have done its work.
	Codes []codes.Code

	// PerAttemptTimeout is the time that each attempt has: of a unary call until
	// its end, of a server stream until the server has sent its headers, which
	// come with its first message at the latest, whenever the caller reads. An
	// attempt that takes longer is given up and made again, whatever Codes says.
	// The default, 0, leaves an attempt all the time that the call has; streams of
	// requests, which could not be made again, have that always.
	PerAttemptTimeout time.Duration

	// Budget keeps retries from making an overload worse: a server that fails
	// more than this share of its calls gets no retries until it does better.
	// The default is 0.1; a negative one is no limit. It works as the throttle
	// of gRPC's proposal A6, for each target: there are 10 tokens, a failure
	// takes one, a success gives Budget, and while there are 5 or less nothing
	// is retried.
	Budget float64
}

// Retry makes calls again that failed in a way that promises better luck: for
// unary calls, for server streams until the first message or the headers have
// reached the caller, and on streams of requests where the stream could not be opened. After
// that nothing can be made again without the caller noticing.
//
//	interceptors.DialOptions(interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 4, PerAttemptTimeout: time.Second}))
//
// The caller gets the outcome of the last attempt, and its [grpc.OnFinish] once. On a
// stream Header waits for the attempt that counts, and Context makes the current one
// the last, as in gRPC. What the server asks for is
// done: a grpc-retry-pushback-ms in the trailer is waited for, or ends the
// retrying if it is negative or no number; a RetryInfo is the least that is
// waited. Nothing is waited for past the deadline of the call: then the failure
// is returned at once. A call that the caller cancelled, or whose own deadline
// has passed, is not made again, nor is one that an open [CircuitBreaker] inside
// refuses: that is for failing fast.
//
// Each attempt is a child span of the call's with the server's below it, as with
// [WithAttempts]: "Attempt.users.v1.UserService/GetUser", with
// previous-rpc-attempts and, on a retry, rpcscope.retry.backoff_ms and
// rpcscope.retry.cause. It is counted in rpcscope.client.attempts as initial or
// retry, and a failure that was not retried though its code says so in
// rpcscope.client.retries.stopped, by the reason: attempts, breaker, budget,
// deadline, pushback or committed. The call is one span, one duration and one log record,
// which have rpcscope.retry.attempts where there were several.
//
// Put it outside of what is to happen for each attempt, such as [CircuitBreaker]
// and [Token]. For methods that the connection's service config has a retry
// policy for, which gRPC itself follows, Retry does nothing: attempts would
// multiply. The same policy for gRPC is [RetryServiceConfig].
// For one call [CallRetry] takes the policy's place. Of several Retry around a call
// the outermost counts, for the same reason; a loop of the caller's own around the
// call does multiply.
//
// It panics if the policy makes no sense. It does nothing on a server.
func Retry(p RetryPolicy) Interceptor {
	p = p.checked("Retry")
	budgets := newBudgets(p.Budget)
	return func(ctx context.Context, call *Call, next Next) error {
		if call.Side != ClientSide || call.retriedByGRPC(ctx) || retriedOutside(ctx, call) {
			return next(ctx)
		}
		r := &retrying{RetryPolicy: p, call: call, budget: budgets.of(call.Target())}
		if call.added != nil && call.added.overrides.retry != nil {
			r.RetryPolicy = *call.added.overrides.retry
		}
		return r.run(context.WithValue(ctx, retriedKey{}, call), next)
	}
}

// retriedKey has the *Call that a [Retry] looks after.
type retriedKey struct{}

// retriedOutside tells whether another Retry looks after the call already. A hedge
// has a Call of its own, of the same method and with the same start.
func retriedOutside(ctx context.Context, call *Call) bool {
	c, ok := ctx.Value(retriedKey{}).(*Call)
	return ok && (c == call || call.m != nil && c.m == call.m && c.start.Equal(call.start))
}

func (p RetryPolicy) checked(function string) RetryPolicy {
	refuse := refuser(function + ": RetryPolicy")
	switch {
	case p.MaxAttempts < 0:
		refuse("MaxAttempts", p.MaxAttempts, "at least 1, or 0 for the default of 3")
	case p.InitialBackoff < 0:
		refuse("InitialBackoff", p.InitialBackoff, "more than 0, or 0 for the default of 50ms")
	case p.MaxBackoff < 0:
		refuse("MaxBackoff", p.MaxBackoff, "more than 0, or 0 for the default of 1s")
	case p.Multiplier != 0 && !(p.Multiplier >= 1): // NaN too
		refuse("Multiplier", p.Multiplier, "at least 1, or 0 for the default of 2")
	case p.PerAttemptTimeout < 0:
		refuse("PerAttemptTimeout", p.PerAttemptTimeout, "more than 0, or 0 for none")
	}
	setDefault(&p.MaxAttempts, 3)
	setDefault(&p.InitialBackoff, 50*time.Millisecond)
	setDefault(&p.MaxBackoff, time.Second)
	setDefault(&p.Multiplier, 2)
	p.Budget = checkedBudget(refuse, p.Budget)
	p.Codes = checkedFailures(refuse, "Codes", p.Codes)
	if p.InitialBackoff > p.MaxBackoff {
		refuse("InitialBackoff", p.InitialBackoff, fmt.Sprintf("no more than MaxBackoff, which is %v", p.MaxBackoff))
	}
	return p
}

// backoff is a random wait before the nth retry, from 1.
func (p *RetryPolicy) backoff(n int) time.Duration {
	most := float64(p.InitialBackoff)
	for range n - 1 {
		if most *= p.Multiplier; most >= float64(p.MaxBackoff) {
			most = float64(p.MaxBackoff)
			break
		}
	}
	return time.Duration(rand.Int64N(int64(most) + 1))
}

// retrying is one call with Retry around it.
type retrying struct {
	RetryPolicy
	call   *Call
	budget *budget
	first  atomic.Pointer[firstMessage] // of server streams with a PerAttemptTimeout
}

func (r *retrying) run(ctx context.Context, next Next) error {
	if r.PerAttemptTimeout > 0 && r.call.Kind == ServerStream {
		r.call.OnReceive(func(any) error { return r.first.Load().received() })
	}
	var backoff time.Duration
	var last error
	for n := 1; ; n++ {
		t := turn{n: n, kind: "initial"}
		if n > 1 {
			t.kind = "retry"
			r.call.AddAttributes(retryAttemptsKey.Int(n))
			t.attrs = []attribute.KeyValue{retryBackoffKey.Int64(backoff.Milliseconds()), retryCauseKey.String(codeName(errors.Code(last)))}
		}
		timedOut, err := r.attempt(ctx, t, next)
		if err == nil {
			r.budget.succeeded()
			return nil
		}
		last = err
		if over(ctx) || !timedOut && !slices.Contains(r.Codes, errors.Code(err)) {
			return err
		}
		if r.call.retriedByGRPC(ctx) {
			return err // the service config came with the connection
		}
		var reason string
		if backoff, reason = r.next(ctx, n, err); reason != "" {
			r.call.stopRetrying(ctx, reason)
			return err
		}
		if err := sleep(ctx, backoff); err != nil {
			return err
		}
	}
}

// next says how long to wait before another attempt after the nth, which err
// ended; or why there is to be none.
func (r *retrying) next(ctx context.Context, n int, err error) (wait time.Duration, stop string) {
	if errors.Is(err, ErrBreakerOpen) {
		return 0, "breaker" // it says nothing new about the server
	}
	if !refusedHere(err) {
		r.budget.failed()
	}
	pushback, pushed := pushbackOf(r.call.Trailer())
	switch {
	case r.call.committed(ctx):
		return 0, "committed"
	case pushed && pushback < 0:
		return 0, "pushback"
	case n >= r.MaxAttempts:
		return 0, "attempts"
	case !r.budget.allows():
		return 0, "budget"
	}
	wait = r.backoff(n)
	if after, ok := errors.RetryAfter(err); ok {
		wait = max(wait, after)
	}
	if pushed {
		wait = pushback
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, "deadline"
	}
	return wait, ""
}

// attempt makes one, and tells whether it was given up after its own timeout.
func (r *retrying) attempt(ctx context.Context, t turn, next Next) (timedOut bool, err error) {
	if t.n > 1 {
		ctx = r.call.again(ctx, t.n-1)
	}
	switch {
	case r.PerAttemptTimeout > 0 && r.call.Kind == ServerStream:
		return r.streamAttempt(ctx, t, next)
	case r.PerAttemptTimeout <= 0 || r.call.Kind != Unary:
		return false, r.call.try(ctx, t, next)
	}
	limited, cancel := context.WithTimeout(ctx, r.PerAttemptTimeout)
	defer cancel()
	err = r.call.try(limited, t, next)
	return errors.Code(err) == codes.DeadlineExceeded && over(limited) && !over(ctx), err
}

// over tells whether ctx is done or will be at this moment: a server that keeps
// the same deadline may be the first to say so.
func over(ctx context.Context) bool {
	at, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && !time.Now().Before(at)
}

// streamAttempt limits the time until the server has answered, and not that of the
// stream. That there are headers is noticed also while the caller does not receive.
func (r *retrying) streamAttempt(ctx context.Context, t turn, next Next) (timedOut bool, err error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := new(firstMessage)
	r.first.Store(first)
	r.call.onHeader(func() { _ = first.received() })
	timer := time.AfterFunc(r.PerAttemptTimeout, func() { first.giveUp(func() { cancel(errAttemptTimeout) }) })
	defer timer.Stop()
	err = r.call.try(limited, t, next)
	return err != nil && first.isLate() && !over(ctx), err
}

// inTime is the error of an attempt at a stream for all who are inside of [Retry]:
// gRPC knows only that it was cancelled.
func inTime(ctx context.Context, err error) error {
	if err != nil && errors.Code(err) == codes.Canceled && errors.Is(context.Cause(ctx), errAttemptTimeout) {
		return errAttemptTimeout.WithCause(err)
	}
	return err
}

var errAttemptTimeout = errors.Define(codes.DeadlineExceeded, "rpcscope", "ATTEMPT_TIMEOUT", "no attempt was answered in time")

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const pushbackTrailer = "grpc-retry-pushback-ms"

// pushbackOf is what the server says about another attempt: to wait, or, with a
// negative time or anything that is none, to make none.
func pushbackOf(trailer metadata.MD) (wait time.Duration, ok bool) {
	values := trailer[pushbackTrailer]
	if len(values) == 0 {
		return 0, false
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil || ms < 0 || len(values) > 1 {
		return -1, true
	}
	return time.Duration(ms) * time.Millisecond, true
}
