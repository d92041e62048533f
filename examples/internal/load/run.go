package load

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Plan says how many calls are made, and when.
type Plan struct {
	Pace     Pace
	Duration time.Duration // no call begins later
	Calls    int64         // nor are there more of them; 0: Duration alone bounds them
	AtOnce   int           // callers; more calls are never under way
}

func (p Plan) calls() int64 {
	if p.Calls == 0 {
		return math.MaxInt64 / 2
	}
	return p.Calls
}

// Run makes the calls of p until it is done or ctx is, and tells tally of each. It waits for those under way, which do is
// to bound: its context ends with nothing. do gets the number of the call, counted from 0.
func (p Plan) Run(ctx context.Context, tally *Tally, do func(ctx context.Context, i int64) Outcome) {
	start := time.Now()
	detached := context.WithoutCancel(ctx)
	ctx, cancel := context.WithDeadline(ctx, start.Add(p.Duration))
	defer cancel()
	tally.begin(start)

	var taken atomic.Int64
	var callers sync.WaitGroup
	for range p.AtOnce {
		callers.Go(func() {
			for {
				i := taken.Add(1) - 1
				if i >= p.calls() || p.Pace(i) >= p.Duration {
					return
				}
				due := start.Add(p.Pace(i))
				if !until(ctx, due) {
					tally.stopped(time.Since(start))
					return
				}
				tally.started(time.Since(due))
				outcome := do(detached, i)
				tally.ended(outcome, time.Since(due))
			}
		})
	}
	callers.Wait()
	tally.finish(p)
}

// until waits for t. It returns false if ctx is done.
func until(ctx context.Context, t time.Time) bool {
	if wait := time.Until(t); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}
