package interceptors

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/errors"
)

// What a breaker is told about calls that did not go well.
var (
	errServiceFailed  = errors.New("interceptors: the service failed")
	errNothingLearned = errors.New("interceptors: nothing was learned about the service")
)

// maxBreakers bounds those of one CircuitBreaker.
const maxBreakers = 1024

// breakers are those of one CircuitBreaker.
type breakers struct {
	BreakerPolicy

	clock atomic.Int64
	mu    sync.RWMutex
	known map[breakerKey]*breaker
}

func newBreakers(p BreakerPolicy) *breakers {
	return &breakers{BreakerPolicy: p, known: map[breakerKey]*breaker{}}
}

// breakerKey is what the calls have in common that share a breaker.
type breakerKey struct{ target, name string }

func (s *breakers) of(call *Call) *breaker {
	if call.m != nil {
		note(&call.m.e.breakers, s)
	}
	key := breakerKey{target: call.Target()}
	switch s.Per {
	case PerService:
		key.name = call.Service()
	case PerMethod:
		key.name = call.FullMethod
	case PerTarget:
		key.name = "*"
	}
	s.mu.RLock()
	b := s.known[key]
	s.mu.RUnlock()
	if b == nil {
		b = s.add(key)
	}
	b.used.Store(s.clock.Add(1))
	return b
}

func (s *breakers) add(key breakerKey) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.known[key]; b != nil {
		return b
	}
	if len(s.known) >= maxBreakers {
		s.forgetOldest()
	}
	b := newBreaker(key, &s.BreakerPolicy)
	s.known[key] = b
	return b
}

func (s *breakers) forgetOldest() {
	var oldest breakerKey
	var used int64
	for key, b := range s.known {
		if at := b.used.Load(); used == 0 || at < used {
			oldest, used = key, at
		}
	}
	delete(s.known, oldest)
}

// breaker is the state that the calls of a key share.
type breaker struct {
	name    string
	openFor time.Duration
	attrs   []attribute.KeyValue
	level   metric.ObserveOption // has attrs
	used    atomic.Int64         // when, by the clock of breakers

	mu    sync.Mutex // held around all uses of steps
	steps *gobreaker.TwoStepCircuitBreaker[struct{}]
	state gobreaker.State
	moved move      // what steps changed, and tell has not told
	until time.Time // when an open breaker lets calls through
}

// move is a change of state; of one to the same there is none.
type move struct{ from, to gobreaker.State }

func newBreaker(key breakerKey, p *BreakerPolicy) *breaker {
	name := strings.TrimPrefix(key.name, "/")
	b := &breaker{name: name, openFor: p.OpenFor}
	b.attrs = append(targetAddress(key.target), breakerNameKey.String(name))
	b.level = metric.WithAttributeSet(attribute.NewSet(slices.Clone(b.attrs)...)) // NewSet sorts what it is given
	threshold := uint32(p.FailureThreshold)
	b.steps = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  uint32(p.HalfOpenCalls),
		Timeout:      max(p.OpenFor-1, 1), // it wants more than that to have passed
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= threshold },
		IsExcluded:   func(err error) bool { return errors.Is(err, errNothingLearned) },
		IsSuccessful: func(err error) bool { return err == nil },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.state, b.moved = to, move{from, to}
			if to == gobreaker.StateOpen {
				b.until = time.Now().Add(p.OpenFor)
			}
		},
	})
	return b
}

var breakerStates = [...]string{gobreaker.StateClosed: "closed", gobreaker.StateHalfOpen: "half_open", gobreaker.StateOpen: "open"}

// admission is what a call gets of the breaker that it asked.
type admission struct {
	b      *breaker
	call   *Call
	done   func(error) // nil if the call is refused
	probe  *probe      // nil unless the breaker is half-open
	opened bool        // the breaker is open
}

func (t *admission) state() string {
	if t.opened {
		return breakerStates[gobreaker.StateOpen]
	}
	return breakerStates[gobreaker.StateHalfOpen]
}

// admit lets a call through, or says how long to wait.
func (b *breaker) admit(ctx context.Context, call *Call) (t admission, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	done, err := b.steps.Allow()
	b.tell(ctx, call)
	t = admission{b: b, call: call, done: done, opened: b.state == gobreaker.StateOpen}
	switch {
	case err == nil && b.state == gobreaker.StateHalfOpen:
		t.probe = &probe{}
	case t.opened:
		wait = max(time.Until(b.until), 1)
	case err != nil:
		wait = min(b.openFor, time.Second) // until the probes are over, which may be soon
	}
	return t, wait
}

// probe is a call that a half-open breaker let through.
type probe struct {
	timer    *time.Timer
	released bool // another one may be made in its place
	settled  bool
}

// watch settles the probe that a stream is, or gives its place to another one, before
// the call has ended.
func (t *admission) watch(ctx context.Context, call *Call) {
	watched := *t
	t.probe.timer = time.AfterFunc(t.b.openFor, watched.release)
	if call.Kind == Unary {
		return
	}
	answered := func() { watched.settle(ctx, nil) }
	call.onHeader(answered)
	call.OnReceive(func(any) error {
		answered()
		return nil
	})
}

// release gives up waiting for a probe. It still counts when it ends.
func (t *admission) release() {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if !t.probe.settled && !t.probe.released {
		t.probe.released = true
		t.done(errNothingLearned)
	}
}

// settle tells the breaker how the call fared; the first time counts.
func (t *admission) settle(ctx context.Context, result error) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	switch probe := t.probe; {
	case probe == nil:
		t.done(result)
	case !probe.settled:
		probe.settled = true
		probe.timer.Stop()
		if !probe.released || !errors.Is(result, errNothingLearned) {
			t.done(result)
		}
	}
	t.b.tell(ctx, t.call)
}

// tell records a change of the state, with mu held: when settle returns the call's
// span may end.
func (b *breaker) tell(ctx context.Context, call *Call) {
	m := b.moved
	b.moved = move{}
	if m.from == m.to || call.m == nil {
		return
	}
	attrs := append(b.attrs[:len(b.attrs):len(b.attrs)], breakerFromKey.String(breakerStates[m.from]), breakerToKey.String(breakerStates[m.to]))
	call.m.e.breakerMoves.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attrs...)))
	if r := rpcFromContext(ctx, ClientSide); r != nil && r.observed && r.engine().tracer != nil {
		// The innermost span: of the call, or of the attempt.
		trace.SpanFromContext(ctx).AddEvent("rpcscope.breaker.transition", trace.WithAttributes(attrs...))
	}
}

// now is the state as it is, whether or not a call has asked since.
func (b *breaker) now() gobreaker.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == gobreaker.StateOpen && !time.Now().Before(b.until) {
		return gobreaker.StateHalfOpen
	}
	return b.state
}

// observeBreakers makes rpcscope.client.breaker.state tell of the breakers that calls
// of the engine have asked, at the moment somebody wants to know: an open breaker
// becomes half-open while nothing happens.
func (e *engine) observeBreakers(meter metric.Meter) error {
	if e.side != ClientSide {
		return nil
	}
	state, err := meter.Int64ObservableGauge("rpcscope.client.breaker.state",
		metric.WithDescription("States of circuit breakers: 0 closed, 1 half-open, 2 open."), metric.WithUnit("{state}"))
	if err != nil {
		return err
	}
	return e.whenAsked(meter, state, func(e *engine, o metric.Observer) {
		e.eachBreaker(func(b *breaker) {
			o.ObserveInt64(state, int64(b.now()), b.level)
		})
	})
}

// eachBreaker calls f with every one that calls of the engine may have asked.
func (e *engine) eachBreaker(f func(*breaker)) {
	e.breakers.Range(func(s, _ any) bool {
		s.(*breakers).each(f)
		return true
	})
}

func (s *breakers) each(f func(*breaker)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.known {
		f(b)
	}
}
