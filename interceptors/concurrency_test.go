package interceptors_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// limits are the interceptors that shed, with a limit of two.
var limits = map[string]struct {
	make   func(interceptors.PriorityFunc) interceptors.Interceptor
	err    error
	reason string
	kind   string
}{
	"concurrency": {func(f interceptors.PriorityFunc) interceptors.Interceptor {
		if f == nil {
			return interceptors.ConcurrencyLimit(10)
		}
		return interceptors.ConcurrencyLimitBy(10, f)
	}, interceptors.ErrConcurrencyLimit, "concurrency", "concurrency"},
	"adaptive": {func(f interceptors.PriorityFunc) interceptors.Interceptor {
		return interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Initial: 10, Priority: f})
	}, interceptors.ErrOverloaded, "overloaded", "adaptive"},
}

// everyLimit runs f for each of them and each kind of call, in a bubble.
func everyLimit(t *testing.T, f func(t *testing.T, name string, kind interceptors.Kind)) {
	for name := range limits {
		t.Run(name, func(t *testing.T) {
			everyKind(t, func(t *testing.T, kind interceptors.Kind) {
				synctest.Test(t, func(t *testing.T) { f(t, name, kind) })
			})
		})
	}
}

// Calls hold their place until they end, streams too; what is more is shed at
// once, told when to come back, counted and noted.
func TestConcurrencyLimits(t *testing.T) {
	everyLimit(t, func(t *testing.T, name string, kind interceptors.Kind) {
		limit, release := limits[name], make(chan struct{})
		h := start(t, pausing(func() { <-release }), on(interceptors.ServerSide, limit.make(nil)))
		running := make(chan error)
		for range 10 {
			go func() { running <- h.call(context.Background(), kind) }()
		}
		synctest.Wait()
		begun := time.Now()
		waits := map[time.Duration]bool{}
		for range 5 {
			_, trailer, err := h.callMD(kind)
			d, ok := errors.RetryAfter(err)
			if !errors.Is(err, limit.err) || errors.Code(err) != codes.Unavailable || !ok || d < 250*time.Millisecond || d > 750*time.Millisecond {
				t.Fatalf("got %v, to come back in %v; want %v, in half a second, give or take half", err, d, limit.err)
			}
			if got := trailer.Get("grpc-retry-pushback-ms"); len(got) != 1 {
				t.Errorf("pushback is %q, want one", got)
			}
			waits[d] = true
		}
		if len(waits) == 1 {
			t.Errorf("all five were told to come back in %v; want jitter", waits)
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("who is shed waited for %v", d)
		}
		synctest.Wait()
		if got := h.tally("rpcscope.server.rejected", "rpcscope.rejected.reason"); got[limit.reason] != 5 {
			t.Errorf("rpcscope.server.rejected has %v, want 5 for %s", got, limit.reason)
		}
		shed := 0
		for _, r := range recordsOf(t, h, "server call") {
			if r["rpcscope.rejected.reason"] == limit.reason {
				shed++
			}
		}
		if shed != 5 {
			t.Errorf("%d records of the access log have the reason, want 5", shed)
		}
		if want := map[string]int64{limit.kind: 10}; !cmp.Equal(h.gauge("rpcscope.server.concurrency.limit", "rpcscope.limit.kind"), want) {
			t.Errorf("rpcscope.server.concurrency.limit is %v, want %v", h.gauge("rpcscope.server.concurrency.limit", "rpcscope.limit.kind"), want)
		}
		close(release)
		for range 10 {
			if err := <-running; err != nil {
				t.Errorf("a call that was let in: %v", err)
			}
		}
		for range 20 { // all places are free again
			if err := h.call(context.Background(), kind); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		}
	})
}

// gauge returns what a gauge has, by the value of a key.
func (h *harness) gauge(name string, key string) map[string]int64 {
	h.t.Helper()
	got := map[string]int64{}
	data, _ := h.metric(name).(metricdata.Gauge[int64])
	for _, p := range data.DataPoints {
		for _, kv := range p.Attributes.ToSlice() {
			if string(kv.Key) == key {
				got[kv.Value.AsString()] = p.Value
			}
		}
	}
	return got
}

// However a call ends, its place is free: errors, panics, callers that leave.
func TestConcurrencyLimitsFreePlaces(t *testing.T) {
	everyLimit(t, func(t *testing.T, name string, kind interceptors.Kind) {
		h := start(t, stubOf(func(s stream) error {
			md, _ := metadata.FromIncomingContext(s)
			switch md.Get("ending")[0] {
			case "error":
				return errors.NotFound("nothing")
			case "panic":
				panic("handler")
			}
			<-s.Done()
			return s.Err()
		}), on(interceptors.ServerSide, limits[name].make(nil)))
		for _, ending := range []string{"error", "panic", "wait"} {
			for range 25 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				err := h.call(metadata.AppendToOutgoingContext(ctx, "ending", ending), kind)
				cancel()
				if want := map[string]codes.Code{"error": codes.NotFound, "panic": codes.Internal, "wait": codes.DeadlineExceeded}[ending]; errors.Code(err) != want {
					t.Fatalf("%s: got %v, want %v", ending, err, want)
				}
				synctest.Wait()
			}
		}
	})
}

// Health checks are neither counted nor shed, watches included.
func TestConcurrencyLimitsExemptHealth(t *testing.T) {
	for name := range limits {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			h := start(t, pausing(func() { <-release }), func(h *harness) {
				h.register = func(s grpc.ServiceRegistrar) { healthpb.RegisterHealthServer(s, health.NewServer()) }
				on(interceptors.ServerSide, limits[name].make(nil))(h)
			})
			client := healthpb.NewHealthClient(h.conn)
			for range 30 {
				watch, err := client.Watch(h.ctx(), &healthpb.HealthCheckRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := watch.Recv(); err != nil {
					t.Fatalf("a watch: %v", err)
				}
			}
			running := make(chan error, 10)
			for range 10 { // for all of which there is room beside the watches
				go func() { running <- h.call(h.ctx(), interceptors.Unary) }()
			}
			h.eventually("the server to be full", func() bool {
				var n int64
				for _, v := range h.tally("rpcscope.server.active_calls", "rpc.method") {
					n += v
				}
				return n == 10
			})
			for range 30 {
				if _, err := client.Check(h.ctx(), &healthpb.HealthCheckRequest{}); err != nil {
					t.Fatalf("a check while the server is full: %v", err)
				}
			}
			close(release)
			for range 10 {
				if err := <-running; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What matters least is shed first.
func TestConcurrencyLimitsShedByPriority(t *testing.T) {
	priority := func(ctx context.Context, _ *interceptors.Call) interceptors.Priority {
		switch ctx.Value(priorityKey{}) {
		case "low":
			return interceptors.PriorityLow
		case "lowest":
			return -100
		case "high":
			return interceptors.PriorityHigh
		case "highest":
			return 100
		case "panic":
			panic("priority")
		}
		return interceptors.PriorityNormal
	}
	handler := otel.GetErrorHandler()
	t.Cleanup(func() { otel.SetErrorHandler(handler) })
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // about the priority that panics
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			for first, want := range map[string][]int{ // how many low, then normal, then high ones are let in
				"low": {5, 4, 1}, "lowest": {5, 4, 1}, "": {9, 0, 1}, "panic": {9, 0, 1}, "high": {10, 0, 0}, "highest": {10, 0, 0},
			} {
				synctest.Test(t, func(t *testing.T) {
					i, release := limit.make(priority), make(chan struct{})
					results := make(chan error)
					let := func(p string) (n int) {
						for range 20 {
							go func() {
								results <- i(context.WithValue(context.Background(), priorityKey{}, p), &interceptors.Call{FullMethod: unaryMethod},
									func(context.Context) error { <-release; return nil })
							}()
						}
						synctest.Wait()
						for {
							select {
							case err := <-results:
								if !errors.Is(err, limit.err) {
									t.Errorf("got %v, want %v", err, limit.err)
								}
								n++
								synctest.Wait()
							default:
								return 20 - n
							}
						}
					}
					got := []int{let(first), let(""), let("high")}
					if !slices.Equal(got, want) {
						t.Errorf("%q first: %v were let in, want %v", first, got, want)
					}
					close(release)
					for range got[0] + got[1] + got[2] {
						if err := <-results; err != nil {
							t.Error(err)
						}
					}
				})
			}
		})
	}
}

func TestConcurrencyLimitsConformance(t *testing.T) {
	t.Parallel()
	for name, i := range map[string]interceptors.Interceptor{
		"concurrency": interceptors.ConcurrencyLimit(1000),
		"adaptive":    interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Min: 1000}),
	} {
		t.Run(name, func(t *testing.T) { interceptorstest.Run(t, i) })
	}
}

// Nothing on the accepted path.
func TestConcurrencyLimitsAllocations(t *testing.T) {
	next := func(context.Context) error { return nil }
	for name, limit := range limits {
		i, call := limit.make(nil), &interceptors.Call{FullMethod: unaryMethod}
		if n := testing.AllocsPerRun(1000, func() { _ = i(context.Background(), call, next) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
