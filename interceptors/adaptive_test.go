package interceptors_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// service works on as many calls at a time as it has workers, each for a while;
// the others wait in the order in which they came, whether or not anybody still
// waits for the answer.
type service struct {
	workers chan struct{}
	takes   func(*interceptors.Call) time.Duration
}

func (s *service) handle(call *interceptors.Call) interceptors.Next {
	return func(ctx context.Context) error {
		s.workers <- struct{}{}
		<-time.After(s.takes(call))
		<-s.workers
		return ctx.Err()
	}
}

// load is what clients ask for, and fate what becomes of it.
type load struct {
	perSecond float64
	method    string
	priority  string
	deadline  time.Duration
}

type fate struct {
	good, late, shed int
	latencies        []time.Duration // of those that were let in
}

// p99 is the latency that one in a hundred exceeds.
func (o *fate) quantile(q float64) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	slices.Sort(o.latencies)
	return o.latencies[int(q*float64(len(o.latencies)-1))]
}

type priorityKey struct{}

// simulate has clients call for a while, each at random times, and reports what
// became of the calls that began after the warm-up.
func simulate(t *testing.T, i interceptors.Interceptor, s *service, warmup, during time.Duration, loads ...load) []*fate {
	t.Helper()
	outcomes := make([]*fate, len(loads))
	type result struct {
		load    int
		err     error
		latency time.Duration
	}
	results := make(chan result)
	var pending atomic.Int64
	begun := time.Now()
	done := make(chan struct{})
	for n, l := range loads {
		outcomes[n] = new(fate)
		pending.Add(1)
		go func() {
			defer func() { results <- result{load: -1} }()
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for time.Since(begun) < warmup+during {
				<-time.After(time.Duration(random.ExpFloat64() / l.perSecond * 1e9))
				counts := time.Since(begun) >= warmup
				pending.Add(1)
				go func() {
					ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), priorityKey{}, l.priority), l.deadline)
					defer cancel()
					call := &interceptors.Call{FullMethod: l.method}
					start := time.Now()
					err := i(ctx, call, s.handle(call))
					r := result{n, err, time.Since(start)}
					if !counts {
						r.load = -1
					}
					results <- r
				}()
			}
		}()
	}
	go func() {
		defer close(done)
		for n := int64(0); n < pending.Load(); n++ {
			r := <-results
			if r.load < 0 {
				continue
			}
			o := outcomes[r.load]
			switch errors.Code(r.err) {
			case codes.OK:
				o.good++
				o.latencies = append(o.latencies, r.latency)
			case codes.Unavailable:
				o.shed++
			default:
				o.late++
				o.latencies = append(o.latencies, r.latency)
			}
		}
	}()
	<-done
	return outcomes
}

func always(d time.Duration) func(*interceptors.Call) time.Duration {
	return func(*interceptors.Call) time.Duration { return d }
}

// exponential is a duration of that mean.
func exponential(mean time.Duration) func(*interceptors.Call) time.Duration {
	random := rand.New(rand.NewPCG(3, 3))
	var mu = make(chan struct{}, 1)
	return func(*interceptors.Call) time.Duration {
		mu <- struct{}{}
		defer func() { <-mu }()
		return time.Duration(random.ExpFloat64() * float64(mean))
	}
}

func unlimited(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
	return next(ctx)
}

func adaptive() interceptors.Interceptor {
	return interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{})
}

const work = 40 * time.Millisecond // what a call takes

// However many workers there are and however large the overload is: what is
// answered in time stays near what the service can do, and those who are let in
// are answered soon. Without the limit next to nothing is answered in time.
func TestAdaptiveLimitKeepsGoodput(t *testing.T) {
	const warmup, during = 10 * time.Second, 15 * time.Second
	for workers, overloads := range map[int][]float64{4: {1.5, 10}, 16: {1.5, 4}, 64: {1.5}} {
		for _, overload := range overloads {
			for name, takes := range map[string]func(*interceptors.Call) time.Duration{"even": always(work), "uneven": exponential(work)} {
				t.Run(fmt.Sprintf("%d workers,%v times,%s", workers, overload, name), func(t *testing.T) {
					capacity := float64(workers) / work.Seconds()
					share := func(f *fate) float64 { return float64(f.good) / (capacity * during.Seconds()) }
					var with, without *fate
					for fate, i := range map[**fate]interceptors.Interceptor{&with: adaptive(), &without: unlimited} {
						synctest.Test(t, func(t *testing.T) {
							s := &service{make(chan struct{}, workers), takes}
							if fate == &with {
								i = adaptive() // its clock is that of the bubble
							}
							*fate = simulate(t, i, s, warmup, during, load{capacity * overload, unaryMethod, "", time.Second})[0]
						})
					}
					t.Logf("goodput %.2f of the capacity, median %v, p99 %v; without %.2f", share(with), with.quantile(0.5), with.quantile(0.99), share(without))
					if got := share(with); got < 0.9 {
						t.Errorf("%.2f of the capacity was used, want 0.9 at least", got)
					}
					if got, most := with.quantile(0.5), 3*work; got > most {
						t.Errorf("the median is %v, want at most %v", got, most)
					}
					if got, most := with.quantile(0.99), 10*work; got > most {
						t.Errorf("p99 is %v, want at most %v", got, most)
					}
					if got := share(without); got > 0.1 {
						t.Errorf("without the limit %.2f of the capacity was used: the test shows nothing", got)
					}
				})
			}
		}
	}
}

// A service that can do all that is asked for is left alone.
func TestAdaptiveLimitShedsNothingWithoutNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{make(chan struct{}, 64), exponential(work)}
		f := simulate(t, adaptive(), s, 5*time.Second, 20*time.Second, load{0.7 * 64 / work.Seconds(), unaryMethod, "", time.Second})[0]
		if all := f.good + f.shed + f.late; float64(f.shed+f.late) > 0.005*float64(all) {
			t.Errorf("of %d calls %d were shed and %d were late, want fewer than one in 200", all, f.shed, f.late)
		}
	})
}

// Half of the workers break down under load, and come back: the limit follows.
func TestAdaptiveLimitFollowsCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 16
		s := &service{make(chan struct{}, workers), exponential(work)}
		i, asked := adaptive(), load{1.5 * workers / work.Seconds(), unaryMethod, "", time.Second}
		capacity := workers / work.Seconds()
		for phase, broken := range []int{0, workers / 2, 0} {
			for range broken {
				s.workers <- struct{}{}
			}
			f := simulate(t, i, s, 15*time.Second, 20*time.Second, asked)[0]
			got := float64(f.good) / 20 / (capacity * float64(workers-broken) / workers)
			if got < 0.85 || f.quantile(0.99) > 12*work {
				t.Errorf("phase %d: %.2f of the capacity was used, p99 %v; want 0.85 and at most %v", phase, got, f.quantile(0.99), 12*work)
			}
			for range broken {
				<-s.workers
			}
		}
	})
}

// Methods are compared with themselves: when the quick calls go away and the
// slow ones stay, that is no overload.
func TestAdaptiveLimitOfSeveralMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 32
		s := &service{make(chan struct{}, workers), func(call *interceptors.Call) time.Duration {
			if call.FullMethod == unaryMethod {
				return 4 * time.Millisecond
			}
			return 200 * time.Millisecond
		}}
		i := adaptive()
		simulate(t, i, s, 0, 20*time.Second, load{1000, unaryMethod, "", time.Second}, load{60, bidiMethod, "", time.Second})
		if f := simulate(t, i, s, 0, 20*time.Second, load{130, bidiMethod, "", time.Second})[0]; f.shed+f.late > 50 {
			t.Errorf("beside %d slow calls that were answered %d were shed and %d late when the quick ones were gone, want next to none", f.good, f.shed, f.late)
		}
	})
}

// In an overload what matters least is shed first.
func TestAdaptiveLimitSimulatedPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 20
		capacity := workers / work.Seconds()
		s := &service{make(chan struct{}, workers), exponential(work)}
		i := interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Priority: func(ctx context.Context, _ *interceptors.Call) interceptors.Priority {
			if ctx.Value(priorityKey{}) == "low" {
				return interceptors.PriorityLow
			}
			return interceptors.PriorityHigh
		}})
		f := simulate(t, i, s, 10*time.Second, 20*time.Second,
			load{0.6 * capacity, unaryMethod, "high", time.Second}, load{3 * capacity, unaryMethod, "low", time.Second})
		high, low := float64(f[0].good)/20, float64(f[1].good)/20
		if high < 0.99*0.6*capacity {
			t.Errorf("%.0f of %.0f calls a second that matter were answered, want nearly all", high, 0.6*capacity)
		}
		if sum := (high + low) / capacity; sum < 0.85 {
			t.Errorf("%.2f of the capacity was used, want 0.85 at least", sum)
		}
	})
}

// Errors that come quickly, short deadlines and long streams say nothing about how
// much the service can do.
func TestAdaptiveLimitLearnsFromUnarySuccesses(t *testing.T) {
	for name, other := range map[string]func(context.Context, interceptors.Interceptor) error{
		"errors": func(ctx context.Context, i interceptors.Interceptor) error {
			return i(ctx, &interceptors.Call{FullMethod: unaryMethod}, func(context.Context) error { return errors.NotFound("at once") })
		},
		"deadlines": func(ctx context.Context, i interceptors.Interceptor) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return i(ctx, &interceptors.Call{FullMethod: unaryMethod}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		},
		"streams": func(ctx context.Context, i interceptors.Interceptor) error {
			return i(ctx, &interceptors.Call{FullMethod: unaryMethod, Kind: interceptors.ServerStream}, func(context.Context) error { <-time.After(time.Microsecond); return nil })
		},
		"panics": func(ctx context.Context, i interceptors.Interceptor) error {
			defer func() { _ = recover() }()
			return i(ctx, &interceptors.Call{FullMethod: unaryMethod}, func(context.Context) error { panic("at once") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const workers = 16
				capacity := workers / work.Seconds()
				s := &service{make(chan struct{}, workers), exponential(work)}
				i := interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Max: 20}) // more than half of which is a load
				ctx, stop := context.Background(), make(chan struct{})
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					for {
						select {
						case <-stop:
							return
						case <-time.After(2 * time.Millisecond):
							_ = other(ctx, i)
						}
					}
				}()
				simulate(t, i, s, 0, 10*time.Second, load{0.3 * capacity, unaryMethod, "", time.Second})
				close(stop) // what they taught is gone from now on
				<-stopped
				f := simulate(t, i, s, 0, 5*time.Second, load{0.7 * capacity, unaryMethod, "", time.Second})[0]
				if all := f.good + f.shed + f.late; float64(f.good) < 0.97*float64(all) {
					t.Errorf("of %d calls %d were shed and %d late, want fewer than 3 %%", all, f.shed, f.late)
				}
			})
		})
	}
}

// The halved limit, with which is found out what calls take, lasts for three seconds,
// also where nothing is found out since no call succeeds any more.
func TestAdaptiveLimitWithoutSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Initial: 20, Max: 20})
		var fails atomic.Bool
		ctx, stop := context.WithCancel(context.Background())
		var mu sync.Mutex
		var shed []time.Time
		var callers sync.WaitGroup
		for range 15 {
			callers.Go(func() {
				for ctx.Err() == nil {
					err := i(context.Background(), &interceptors.Call{FullMethod: unaryMethod}, func(context.Context) error {
						<-time.After(5 * time.Millisecond)
						if fails.Load() {
							return errors.Internal(errors.New("the database is down"))
						}
						return nil
					})
					if errors.Is(err, interceptors.ErrOverloaded) {
						mu.Lock()
						shed = append(shed, time.Now())
						mu.Unlock()
						fails.Store(true)
						<-time.After(time.Millisecond)
					}
				}
			})
		}
		<-time.After(time.Minute)
		stop()
		callers.Wait()
		if len(shed) == 0 {
			t.Fatal("no call was shed: the limit was never halved")
		}
		if lasted := shed[len(shed)-1].Sub(shed[0]); lasted > 3*time.Second || lasted < time.Second {
			t.Errorf("calls were shed for %v, want up to three seconds", lasted)
		}
	})
}

// Long streams hold places, and the others get what is left, which still follows
// the load.
func TestAdaptiveLimitBesideStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 16
		capacity := workers / work.Seconds()
		s := &service{make(chan struct{}, workers), always(work)}
		i, release, ended := adaptive(), make(chan struct{}), make(chan error)
		for range 500 { // have been, and leave nothing
			_ = i(context.Background(), &interceptors.Call{FullMethod: bidiMethod, Kind: interceptors.BidiStream}, func(context.Context) error { return nil })
		}
		for range 10 {
			go func() {
				ended <- i(context.Background(), &interceptors.Call{FullMethod: bidiMethod, Kind: interceptors.BidiStream}, func(context.Context) error { <-release; return nil })
			}()
		}
		f := simulate(t, i, s, 10*time.Second, 20*time.Second, load{3 * capacity, unaryMethod, "", time.Second})[0]
		if got := float64(f.good) / 20 / capacity; got < 0.9 || f.quantile(0.99) > 6*work {
			t.Errorf("%.2f of the capacity was used, p99 %v; want 0.9 and at most %v", got, f.quantile(0.99), 6*work)
		}
		close(release)
		for range 10 {
			if err := <-ended; err != nil {
				t.Errorf("a stream: %v", err)
			}
		}
	})
}
