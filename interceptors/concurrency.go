package interceptors

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// ErrConcurrencyLimit is what a caller gets whom [ConcurrencyLimit] sheds:
// Unavailable, with a google.rpc.RetryInfo.
var ErrConcurrencyLimit = errors.Define(codes.Unavailable, "rpcscope", "CONCURRENCY_LIMIT", "too many calls at the same time")

// ConcurrencyLimit lets limit calls run at the same time, and sheds what is more with
// [ErrConcurrencyLimit]. It never queues: who waits holds memory and a deadline
// that is running out, and another server may be idle.
//
// A call holds its place until it has ended, a stream too, however long it
// lasts. Health checks (grpc.health.v1.Health) are exempt: a server that is busy
// is not ill. The status says in its google.rpc.RetryInfo to come back in half a
// second, give or take half of that, so that those who were shed together do not
// return together, and the trailer grpc-retry-pushback-ms tells the same to gRPC
// clients that retry. It is counted in rpcscope.server.rejected, with the reason
// concurrency; rpcscope.server.concurrency.limit has the limit.
//
// It panics if limit is not positive. The limit is that of the interceptor: where it
// is installed twice, the calls of both count.
func ConcurrencyLimit(limit int) Interceptor {
	return concurrencyLimit("ConcurrencyLimit", limit, nil)
}

// ConcurrencyLimitBy is [ConcurrencyLimit] that sheds what matters least first:
// calls of [PriorityLow] may have one half of the places, those of
// [PriorityNormal] nine tenths, and those of [PriorityHigh] all. Without a
// function, with nil, all calls may have all.
func ConcurrencyLimitBy(limit int, priority PriorityFunc) Interceptor {
	return concurrencyLimit("ConcurrencyLimitBy", limit, priority)
}

func concurrencyLimit(function string, limit int, priority PriorityFunc) Interceptor {
	if limit < 1 {
		panic(fmt.Sprintf("interceptors: %s: limit is %d, want 1 or more", function, limit))
	}
	var p places
	gauge := &limitGauge{kind: "concurrency"}
	return func(ctx context.Context, call *Call, next Next) error {
		if healthCheck(call) {
			return next(ctx)
		}
		gauge.tell(call, limit)
		if !p.take(priority.share(ctx, call, limit)) {
			return shed(ctx, call, reasonConcurrency, ErrConcurrencyLimit)
		}
		defer p.taken.Add(-1)
		return next(ctx)
	}
}

// Priority is how much a call matters when a server has to shed some. The zero
// value is PriorityNormal; values beyond the three are like the nearest.
type Priority int8

// The priorities, by when calls are shed.
const (
	PriorityLow    Priority = iota - 1 // first: what can be done later, such as batches
	PriorityNormal                     // next
	PriorityHigh                       // last: what somebody waits for, or what keeps other things going
)

// PriorityFunc says how much a call matters. It must not change the call, and is
// called by many goroutines at the same time. If it panics, that is reported to
// [otel.Handle] and the call has PriorityNormal.
type PriorityFunc func(ctx context.Context, call *Call) Priority

// share is how many of limit places calls like this one may fill.
func (f PriorityFunc) share(ctx context.Context, call *Call, limit int) int {
	if f == nil {
		return limit
	}
	switch p := f.of(ctx, call); {
	case p < PriorityNormal:
		return limit - limit/2
	case p == PriorityNormal:
		return limit - limit/10
	}
	return limit
}

func (f PriorityFunc) of(ctx context.Context, call *Call) Priority {
	defer survive("PriorityFunc: the function", call)
	return f(ctx, call)
}

// places are what running calls hold.
type places struct{ taken atomic.Int64 }

func (p *places) take(limit int) bool {
	for {
		n := p.taken.Load()
		if n >= int64(limit) {
			return false
		}
		if p.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

var healthCheck = Methods("/grpc.health.v1.Health/*")

const reasonConcurrency = "concurrency"

// shed refuses a call that there is no place for.
func shed(ctx context.Context, call *Call, reason string, err *errors.Error) error {
	call.reject(ctx, reason)
	wait := jittered(time.Second / 2)
	pushBack(call, wait)
	return err.WithRetry(wait)
}

// limitGauge is what a limit is at the moment.
type limitGauge struct {
	kind  string
	limit atomic.Int64
}

const limitKindKey = attribute.Key("rpcscope.limit.kind")

// tell notes the limit for those who ask about the engine that made the call.
func (g *limitGauge) tell(call *Call, limit int) {
	g.limit.Store(int64(limit))
	if call.m != nil {
		note(&call.m.e.limits, g)
	}
}

// observeLimits makes rpcscope.server.concurrency.limit tell of the limits that calls
// of the engine have met, at the moment somebody wants to know: of several of one
// kind the lowest.
func (e *engine) observeLimits(meter metric.Meter) error {
	if e.side != ServerSide {
		return nil
	}
	gauge, err := meter.Int64ObservableGauge("rpcscope.server.concurrency.limit",
		metric.WithDescription("Calls that may run at the same time, as ConcurrencyLimit and AdaptiveLimit have it."), metric.WithUnit("{call}"))
	if err != nil {
		return err
	}
	return e.whenAsked(meter, gauge, func(e *engine, o metric.Observer) {
		lowest := map[string]int64{}
		for g := range e.limits.Range {
			g := g.(*limitGauge)
			limit := g.limit.Load()
			if l, ok := lowest[g.kind]; !ok || limit < l {
				lowest[g.kind] = limit
			}
		}
		for kind, limit := range lowest {
			o.ObserveInt64(gauge, limit, metric.WithAttributes(limitKindKey.String(kind)))
		}
	})
}
