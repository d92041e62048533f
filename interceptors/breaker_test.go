package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// moody is a server whose calls fail with code, unless that is OK, and count.
type moody struct {
	code  atomic.Uint32
	calls atomic.Int64
	after func() error // what other calls do before they are handled; nil: nothing
}

func (m *moody) set(code codes.Code) { m.code.Store(uint32(code)) }

func (m *moody) intercept(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
	m.calls.Add(1)
	if code := codes.Code(m.code.Load()); code != codes.OK {
		return status.Error(code, "moody")
	}
	if m.after != nil {
		if err := m.after(); err != nil {
			return err
		}
	}
	return next(ctx)
}

// guarded starts a server of moods whose client has a breaker.
func guarded(t *testing.T, s *stub, m *moody, p interceptors.BreakerPolicy, inner ...interceptors.Interceptor) *harness {
	return start(t, s, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
		on(interceptors.ClientSide, append([]interceptors.Interceptor{interceptors.CircuitBreaker(p)}, inner...)...)(h)
	})
}

// fail makes n calls that the service fails.
func (h *harness) fail(m *moody, n int) {
	h.t.Helper()
	m.set(codes.Unavailable)
	for range n {
		if err := h.call(context.Background(), interceptors.Unary); status.Code(err) != codes.Unavailable || errors.Is(err, interceptors.ErrBreakerOpen) {
			h.t.Fatalf("the call ended with %v, want the service's Unavailable", err)
		}
	}
	m.set(codes.OK)
}

// states are those of all breakers, by name.
func (h *harness) states() map[string]int64 {
	h.t.Helper()
	got := map[string]int64{}
	if data, ok := h.metric("rpcscope.client.breaker.state").(metricdata.Gauge[int64]); ok {
		for _, p := range data.DataPoints {
			name, _ := p.Attributes.Value("rpcscope.breaker.name")
			address, _ := p.Attributes.Value("server.address")
			if address.AsString() != "bufconn" {
				h.t.Errorf("the state is of %q, want bufconn", address.AsString())
			}
			got[name.AsString()] = p.Value
		}
	}
	return got
}

func (h *harness) state(want int64) {
	h.t.Helper()
	if diff := cmp.Diff(map[string]int64{"grpc.testing.TestService": want}, h.states()); diff != "" {
		h.t.Errorf("state of the breaker (-want +got):\n%s", diff)
	}
}

// transitions are counted, and are events of clients' spans.
func (h *harness) transitions(want ...string) {
	h.t.Helper()
	h.idle()
	var moves []sdktrace.Event
	for _, span := range h.spans.Ended() {
		for _, e := range span.Events() {
			if e.Name == "rpcscope.breaker.transition" {
				moves = append(moves, e)
			}
		}
	}
	// The call that brings a change about need not be the one that ends next.
	slices.SortStableFunc(moves, func(a, b sdktrace.Event) int { return a.Time.Compare(b.Time) })
	var events []string
	for _, e := range moves {
		a := attrs(e.Attributes)
		events = append(events, fmt.Sprintf("%s-%s", a["rpcscope.breaker.from"], a["rpcscope.breaker.to"]))
	}
	if diff := cmp.Diff(want, events); diff != "" {
		h.t.Errorf("transitions, as events (-want +got):\n%s", diff)
	}
	counts := map[string]int64{}
	for _, m := range want {
		_, to, _ := strings.Cut(m, "-")
		counts[to]++
	}
	h.counted("rpcscope.client.breaker.transitions", "rpcscope.breaker.to", counts)
}

// Rule 27: after failures in a row nothing reaches the service any more, until it
// is tried again, whatever the kind of the calls.
func TestRule27Breaker(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{}
				h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 3, OpenFor: 4 * time.Second})
				call := func() error { return h.call(context.Background(), kind) }
				m.set(codes.Unavailable)
				for n := range 3 {
					if err := call(); status.Code(err) != codes.Unavailable || errors.Is(err, interceptors.ErrBreakerOpen) {
						t.Fatalf("call %d ended with %v, want the service's Unavailable", n, err)
					}
				}
				h.state(2)
				<-time.After(time.Second)
				err := call()
				if status.Code(err) != codes.Unavailable || !errors.Is(err, interceptors.ErrBreakerOpen) {
					t.Errorf("with the breaker open: %v, want ErrBreakerOpen, Unavailable", err)
				}
				// For whoever called the one who made the call it is a dependency's (rule 17).
				if e, ok := errors.AsType[*errors.Error](err); !ok || !e.Remote() || err.Error() != interceptors.ErrBreakerOpen.Error() || !strings.HasPrefix(err.Error(), "Unavailable: the circuit") {
					t.Errorf("with the breaker open: %q, want a remote error with the text %q", err, interceptors.ErrBreakerOpen)
				}
				if after, ok := errors.RetryAfter(err); !ok || after != 3*time.Second {
					t.Errorf("told to come back after %v, want the 3 s until it is half-open", after)
				}
				if got := m.calls.Load(); got != 3 {
					t.Errorf("%d calls reached the server, want 3", got)
				}
				h.idle()
				h.counted("rpcscope.client.rejected", "rpcscope.rejected.reason", map[string]int64{"breaker_open": 1})
				refused := attrs(h.span(trace.SpanKindClient).Attributes())
				if refused["rpcscope.breaker.state"] != "open" || refused["rpcscope.breaker.name"] != "grpc.testing.TestService" {
					t.Errorf("the refused call's span has %v", refused)
				}

				<-time.After(3 * time.Second)
				h.state(1)
				if err := call(); status.Code(err) != codes.Unavailable || errors.Is(err, interceptors.ErrBreakerOpen) {
					t.Errorf("the probe ended with %v, want the service's Unavailable", err)
				}
				h.state(2)
				m.set(codes.OK)
				<-time.After(4 * time.Second)
				for range 2 {
					if err := call(); err != nil {
						t.Errorf("the service is well, and a call ended with %v", err)
					}
				}
				h.state(0)
				h.transitions("closed-open", "open-half_open", "half_open-open", "open-half_open", "half_open-closed")
			})
		})
	}
}

// What the breaker says is what a handler that is its caller says of any
// dependency that is down (rules 17 and 27): never Unknown.
func TestRule27OpenOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		inner := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: 8 * time.Second})
		inner.fail(m, 1)
		outer := start(t, &stub{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return inner.client.UnaryCall(ctx, in)
		}}, nil)
		err := outer.call(context.Background(), interceptors.Unary)
		if after, _ := errors.RetryAfter(err); status.Code(err) != codes.Unavailable || after != 8*time.Second {
			t.Errorf("the caller's caller got %v, to be retried after %v; want Unavailable after 8s", err, after)
		}
		if errors.Is(err, interceptors.ErrBreakerOpen) {
			t.Errorf("the caller's caller was told of a breaker that it does not have: %v", err)
		}
	})
}

// Rule 27: the service fails with some codes; with the others it has answered.
func TestRule27Failures(t *testing.T) {
	failures := map[codes.Code]bool{codes.Unavailable: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.Unknown: true, codes.DataLoss: true}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{}
				h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 3})
				h.fail(m, 2)
				m.set(code)
				_ = h.call(context.Background(), interceptors.Unary)
				want := int64(0)
				if failures[code] {
					want = 2
				}
				h.state(want)
				// A failure after an answer is the first one again; after a call of which nothing is
				// known it is one more.
				if want == 0 {
					h.fail(m, 1)
					if code == codes.Canceled {
						want = 2
					}
					h.state(want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 1, IsFailure: func(err error) bool { return errors.Code(err) == codes.NotFound }})
		h.fail(m, 1)
		h.state(0)
		m.set(codes.NotFound)
		_ = h.call(context.Background(), interceptors.Unary)
		h.state(2)
	})
}

// Rule 27: what this side does to a call is no failure of the service, and no
// success.
func TestRule27OwnDoing(t *testing.T) {
	type caller func(context.Context, *harness, interceptors.Kind)
	within := func(d time.Duration) caller {
		return func(ctx context.Context, h *harness, kind interceptors.Kind) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			_ = h.call(ctx, kind)
		}
	}
	cancelled := func(ctx context.Context, h *harness, kind interceptors.Kind) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		_ = h.call(ctx, kind)
	}
	plain := func(ctx context.Context, h *harness, kind interceptors.Kind) { _ = h.call(ctx, kind) }
	panicking := func(ctx context.Context, h *harness, kind interceptors.Kind) {
		defer func() { _ = recover() }()
		_ = h.call(ctx, kind)
	}
	unencodable := func(ctx context.Context, h *harness, kind interceptors.Kind) {
		const invalid = "\xff"
		switch kind {
		case interceptors.Unary:
			_, _ = h.client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Message: invalid}})
		case interceptors.ServerStream:
			if cs, err := h.client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseStatus: &testpb.EchoStatus{Message: invalid}}); err == nil {
				_ = drain(cs)
			}
		case interceptors.BidiStream:
			if cs, err := h.client.FullDuplexCall(ctx); err == nil {
				_ = cs.Send(&testpb.StreamingOutputCallRequest{ResponseStatus: &testpb.EchoStatus{Message: invalid}})
				_ = drain(cs)
			}
		default: // its message has no string
			_ = h.conn.Invoke(ctx, unaryMethod, &testpb.EchoStatus{Message: invalid}, &testpb.SimpleResponse{})
		}
	}
	refuses := func(err error) interceptors.Interceptor {
		return func(context.Context, *interceptors.Call, interceptors.Next) error { return err }
	}
	tests := []struct {
		name   string
		call   caller
		inner  interceptors.Interceptor
		failed bool
	}{
		{"cancelled", cancelled, nil, false},
		{"expired", within(0), nil, false},
		{"in a hurry", within(9 * time.Millisecond), nil, false},
		{"too slow", within(time.Second), nil, true},
		{"panic", panicking, func(context.Context, *interceptors.Call, interceptors.Next) error { panic("mine") }, false},
		{"refused", plain, refuses(errors.InvalidArgument("no")), false},
		{"rate limited", plain, refuses(interceptors.ErrRateLimited), false},
		{"limiter failed", plain, refuses(interceptors.ErrLimiterFailed), false},
		{"another breaker", plain, refuses(interceptors.ErrBreakerOpen), false},
		{"no token", plain, refuses(interceptors.ErrNoToken), false},
		{"timed out here", plain, interceptors.Timeout(time.Second), true},
		{"unsendable", unencodable, nil, false},
		{"mapped here", plain, refuses(errors.Unavailable("mapped")), true},
	}
	for _, test := range tests {
		for _, kind := range kinds {
			t.Run(test.name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := &moody{}
					var inner interceptors.Interceptor
					if test.inner != nil {
						inner = func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
							if _, first := ctx.Value(testedKey{}).(bool); first {
								return test.inner(ctx, call, next)
							}
							return next(ctx)
						}
					}
					slow := pausing(func() { <-time.After(10 * time.Second) })
					h := guarded(t, slow, m, interceptors.BreakerPolicy{FailureThreshold: 2, OpenFor: time.Minute}, inner)
					h.fail(m, 1)
					ctx := context.WithValue(context.Background(), testedKey{}, true)
					test.call(ctx, h, kind)
					<-time.After(20 * time.Second) // the handler is slow to notice
					h.idle()
					if test.failed {
						h.state(2)
						return
					}
					h.state(0)
					h.fail(m, 1) // in a row with the first: there was no success between them
					h.state(2)

					// As a probe it makes room for the next one.
					<-time.After(time.Minute)
					test.call(ctx, h, kind)
					<-time.After(20 * time.Second)
					h.idle()
					h.state(1)
					if err := h.call(context.Background(), kind); err != nil {
						t.Errorf("the next probe ended with %v", err)
					}
					h.state(0)
				})
			})
		}
	}
}

type testedKey struct{}

// Rule 27: a stream that lives for ever has done its part as a probe when its
// headers or its first message have come.
func TestRule27StreamsAsProbes(t *testing.T) {
	answers := map[string]func(grpc.ServerStream) error{
		"headers": func(ss grpc.ServerStream) error { return ss.SendHeader(metadata.Pairs("x", "y")) },
		"message": func(ss grpc.ServerStream) error { return ss.SendMsg(&testpb.StreamingOutputCallResponse{}) },
	}
	for name, answer := range answers {
		for _, kind := range kinds[1:] {
			if name == "message" && kind == interceptors.ClientStream {
				continue // that is its end
			}
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := &moody{}
					live := func(ss grpc.ServerStream) error {
						if err := answer(ss); err != nil {
							return err
						}
						<-ss.Context().Done()
						return ss.Context().Err()
					}
					s := &stub{
						clientStream: func(ss testpb.TestService_StreamingInputCallServer) error { return live(ss) },
						serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
							return live(ss)
						},
						bidi: func(ss testpb.TestService_FullDuplexCallServer) error { return live(ss) },
					}
					h := guarded(t, s, m, interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: time.Minute})
					h.fail(m, 1)
					<-time.After(time.Minute)
					ctx, cancel := context.WithCancel(context.Background())
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						_ = h.call(ctx, kind)
					}()
					synctest.Wait()
					h.state(0)
					if err := h.call(context.Background(), interceptors.Unary); err != nil {
						t.Errorf("while the stream lives another call ended with %v", err)
					}
					cancel()
					<-ended
					h.state(0) // as it was judged already
					h.transitions("closed-open", "open-half_open", "half_open-closed")
				})
			})
		}
	}
}

// Rule 27: a probe without an answer does not hold its place for ever, and
// counts all the same when it ends.
func TestRule27HangingProbe(t *testing.T) {
	for _, code := range []codes.Code{codes.OK, codes.Unavailable} {
		for _, kind := range kinds {
			t.Run(code.String()+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := &moody{}
					h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: time.Minute})
					m.after = func() error {
						<-time.After(150 * time.Second)
						return status.Error(code, "after all") // nil for OK
					}
					h.fail(m, 1)
					<-time.After(time.Minute)
					ended := make(chan struct{}, 2)
					probe := func() {
						_ = h.call(context.Background(), kind)
						ended <- struct{}{}
					}
					go probe()
					<-time.After(59 * time.Second)
					err := h.call(context.Background(), kind)
					if after, _ := errors.RetryAfter(err); !errors.Is(err, interceptors.ErrBreakerOpen) || after != time.Second {
						t.Errorf("beside a probe a call ended with %v, to be retried after %v; want ErrBreakerOpen, 1s", err, after)
					}
					<-time.After(2 * time.Second)
					go probe()
					synctest.Wait()
					if got := m.calls.Load(); got != 3 {
						t.Errorf("%d calls reached the server, want the failed one and two probes", got)
					}
					h.state(1)
					<-ended
					want := map[codes.Code]int64{codes.OK: 0, codes.Unavailable: 2}[code]
					h.state(want)
					<-ended
					h.idle()
				})
			})
		}
	}
}

// Rule 27: a probe that gave its place away has no second one to give.
func TestRule27AbandonedProbe(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{}
				h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: time.Minute})
				m.after = func() error {
					<-time.After(10 * time.Minute)
					return nil
				}
				h.fail(m, 1)
				<-time.After(time.Minute)
				first, giveUp := context.WithCancel(context.Background())
				var probes sync.WaitGroup
				probes.Go(func() { _ = h.call(first, kind) })
				<-time.After(time.Minute)
				synctest.Wait()
				probes.Go(func() { _ = h.call(context.Background(), kind) })
				synctest.Wait()
				giveUp()
				synctest.Wait()
				if err := h.call(context.Background(), kind); !errors.Is(err, interceptors.ErrBreakerOpen) {
					t.Errorf("beside the second probe a call ended with %v, want ErrBreakerOpen", err)
				}
				probes.Wait()
				h.state(0)
				h.idle()
			})
		})
	}
}

// A half-open breaker lets through as many as it was told to, and closes when
// all of them went well.
func TestRule27HalfOpenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := guarded(t, pausing(func() { <-time.After(time.Second) }), m, interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: time.Minute, HalfOpenCalls: 3})
		h.fail(m, 1)
		<-time.After(time.Minute)
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 50 {
			wg.Go(func() {
				if err := h.call(context.Background(), interceptors.Unary); errors.Is(err, interceptors.ErrBreakerOpen) {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if m.calls.Load() != 4 || refused.Load() != 47 {
			t.Errorf("%d calls reached the server and %d were refused, want 1 and 3 probes, and 47", m.calls.Load(), refused.Load())
		}
		h.state(0)
		h.transitions("closed-open", "open-half_open", "half_open-closed")
	})
}

func TestRule27Scopes(t *testing.T) {
	tests := []struct {
		per  interceptors.BreakerScope
		name string
		open []string // of the calls that follow
	}{
		{interceptors.PerService, "grpc.testing.TestService", []string{unaryMethod, "/grpc.testing.TestService/EmptyCall"}},
		{interceptors.PerMethod, "grpc.testing.TestService/UnaryCall", []string{unaryMethod}},
		{interceptors.PerTarget, "*", []string{unaryMethod, "/grpc.testing.TestService/EmptyCall", "/a.B/C"}},
	}
	for _, test := range tests {
		t.Run(test.per.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{}
				shared := interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1, Per: test.per})
				configure := func(h *harness) {
					h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
					h.clients = append(h.clients, shared)
				}
				h := start(t, &stub{}, configure)
				h.fail(m, 1)
				if got := h.states()[test.name]; got != 2 {
					t.Errorf("the states are %v, want %s open", h.states(), test.name)
				}
				var open []string
				for _, method := range []string{unaryMethod, "/grpc.testing.TestService/EmptyCall", "/a.B/C"} {
					if err := h.conn.Invoke(context.Background(), method, &testpb.Empty{}, &testpb.Empty{}); errors.Is(err, interceptors.ErrBreakerOpen) {
						open = append(open, method)
					}
				}
				if diff := cmp.Diff(test.open, open); diff != "" {
					t.Errorf("refused (-want +got):\n%s", diff)
				}
				// A second connection to the same target shares the state.
				if err := start(t, &stub{}, configure).call(context.Background(), interceptors.Unary); !errors.Is(err, interceptors.ErrBreakerOpen) {
					t.Errorf("on another connection to the target the call ended with %v", err)
				}
			})
		})
	}
}

// Rule 27: the number of breakers is bounded; the one that was used last stays.
func TestRule27BoundedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{FailureThreshold: 1, Per: interceptors.PerMethod, OpenFor: time.Hour})
		h.fail(m, 1)
		for n := range 2000 {
			_ = h.conn.Invoke(context.Background(), fmt.Sprintf("/a.B/M%d", n), &testpb.Empty{}, &testpb.Empty{})
			if err := h.call(context.Background(), interceptors.Unary); !errors.Is(err, interceptors.ErrBreakerOpen) {
				t.Fatalf("after %d other methods the open breaker is forgotten: %v", n, err)
			}
		}
		if got := len(h.states()); got != 1024 {
			t.Errorf("%d breakers, want 1024", got)
		}
	})
}

// Rule 27: health checks are neither judged nor refused.
func TestRule27HealthChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := start(t, &stub{}, func(h *harness) {
			h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
			h.clients = append(h.clients, interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1, Per: interceptors.PerTarget}))
			h.register = func(r grpc.ServiceRegistrar) { healthpb.RegisterHealthServer(r, healthpb.UnimplementedHealthServer{}) }
		})
		health := healthpb.NewHealthClient(h.conn)
		m.set(codes.Unavailable)
		if _, err := health.Check(context.Background(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
			t.Fatalf("the health check ended with %v", err)
		}
		m.set(codes.OK)
		if err := h.call(context.Background(), interceptors.Unary); err != nil {
			t.Errorf("after a health check that failed a call ended with %v", err)
		}
		h.fail(m, 1)
		if _, err := health.Check(context.Background(), &healthpb.HealthCheckRequest{}); errors.Is(err, interceptors.ErrBreakerOpen) {
			t.Error("the open breaker refused a health check")
		}
	})
}

// Inside of Retry the breaker sees each attempt; when it has opened Retry does
// not wait, and the next call may be the probe.
func TestRule27InsideOfRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := start(t, &stub{}, func(h *harness) {
			h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
			on(interceptors.ClientSide,
				interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 4, Budget: -1}),
				interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 2, OpenFor: time.Minute}))(h)
		})
		m.set(codes.Unavailable)
		time.AfterFunc(30*time.Second, func() { m.set(codes.OK) })
		begun := time.Now()
		if err := h.call(context.Background(), interceptors.Unary); !errors.Is(err, interceptors.ErrBreakerOpen) {
			t.Errorf("the call ended with %v, want ErrBreakerOpen", err)
		}
		if took := time.Since(begun); m.calls.Load() != 2 || took > time.Second {
			t.Errorf("%d attempts reached the server in %v, want 2 in no more than their waits", m.calls.Load(), took)
		}
		<-time.After(time.Minute)
		if err := h.call(context.Background(), interceptors.Unary); err != nil {
			t.Errorf("a minute later the call ended with %v", err)
		}
		h.transitions("closed-open", "open-half_open", "half_open-closed")
	})
}

func TestCircuitBreakerPolicyIsChecked(t *testing.T) {
	tests := map[string]interceptors.BreakerPolicy{
		"BreakerPolicy.FailureThreshold is -1; want 1 to 1048576, or 0 for the default of 5": {FailureThreshold: -1},
		"BreakerPolicy.OpenFor is -1s; want more than 0, or 0 for the default of 10s":        {OpenFor: -time.Second},
		"BreakerPolicy.HalfOpenCalls is -1; want 1 to 1048576, or 0 for the default of 1":    {HalfOpenCalls: -1},
		"BreakerPolicy.Per is BreakerScope(7); want PerService, PerMethod or PerTarget":      {Per: 7},
	}
	for want, p := range tests {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != "interceptors: CircuitBreaker: "+want {
					t.Errorf("got %q, want %q", got, want)
				}
			}()
			interceptors.CircuitBreaker(p)
		}()
	}
}

// The defaults: five failures in a row, ten seconds, one probe.
func TestCircuitBreakerDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		h := guarded(t, &stub{}, m, interceptors.BreakerPolicy{})
		h.fail(m, 4)
		if err := h.call(context.Background(), interceptors.Unary); err != nil {
			t.Error(err)
		}
		h.fail(m, 4)
		h.state(0)
		h.fail(m, 1)
		h.state(2)
		<-time.After(10*time.Second - 1)
		h.state(2)
		<-time.After(1)
		h.state(1)
		if err := h.call(context.Background(), interceptors.Unary); err != nil {
			t.Error(err)
		}
		h.state(0)
	})
}

// On a server, and with a Call that the engine did not make, nothing breaks.
func TestCircuitBreakerWithoutEngine(t *testing.T) {
	breaker := interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1})
	failing := func(context.Context) error { return errors.Unavailable("down") }
	for range 3 {
		call := &interceptors.Call{FullMethod: "/a.B/C"}
		if err := breaker(t.Context(), call, failing); errors.Is(err, interceptors.ErrBreakerOpen) {
			t.Error("a server's call was refused")
		}
	}
	for _, open := range []bool{false, true, true} {
		call := &interceptors.Call{FullMethod: "/a.B/C", Side: interceptors.ClientSide}
		if err := breaker(t.Context(), call, failing); errors.Is(err, interceptors.ErrBreakerOpen) != open || errors.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want it refused: %v", err, open)
		}
	}
}

func TestCircuitBreakerConforms(t *testing.T) {
	client := interceptorstest.Sides(interceptors.ClientSide)
	interceptorstest.Run(t, interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1e6}), client)
	t.Run("half-open", func(t *testing.T) { interceptorstest.Run(t, probing(time.Millisecond), client) })
	t.Run("open", func(t *testing.T) {
		breaker := interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: time.Hour})
		interceptorstest.Run(t, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			_ = breaker(ctx, call, func(context.Context) error { return errors.Unavailable("down") })
			return breaker(ctx, call, next)
		}, client, interceptorstest.Rejects(codes.Unavailable))
	})
}

// probing has a breaker for each call, which is half-open.
func probing(openFor time.Duration) interceptors.Interceptor {
	return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		breaker := interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1, OpenFor: openFor})
		if ctx.Err() == nil {
			_ = breaker(ctx, call, func(context.Context) error { return errors.Unavailable("down") })
			<-time.After(openFor)
		}
		return breaker(ctx, call, next)
	}
}
