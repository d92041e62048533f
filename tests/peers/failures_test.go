package peers

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// What a client makes of a server's failures.
var failureDefects = []defect{
	{
		// Rule 26: never after a message has reached the caller.
		name:  "StreamFailsHalfWay",
		what:  "With retries on, a server stream sends a, b and c and fails.",
		right: outcome{"caller: UNAVAILABLE", "was sent: abc", "attempts: 1"},
		calm:  outcome{"caller: OK", "was sent: abc", "attempts: 1"},
		ours:  ours(interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 3})),
		peers: []stack{middlewareRetry()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			attempts := 0
			var with setup
			with.service.serverStream = func(ss testpb.TestService_StreamingOutputCallServer) error {
				attempts++
				for _, letter := range "abc" {
					if err := ss.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(string(letter))}}); err != nil {
						return err
					}
				}
				if trouble && attempts == 1 {
					return status.Error(codes.Unavailable, "half-way")
				}
				return nil
			}
			sc := s.stage(t, with)
			stream, err := sc.client.StreamingOutputCall(sc.ctx(), &testpb.StreamingOutputCallRequest{})
			var got string
			for err == nil {
				var m *testpb.StreamingOutputCallResponse
				if m, err = stream.Recv(); err == nil {
					got += string(m.GetPayload().GetBody())
				}
			}
			if err == io.EOF {
				err = nil
			}
			sc.settle()
			return outcome{"caller: " + codeOf(err), "was sent: " + got, fmt.Sprintf("attempts: %d", attempts)}
		},
	},
	{
		// Rule 26: a negative grpc-retry-pushback-ms means not to try again.
		name:  "Pushback",
		what:  "With retries on, a server that fails says not to try again.",
		right: outcome{"caller: UNAVAILABLE", "attempts: 1"},
		calm:  outcome{"caller: OK", "attempts: 2"},
		ours:  ours(interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 3})),
		peers: []stack{middlewareRetry()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			attempts := 0
			var with setup
			with.service.unary = func(ctx context.Context) error {
				if attempts++; attempts > 1 {
					return nil
				}
				if trouble {
					_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
				}
				return status.Error(codes.Unavailable, "not now")
			}
			sc := s.stage(t, with)
			err := sc.call(sc.ctx())
			sc.settle()
			return outcome{"caller: " + codeOf(err), fmt.Sprintf("attempts: %d", attempts)}
		},
	},
	{
		// Attempts that run at the same time must not fill the same reply.
		name:  "HedgedReply",
		what:  "A slow call is made a second time, beside the first.",
		right: outcome{"caller: OK", "attempts: 2", "replies they fill: 2"},
		calm:  outcome{"caller: OK", "attempts: 1", "replies they fill: 1"},
		ours:  ours(interceptors.Hedge(interceptors.HedgePolicy{Delay: 100 * time.Millisecond})),
		peers: []stack{failsafeHedge()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var with setup
			if trouble {
				with.service.unary = func(ctx context.Context) error {
					select {
					case <-time.After(time.Second):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			var mu sync.Mutex
			attempts, replies := 0, map[any]bool{}
			with.client = []grpc.DialOption{grpc.WithChainUnaryInterceptor(
				func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					mu.Lock()
					attempts++
					replies[reply] = true
					mu.Unlock()
					return invoker(ctx, method, req, reply, cc, opts...)
				})}
			sc := s.stage(t, with)
			err := sc.call(sc.ctx())
			sc.settle()
			return outcome{"caller: " + codeOf(err), fmt.Sprintf("attempts: %d", attempts), fmt.Sprintf("replies they fill: %d", len(replies))}
		},
	},
	{
		// Rule 27: open is Unavailable, never Unknown.
		name:  "OpenBreaker",
		what:  "A circuit breaker is open.",
		right: outcome{"caller: UNAVAILABLE", "reached the server: 2 of 3"},
		calm:  outcome{"caller: OK", "reached the server: 3 of 3"},
		ours: fresh(func() stack {
			return ours(interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 2}))
		}),
		peers: []stack{fresh(failsafeBreaker)},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			reached := 0
			var with setup
			with.service.unary = func(context.Context) error {
				reached++
				if trouble {
					return status.Error(codes.Unavailable, "down")
				}
				return nil
			}
			sc := s.stage(t, with)
			var err error
			for range 3 {
				err = sc.call(sc.ctx())
			}
			sc.settle()
			return outcome{"caller: " + codeOf(err), fmt.Sprintf("reached the server: %d of 3", reached)}
		},
	},
}

const failsafeModule = "github.com/failsafe-go/failsafe-go"

// middlewareRetry makes up to three attempts.
func middlewareRetry() stack {
	options := []retry.CallOption{retry.WithMax(3), retry.WithCodes(codes.Unavailable), retry.WithBackoff(retry.BackoffLinear(time.Millisecond))}
	return clientStack(middlewareName, middlewareModule,
		grpc.WithChainUnaryInterceptor(retry.UnaryClientInterceptor(options...)),
		grpc.WithChainStreamInterceptor(retry.StreamClientInterceptor(options...)))
}

func failsafeHedge() stack {
	return clientStack("failsafe-go", failsafeModule, grpc.WithChainUnaryInterceptor(
		failsafegrpc.NewUnaryClientInterceptor[any](hedgepolicy.NewWithDelay[any](100*time.Millisecond))))
}

func failsafeBreaker() stack {
	return clientStack("failsafe-go", failsafeModule, grpc.WithChainUnaryInterceptor(
		failsafegrpc.NewUnaryClientInterceptor[any](circuitbreaker.NewBuilder[any]().WithFailureThreshold(2).Build())))
}

// fresh makes the stack anew for each scene: what it has learned in one is not
// the next one's.
func fresh(made func() stack) stack {
	s := made()
	s.client = func(r *recording) []grpc.DialOption { return made().client(r) }
	return s
}

// clientStack is a peer that has nothing on the server and records nothing.
func clientStack(name, module string, options ...grpc.DialOption) stack {
	return stack{
		name: name, module: module, server: noServerOptions,
		client: func(*recording) []grpc.DialOption { return options },
	}
}
