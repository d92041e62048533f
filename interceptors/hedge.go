package interceptors

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// HedgePolicy tells [Hedge] when it makes another attempt beside those that are
// under way. The zero value is a policy too: each field has the default that it
// names.
type HedgePolicy struct {
	// MaxAttempts is how many attempts there are, the first one included. The
	// default is 2; 1 means that nothing is hedged.
	MaxAttempts int

	// Delay is how long an attempt may take before another one is made beside
	// it, by default 100 ms. A good value is what 95 of 100 calls take less
	// than: then one call in twenty is made twice.
	Delay time.Duration

	// NonFatal are the codes after which the others go on, and the next one is
	// made at once; the default is UNAVAILABLE only. Any other failure is that of
	// the call.
	NonFatal []codes.Code

	// Budget is that of [RetryPolicy].
	Budget float64
}

// Hedge makes a unary call again while an attempt is still under way, takes the
// first answer and cancels the rest: the slowest calls become fewer, for a few
// calls more. It is for methods that may run several times at once, and only for
// them:
//
//	interceptors.For(interceptors.Methods("/users.v1.UserService/GetUser"), interceptors.Hedge(interceptors.HedgePolicy{}))
//
// Each attempt has a reply, call options' targets and a Call of its own; the
// interceptors that come after Hedge run in each of them, at the same time.
// What they replace they must replace in their Call, and not change in place.
// Hedge returns when all attempts have ended, which the cancelled ones do at
// once.
//
// Each attempt is a child span of the call's and is counted in
// rpcscope.client.attempts as initial or hedge, the cancelled ones with
// CANCELLED. With a [Retry] around it the attempts of both are spans and counted.
// What the server asks for with grpc-retry-pushback-ms is done, as
// gRPC's proposal A6 says. It passes streams through, and does nothing on a
// server, inside of another Hedge and, like [Retry], for methods that the
// connection's service config has a retry policy for. It panics if the policy makes
// no sense.
func Hedge(p HedgePolicy) Interceptor {
	p = p.checked()
	budgets := newBudgets(p.Budget)
	return func(ctx context.Context, call *Call, next Next) error {
		if call.Side != ClientSide || call.Kind != Unary || call.m == nil || call.isFork() || call.retriedByGRPC(ctx) {
			return next(ctx)
		}
		h := &hedging{HedgePolicy: p, call: call, next: next, budget: budgets.of(call.Target()), ended: make(chan hedged)}
		return h.run(ctx)
	}
}

func (p HedgePolicy) checked() HedgePolicy {
	refuse := refuser("Hedge: HedgePolicy")
	switch {
	case p.MaxAttempts < 0:
		refuse("MaxAttempts", p.MaxAttempts, "at least 1, or 0 for the default of 2")
	case p.Delay < 0:
		refuse("Delay", p.Delay, "more than 0, or 0 for the default of 100ms")
	}
	setDefault(&p.MaxAttempts, 2)
	setDefault(&p.Delay, 100*time.Millisecond)
	p.Budget = checkedBudget(refuse, p.Budget)
	p.NonFatal = checkedFailures(refuse, "NonFatal", p.NonFatal)
	return p
}

// hedging is one call with Hedge around it.
type hedging struct {
	HedgePolicy
	call   *Call
	next   Next
	budget *budget

	ended          chan hedged
	made, underWay int
}

// hedged is how an attempt ended.
type hedged struct {
	fork     *fork
	err      error
	panicked any
}

func (h *hedging) run(ctx context.Context) error {
	if err := run(h.call.sendHooks(), h.call.Request); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	h.call.hedged = true
	h.call.add().winner = nil // of an attempt before
	h.start(ctx)
	result := h.first(ctx)
	cancel()
	for ; h.underWay > 0; h.underWay-- {
		if other := <-h.ended; other.panicked != nil {
			result.panicked = other.panicked
		}
	}
	if result.panicked != nil {
		panic(result.panicked)
	}
	h.take(result.fork)
	if result.err != nil {
		return result.err
	}
	return run(h.call.receiveHooks(), h.call.Response)
}

// first returns the attempt that decides the call.
func (h *hedging) first(ctx context.Context) (result hedged) {
	another := time.NewTimer(h.Delay)
	defer another.Stop()
	for {
		var done <-chan struct{} // of the call, when there is no attempt that notices
		if h.underWay == 0 {
			done = ctx.Done()
		}
		select {
		case <-done:
			return result
		case <-another.C:
			if h.may() {
				h.start(ctx)
				another.Reset(h.Delay)
			} else if h.underWay == 0 {
				return result
			}
		case result = <-h.ended:
			h.underWay--
			if h.decides(ctx, result, another) {
				return result
			}
		}
	}
}

// decides tells whether result is that of the call, and if not sees to the next
// attempt.
func (h *hedging) decides(ctx context.Context, result hedged, another *time.Timer) bool {
	if result.panicked != nil {
		return true
	}
	if result.err == nil {
		h.budget.succeeded()
		return true
	}
	if over(ctx) || !slices.Contains(h.NonFatal, errors.Code(result.err)) {
		return true
	}
	if !refusedHere(result.err) {
		h.budget.failed()
	}
	var pushback time.Duration
	var pushed bool
	if result.fork != nil {
		pushback, pushed = pushbackOf(result.fork.call.Trailer())
	}
	switch {
	case pushed && pushback < 0:
		h.made = h.MaxAttempts
	case pushed:
		another.Reset(pushback)
	case h.may():
		h.start(ctx)
		another.Reset(h.Delay)
	}
	return h.underWay == 0 && (h.made >= h.MaxAttempts || !pushed)
}

func (h *hedging) may() bool { return h.made < h.MaxAttempts && h.budget.allows() }

// start makes another attempt.
func (h *hedging) start(ctx context.Context) {
	t := turn{n: h.made + 1, kind: "initial"}
	if h.made > 0 {
		t.kind = "hedge"
		ctx = h.call.again(ctx, h.made)
	}
	h.made++
	h.underWay++
	go func() {
		result := hedged{err: errPanicked}
		defer func() {
			result.panicked = recover()
			h.ended <- result
		}()
		result.err = h.call.try(ctx, t, func(ctx context.Context) error {
			result.fork = h.call.fork(ctx)
			return h.next(&result.fork.rpc)
		})
	}()
}

// take makes the outcome of an attempt that of the call.
func (h *hedging) take(f *fork) {
	if f == nil { // it left before it began
		return
	}
	h.call.added.winner = f
	h.call.sent.Store(f.call.Sent())
	h.call.received.Store(f.call.Received())
	h.call.header, h.call.trailer, h.call.Response = f.call.header, f.call.trailer, f.call.Response
	h.call.ctx, h.call.added.deadline = f.call.ctx, f.call.added.deadline
	if more := f.call.added.attributes; len(more) > 0 {
		h.call.AddAttributes(more...)
	}
}
