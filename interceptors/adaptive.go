package interceptors

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// ErrOverloaded is what a caller gets whom [AdaptiveLimit] sheds: Unavailable,
// with a google.rpc.RetryInfo.
var ErrOverloaded = errors.Define(codes.Unavailable, "rpcscope", "OVERLOADED", "the server is overloaded")

// AdaptivePolicy configures [AdaptiveLimit]. Its zero value is useful.
type AdaptivePolicy struct {
	// Initial is the limit to begin with; zero is 20, or what is nearest to it
	// between Min and Max.
	Initial int

	// Min and Max are the least and the greatest limit; zero is 4 and 1000. While the
	// limit is halved, to find out what calls take, it may be half of Min.
	Min, Max int

	// Priority says what is shed first, in the shares of [ConcurrencyLimitBy].
	// nil lets all calls have all places.
	Priority PriorityFunc
}

// AdaptiveLimit is a [ConcurrencyLimit] that finds its limit by itself: as many
// calls as the server can work on at the same time, before they begin to wait
// for each other. What is more is shed with [ErrOverloaded], at once and without
// a queue, so that under any load those that are let in are answered in about the
// time that they take when there is little to do.
//
// It compares how long unary calls take, each method by itself, with how long
// they take when few run at the same time. While they take about as long, and the
// places are used, the limit grows by its square root in each window of a tenth of
// a second or four times what a call takes, whichever is longer; when they take
// longer it shrinks by as much, to one half at most. What calls take when few
// run is learned whenever no more than half of the places are taken. Where that
// does not happen by itself the limit is halved until twenty calls have shown it,
// for three seconds at most: a second after the start, and again after twice
// the time, up to half a minute. That costs about 1 % of what the server can do.
//
// Calls that succeed are measured, and those that end by their deadline, which
// would have taken longer. Errors are not: they are often quick. Streams hold a
// place until they end, but how long they take says nothing. A server that has
// mostly streams should have [ConcurrencyLimit] for them, and AdaptiveLimit, by
// [For], for the rest.
//
// Health checks are exempt, and shed calls are told when to come back as with
// ConcurrencyLimit. They are counted in rpcscope.server.rejected, with the reason
// overloaded; rpcscope.server.concurrency.limit has the limit.
//
// It panics unless 1 <= Min <= Initial <= Max, where what is zero is its default.
func AdaptiveLimit(p AdaptivePolicy) Interceptor {
	p.setDefaults()
	g := newGradient(p.Initial, p.Min, p.Max)
	gauge := &limitGauge{kind: "adaptive"}
	return func(ctx context.Context, call *Call, next Next) error {
		if healthCheck(call) {
			return next(ctx)
		}
		limit := g.now()
		gauge.tell(call, limit)
		ticket, ok := g.enter(p.Priority.share(ctx, call, limit), call.Kind != Unary)
		if !ok {
			return shed(ctx, call, reasonOverloaded, ErrOverloaded)
		}
		ended := false
		defer func() {
			if !ended { // a panic says nothing about time
				g.leave(ticket)
			}
		}()
		err := next(ctx)
		ended = true
		switch cut := errors.Code(err) == codes.DeadlineExceeded; {
		case call.Kind != Unary, err != nil && !cut:
			g.leave(ticket)
		default:
			g.measured(ticket, call.FullMethod, cut)
		}
		return err
	}
}

const reasonOverloaded = "overloaded"

func (p *AdaptivePolicy) setDefaults() {
	given := *p
	if p.Min == 0 {
		p.Min = 4
		if p.Max > 0 {
			p.Min = min(4, p.Max)
		}
	}
	if p.Max == 0 {
		p.Max = max(1000, p.Min)
	}
	if p.Initial == 0 {
		p.Initial = min(max(20, p.Min), p.Max)
	}
	if p.Min < 1 || p.Min > p.Initial || p.Initial > p.Max {
		panic(fmt.Sprintf("interceptors: AdaptiveLimit: Initial %d, Min %d, Max %d: want 1 <= Min <= Initial <= Max, or zero for the default",
			given.Initial, given.Min, given.Max))
	}
}

// How an adaptive limit learns.
const (
	windowTime    = 100 * time.Millisecond // at least
	windowCalls   = 20                     // at least
	windowLengths = 4                      // of the mean call, at least: in less the quick ones are too many
	tolerance     = 1.2                    // so many times as long as with little to do is as it should be
	restless      = 30 * time.Second       // so long without little to do, then it is made
	probeTime     = 3 * time.Second        // at most
	knownMethods  = 256                    // what is more is one
)
