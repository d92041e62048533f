package interceptors_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// attempted has a server stream whose nth attempt, from 1, does what do says.
func attempted(calls *atomic.Int64, do func(n int64, ss testpb.TestService_StreamingOutputCallServer) error) *stub {
	return &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
		return do(calls.Add(1), ss)
	}}
}

// A server that answers in time has met the timeout of an attempt, whenever the
// caller comes to read: nothing is made again, and a breaker learns nothing bad.
func TestRule26SlowReader(t *testing.T) {
	for name, after := range map[string]func(context.Context) error{
		"still open": func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return nil
		},
		"ended":  func(context.Context) error { return nil },
		"failed": func(context.Context) error { return status.Error(codes.NotFound, "no more") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, attempted(&calls, func(_ int64, ss testpb.TestService_StreamingOutputCallServer) error {
					if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
						return err
					}
					return after(ss.Context())
				}), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}),
					interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1})))
				for range 2 { // the second one finds the breaker closed
					stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
					if err != nil {
						t.Fatal(err)
					}
					<-time.After(10 * time.Second)
					if _, err := stream.Recv(); err != nil {
						t.Errorf("what came in time is not delivered: %v", err)
					}
					_ = drain(stream)
				}
				if got := calls.Load(); got != 2 {
					t.Errorf("the server was called %d times, want 2", got)
				}
				h.idle()
			})
		})
	}
}

// What fails before there are headers is made again also where nobody reads.
func TestRule26SlowReaderOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, fails(codes.Unavailable)), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second})))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if err := drain(stream); err != nil || calls.Load() != 2 {
			t.Errorf("%v after %d attempts, want nil after 2", err, calls.Load())
		}
		h.idle()
		h.counted("rpcscope.client.attempts", "rpc.response.status_code", map[string]int64{"UNAVAILABLE": 1, "OK": 1})
	})
}

// A message of an attempt that was given up is not delivered: the call has another
// outcome by then. Here it comes because an interceptor inside lets go of the
// attempt's context.
func TestRule26LateMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, attempted(&calls, func(_ int64, ss testpb.TestService_StreamingOutputCallServer) error {
			<-time.After(2 * time.Second)
			return ss.Send(&testpb.StreamingOutputCallResponse{})
		}), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}),
			func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				return next(context.WithoutCancel(ctx))
			}))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a late message: %v, %v; want DeadlineExceeded", m, err)
		}
		h.idle()
	})
}

// Header is of the attempt whose messages the caller gets: it waits for that one, and
// once the caller has seen headers nothing is made again (gRPC's proposal A6).
func TestRule26HeaderOfStream(t *testing.T) {
	for name, test := range map[string]struct {
		headers  func(n int64) bool // which attempts send some
		policy   interceptors.RetryPolicy
		want     string
		code     codes.Code
		attempts int64
	}{
		"failed without headers": {headers: func(n int64) bool { return n > 1 }, want: "2", attempts: 2},
		"failed twice":           {headers: func(n int64) bool { return n > 2 }, want: "", code: codes.Unavailable, policy: interceptors.RetryPolicy{MaxAttempts: 2}, attempts: 2},
		"failed after headers":   {headers: func(int64) bool { return true }, want: "1", code: codes.Unavailable, attempts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, attempted(&calls, func(n int64, ss testpb.TestService_StreamingOutputCallServer) error {
					if test.headers(n) {
						if err := ss.SendHeader(metadata.Pairs("x-attempt", fmt.Sprint(n))); err != nil {
							return err
						}
					}
					if n == 1 || !test.headers(n) {
						return status.Error(codes.Unavailable, "not now")
					}
					return ss.Send(&testpb.StreamingOutputCallResponse{})
				}), on(interceptors.ClientSide, interceptors.Retry(test.policy)))
				stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
				if err != nil {
					t.Fatal(err)
				}
				for _, when := range []string{"at first", "at the end"} {
					header, err := stream.Header()
					if got := strings.Join(header.Get("x-attempt"), ","); got != test.want || err != nil {
						t.Errorf("headers %s: those of attempt %q, %v; want %q", when, got, err, test.want)
					}
					if when == "at first" {
						if err := drain(stream); status.Code(err) != test.code {
							t.Errorf("the stream ended with %v, want %v", err, test.code)
						}
					}
				}
				if calls.Load() != test.attempts {
					t.Errorf("%d attempts, want %d", calls.Load(), test.attempts)
				}
				h.idle()
			})
		})
	}
}

// Header and Recv may wait for the same other attempt.
func TestRule26HeaderWhileReceiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, pushesBack("1000")), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		received := make(chan error)
		go func() { received <- drain(stream) }()
		if header, err := stream.Header(); err != nil || header == nil {
			t.Errorf("headers %v, %v; want those of the second attempt", header, err)
		}
		if err := <-received; err != nil || calls.Load() != 2 {
			t.Errorf("%v after %d attempts, want nil after 2", err, calls.Load())
		}
		h.idle()
	})
}

// Trailer and Header are of the last attempt also where that got no stream.
func TestRule26TrailerOfStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int64
		h := start(t, &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			ss.SetTrailer(metadata.Pairs("x-attempt", "1"))
			return status.Error(codes.Unavailable, "not now")
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{}),
			func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				if opened.Add(1) > 1 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithDeadline(ctx, time.Now().Add(-time.Second)) // fails before there is a stream
					defer cancel()
				}
				return next(ctx)
			}))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if err := drain(stream); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the stream ended with %v, want the second attempt's DeadlineExceeded", err)
		}
		if header, err := stream.Header(); header != nil || err != nil {
			t.Errorf("headers %v, %v; want none", header, err)
		}
		if trailer := stream.Trailer(); trailer != nil {
			t.Errorf("trailers %v, want none", trailer)
		}
		h.idle()
	})
}

// As gRPC has it, who has asked for the context of a stream keeps that stream.
func TestRule26ContextOfStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, fails(codes.Unavailable)), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if stream.Context() == nil {
			t.Error("no context")
		}
		if err := drain(stream); status.Code(err) != codes.Unavailable || calls.Load() != 1 {
			t.Errorf("%v after %d attempts, want Unavailable after 1", err, calls.Load())
		}
		h.idle()
	})
}

// A request that is sent again is seen by the interceptors of each attempt, for both
// kinds of calls alike.
func TestRule26OnSendOfAttempts(t *testing.T) {
	for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ServerStream} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				var seen []int
				h := start(t, failingFirst(&calls, fails(codes.Unavailable), fails(codes.Unavailable)), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{}),
					func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						n := 0
						call.OnSend(func(any) error { n++; return nil })
						err := next(ctx)
						seen = append(seen, n)
						return err
					}))
				if err := h.call(context.Background(), kind); err != nil {
					t.Fatal(err)
				}
				h.idle()
				if diff := cmp.Diff([]int{1, 1, 1}, seen); diff != "" {
					t.Errorf("messages that the attempts saw (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What such a hook says against the request sent again is the outcome of the attempt.
func TestRule26OnSendRefuses(t *testing.T) {
	for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ServerStream} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls, attempts atomic.Int64
				h := start(t, failingFirst(&calls, fails(codes.Unavailable)), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{}),
					func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						n := attempts.Add(1)
						call.OnSend(func(any) error {
							if n > 1 {
								return errors.InvalidArgument("once is enough")
							}
							return nil
						})
						return next(ctx)
					}))
				if err := h.call(context.Background(), kind); status.Code(err) != codes.InvalidArgument || calls.Load() != 1 {
					t.Errorf("%v after %d attempts that the server saw, want InvalidArgument after 1", err, calls.Load())
				}
				h.idle()
			})
		})
	}
}

// Rule 26: the caller's OnFinish is called once, as gRPC promises, with the outcome
// of the call and not of an attempt.
func TestRule26OnFinish(t *testing.T) {
	again := func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		if err := next(ctx); err != nil {
			return next(ctx)
		}
		return nil
	}
	refuses := func(context.Context, *interceptors.Call, interceptors.Next) error { return errors.NotFound("here") }
	twice := []func(context.Context) error{fails(codes.Unavailable), fails(codes.Unavailable)}
	for name, test := range map[string]struct {
		chain interceptors.Interceptor
		errs  []func(context.Context) error
		want  codes.Code
	}{
		"the third time":     {interceptors.Retry(interceptors.RetryPolicy{}), twice, codes.OK},
		"at first":           {interceptors.Retry(interceptors.RetryPolicy{}), nil, codes.OK},
		"not in time":        {interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2}), twice, codes.Unavailable},
		"one that repeats":   {again, twice[:1], codes.OK},
		"never sent":         {refuses, nil, codes.NotFound},
		"hedged and retried": {interceptors.Chain(interceptors.Retry(interceptors.RetryPolicy{}), interceptors.Hedge(interceptors.HedgePolicy{})), twice, codes.OK},
	} {
		for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ServerStream} {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int64
					var finished []codes.Code
					h := start(t, failingFirst(&calls, test.errs...), func(h *harness) {
						h.clients = append(h.clients, test.chain)
						h.dial = append(h.dial, grpc.WithDefaultCallOptions(grpc.OnFinish(func(err error) { finished = append(finished, status.Code(err)) })))
					})
					if err := h.call(context.Background(), kind); status.Code(err) != test.want {
						t.Errorf("the call ended with %v, want %v", err, test.want)
					}
					h.idle()
					if diff := cmp.Diff([]codes.Code{test.want}, finished); diff != "" {
						t.Errorf("what OnFinish was called with (-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}
