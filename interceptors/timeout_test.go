package interceptors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// timeout is what everybody writes first: the context ends with the function.
func timeout(d time.Duration, ctxs chan<- context.Context) interceptors.Interceptor {
	return func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		ctxs <- ctx
		return next(ctx)
	}
}

// Rule 8: what an interceptor derives lives as long as the call, also on a
// client's stream, and not longer.
func TestRule8ContextLivesAsLongAsTheCall(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		synctest.Test(t, func(t *testing.T) {
			ctxs := make(chan context.Context, 1)
			pause := func() { <-time.After(time.Minute) } // the interceptor has had time to return if it ever would
			h := start(t, pausing(pause), on(side, timeout(time.Hour, ctxs)))
			if err := h.call(context.Background(), kind); err != nil {
				t.Fatalf("the call failed: %v", err)
			}
			synctest.Wait()
			if ctx := <-ctxs; ctx.Err() != context.Canceled {
				t.Errorf("after the call its context has error %v, want it cancelled", ctx.Err())
			}
		})
	})
}

// Rule 8: a time limit ends the call with DEADLINE_EXCEEDED, everywhere, and
// leaves no handler behind: on a server next waits for it.
func TestRule8TimeLimit(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		synctest.Test(t, func(t *testing.T) {
			ctxs := make(chan context.Context, 1)
			var running atomic.Int64
			wait := func(ctx context.Context) error {
				running.Add(1)
				defer running.Add(-1)
				<-ctx.Done()
				<-time.After(time.Second) // it takes a while to notice
				return ctx.Err()
			}
			h := start(t, waitingFor(wait), on(side, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				err := timeout(time.Minute, ctxs)(ctx, call, next)
				if n := running.Load(); side == interceptors.ServerSide && n != 0 {
					t.Errorf("next returned while %d handlers were running", n)
				}
				return err
			}))
			begun := time.Now()
			err := h.call(context.Background(), kind)
			if got := status.Code(err); got != codes.DeadlineExceeded {
				t.Errorf("the caller got %v, want DeadlineExceeded", err)
			}
			if d := time.Since(begun); d < time.Minute || d > time.Minute+2*time.Second {
				t.Errorf("the call took %v, want a minute", d)
			}
			<-time.After(time.Minute)
			synctest.Wait()
			if n := running.Load(); n != 0 {
				t.Errorf("%d handlers are still running", n)
			}
			name := "rpc." + side.String() + ".call.duration"
			if got := h.counts(name, "rpc.response.status_code"); got["DEADLINE_EXCEEDED"] != 1 || len(got) != 1 {
				t.Errorf("%s counted %v, want one DEADLINE_EXCEEDED", name, got)
			}
		})
	})
}

// pausing has handlers that pause before they do what they always do.
func pausing(pause func()) *stub {
	plain := &stub{}
	return &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			pause()
			return plain.UnaryCall(ctx, in)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			pause()
			return plain.StreamingInputCall(ss)
		},
		serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			pause()
			return plain.StreamingOutputCall(in, ss)
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			pause()
			return plain.FullDuplexCall(ss)
		},
	}
}

// waitingFor has handlers that do nothing but wait.
func waitingFor(wait func(context.Context) error) *stub {
	return &stub{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, wait(ctx)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error { return wait(ss.Context()) },
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			return wait(ss.Context())
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error { return wait(ss.Context()) },
	}
}

// deadlined is a stub whose handlers tell the deadline they have, as time from
// now, zero if they have none.
func deadlined(left chan<- time.Duration) *stub {
	return stubOf(func(s stream) error {
		at, ok := s.Deadline()
		if !ok {
			left <- 0
			return nil
		}
		left <- time.Until(at)
		return nil
	})
}

// A caller's deadline stays, and is not made longer; where there is none, the
// default counts. MaxTimeout limits both. Their order does not matter.
func TestTimeoutDeadline(t *testing.T) {
	type chain = []interceptors.Interceptor
	timeout, longer, maximum := interceptors.Timeout(time.Minute), interceptors.Timeout(time.Hour), interceptors.MaxTimeout(10*time.Minute)
	elsewhere := interceptors.For(interceptors.Methods("/other.Service/*"), interceptors.Timeout(time.Second))
	for _, test := range []struct {
		name     string
		chain    chain
		caller   time.Duration // 0 is none
		deadline time.Duration
		source   any
	}{
		{"caller has none", chain{timeout}, 0, time.Minute, "default"},
		{"caller has a sooner one", chain{timeout}, time.Second, time.Second, "caller"},
		{"caller has a later one", chain{timeout}, time.Hour, time.Hour, "caller"},
		{"maximum, caller has none", chain{maximum}, 0, 10 * time.Minute, "maximum"},
		{"maximum, caller has a sooner one", chain{maximum}, time.Second, time.Second, "caller"},
		{"maximum, caller has a later one", chain{maximum}, time.Hour, 10 * time.Minute, "maximum"},
		{"both, caller has none", chain{timeout, maximum}, 0, time.Minute, "default"},
		{"both the other way round, caller has none", chain{maximum, timeout}, 0, time.Minute, "default"},
		{"both, caller has a sooner one", chain{timeout, maximum}, 5 * time.Minute, 5 * time.Minute, "caller"},
		{"both, caller has a later one", chain{timeout, maximum}, time.Hour, 10 * time.Minute, "maximum"},
		{"default beyond the maximum", chain{longer, maximum}, 0, 10 * time.Minute, "maximum"},
		{"default beyond the maximum, the other way round", chain{maximum, longer}, 0, 10 * time.Minute, "maximum"},
		{"two defaults", chain{longer, timeout}, 0, time.Minute, "default"},
		{"of another method", chain{elsewhere}, 0, 0, nil},
		{"of another method and of all", chain{elsewhere, timeout}, 0, time.Minute, "default"},
	} {
		t.Run(test.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
				synctest.Test(t, func(t *testing.T) {
					left := make(chan time.Duration, 1)
					h := start(t, deadlined(left), on(side, test.chain...))
					ctx, cancel := context.WithCancel(context.Background())
					if test.caller > 0 {
						ctx, cancel = context.WithTimeout(context.Background(), test.caller)
					}
					defer cancel()
					if err := h.call(ctx, kind); err != nil {
						t.Fatal(err)
					}
					if got := <-left; got != test.deadline {
						t.Errorf("the handler had %v, want %v", got, test.deadline)
					}
					h.idle()
					seen := attrs(h.span(spanKind(side)).Attributes())
					var want any
					if test.deadline > 0 && test.source != nil {
						want = test.deadline.Milliseconds()
					}
					for key, want := range map[string]any{"rpcscope.deadline.source": test.source, "rpcscope.deadline.budget_ms": want, "rpcscope.deadline.remaining_ms": want} {
						if seen[key] != want {
							t.Errorf("the span has %s %v, want %v", key, seen[key], want)
						}
					}
				})
			})
		})
	}
}

func spanKind(side interceptors.Side) trace.SpanKind {
	if side == interceptors.ClientSide {
		return trace.SpanKindClient
	}
	return trace.SpanKindServer
}

// Rule 8, and what a call that took too long leaves: the caller can tell whose
// deadline it was, and so can who looks at span, log and metric.
func TestRule8Timeout(t *testing.T) {
	limits := map[string]interceptors.Interceptor{"default": interceptors.Timeout(time.Minute), "maximum": interceptors.MaxTimeout(time.Minute)}
	for source, limit := range limits {
		t.Run(source, func(t *testing.T) {
			everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
				synctest.Test(t, func(t *testing.T) {
					var running atomic.Int64
					h := start(t, stubOf(func(s stream) error {
						running.Add(1)
						defer running.Add(-1)
						<-s.Done()
						<-time.After(2 * time.Second) // it takes a while to notice
						return s.Err()
					}), on(side, limit))
					begun := time.Now()
					err := h.call(context.Background(), kind)
					if !errors.Is(err, interceptors.ErrTimeout) || status.Code(err) != codes.DeadlineExceeded {
						t.Errorf("the caller got %v, want ErrTimeout", err)
					}
					if d := time.Since(begun); d < time.Minute || d > time.Minute+3*time.Second {
						t.Errorf("the call took %v, want a minute", d)
					}
					<-time.After(3 * time.Second)
					synctest.Wait()
					if n := running.Load(); n != 0 {
						t.Errorf("%d handlers are left behind", n)
					}
					want := map[string]any{
						"rpcscope.deadline.budget_ms": time.Minute.Milliseconds(), "rpcscope.deadline.source": source,
						"rpcscope.rejected.reason": "timeout", "error.reason": "TIMEOUT", "rpc.response.status_code": "DEADLINE_EXCEEDED",
					}
					h.idle()
					seen := attrs(h.span(spanKind(side)).Attributes())
					record := recordsOf(t, h, side.String()+" call")[0]
					for key, want := range want {
						if seen[key] != want {
							t.Errorf("the span has %s %v, want %v", key, seen[key], want)
						}
						if n, ok := want.(int64); ok {
							want = float64(n) // as JSON has it
						}
						if record[key] != want {
							t.Errorf("the log has %s %v, want %v", key, record[key], want)
						}
					}
					if left := seen["rpcscope.deadline.remaining_ms"].(int64); left > 0 || left < -2000 {
						t.Errorf("%d ms remain, want what is over the minute", left)
					}
					counted := map[string]int64{}
					if side == interceptors.ServerSide {
						counted["timeout"] = 1
					}
					h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", counted)
				})
			})
		})
	}
}

// A deadline of the caller's is no matter of Timeout's, nor is a handler's own
// failure, nor one that comes before the time is up.
func TestTimeoutLeavesOtherFailures(t *testing.T) {
	errSlow := errors.Define(codes.DeadlineExceeded, "db.example", "SLOW", "the database took too long")
	wait := func(s stream) error {
		<-s.Done()
		return s.Err()
	}
	for name, test := range map[string]struct {
		caller time.Duration
		handle func(stream) error
		reason string
	}{
		"caller's deadline": {30 * time.Second, wait, ""},
		"handler's deadline": {0, func(s stream) error {
			ctx, cancel := context.WithTimeout(s, time.Second)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}, ""},
		"handler's error":       {0, func(stream) error { return errSlow }, "SLOW"},
		"handler's error, late": {0, func(s stream) error { <-s.Done(); return errSlow }, "SLOW"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, stubOf(test.handle), on(interceptors.ServerSide, interceptors.Timeout(time.Minute)))
				ctx, cancel := context.WithCancel(context.Background())
				if test.caller > 0 {
					ctx, cancel = context.WithTimeout(context.Background(), test.caller)
				}
				defer cancel()
				err := h.call(ctx, interceptors.Unary)
				if _, reason := errors.Reason(err); status.Code(err) != codes.DeadlineExceeded || reason != test.reason {
					t.Errorf("the caller got %v with reason %q, want DeadlineExceeded with %q", err, reason, test.reason)
				}
				h.idle()
			})
		})
	}
}

// A handler that notices so late that the time of both is up was cut off once.
func TestTimeoutsCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, stubOf(func(s stream) error {
			<-time.After(time.Hour)
			return s.Err()
		}), on(interceptors.ServerSide, interceptors.MaxTimeout(2*time.Minute), interceptors.Timeout(time.Minute)))
		if err := h.call(context.Background(), interceptors.Unary); !errors.Is(err, interceptors.ErrTimeout) {
			t.Errorf("the caller got %v, want ErrTimeout", err)
		}
		h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"timeout": 1})
		if got := attrs(h.span(trace.SpanKindServer).Attributes())["rpcscope.deadline.source"]; got != "default" {
			t.Errorf("the deadline is %v, want default", got)
		}
	})
}

func TestTimeoutOfNothing(t *testing.T) {
	for want, f := range map[string]func(){
		"interceptors: Timeout(0s): no call could succeed; want more than zero":      func() { interceptors.Timeout(0) },
		"interceptors: Timeout(-1s): no call could succeed; want more than zero":     func() { interceptors.Timeout(-time.Second) },
		"interceptors: MaxTimeout(-1ns): no call could succeed; want more than zero": func() { interceptors.MaxTimeout(-1) },
	} {
		if got := panicOf(f); got != want {
			t.Errorf("got %v, want a panic with %q", got, want)
		}
	}
}

func panicOf(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// A Call that no engine made has the deadline of its context.
func TestTimeoutOfALiteralCall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		want time.Duration
	}{"with": {ctx, time.Hour}, "without": {t.Context(), time.Minute}} {
		err := interceptors.Timeout(time.Minute)(test.ctx, &interceptors.Call{}, func(ctx context.Context) error {
			at, _ := ctx.Deadline()
			if left := time.Until(at); left > test.want || left < test.want-30*time.Second {
				t.Errorf("%s a deadline there are %v left, want %v", name, left, test.want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestTimeoutConforms(t *testing.T) {
	interceptorstest.Run(t, interceptors.Timeout(time.Hour))
	interceptorstest.Run(t, interceptors.MaxTimeout(time.Hour))
}

// Calls with a deadline are measured by it, once, however many limits there are.
func TestDeadlineMetrics(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, pausing(func() { <-time.After(15 * time.Second) }), on(side, interceptors.Timeout(time.Hour), interceptors.MaxTimeout(time.Minute)))
			if err := h.call(context.Background(), kind); err != nil {
				t.Fatal(err)
			}
			h.idle()
			for name, want := range map[string]float64{"budget": 60, "used": 0.25} {
				name = "rpcscope." + side.String() + ".deadline." + name
				data, ok := h.metric(name).(metricdata.Histogram[float64])
				if !ok || len(data.DataPoints) != 1 {
					t.Fatalf("%s is %#v, want a histogram with one point", name, h.metric(name))
				}
				if p := data.DataPoints[0]; p.Count != 1 || p.Sum != want {
					t.Errorf("%s: %d calls, in sum %v; want one with %v", name, p.Count, p.Sum, want)
				}
			}
		})
	})
}

// A call without a deadline, or one that nobody observes, has no measure.
func TestNoDeadlineMetrics(t *testing.T) {
	for name, configure := range map[string]func(*harness){
		"none": on(interceptors.ServerSide),
		"not observed": func(h *harness) {
			h.servers = append(h.servers, interceptors.Timeout(time.Minute), interceptors.WithFilter(interceptors.Not(interceptors.Methods("*"))))
		},
	} {
		h := start(t, &stub{}, configure)
		if err := h.call(h.ctx(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		if got := h.counts("rpcscope.server.deadline.used", "rpc.method"); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
