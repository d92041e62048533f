package interceptors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
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
