package interceptors_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// The waits before retries are spread over all of what they may be, which grows up
// to MaxBackoff.
func TestRule26Backoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			at = append(at, time.Now())
			return nil, status.Error(codes.Unavailable, "not now")
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{
			MaxAttempts: 5, InitialBackoff: 100 * time.Millisecond, MaxBackoff: 300 * time.Millisecond, Budget: -1})))
		const calls = 200
		most := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond}
		waits := make([][]time.Duration, len(most))
		for range calls {
			at = nil
			_ = h.call(context.Background(), interceptors.Unary)
			if len(at) != 5 {
				t.Fatalf("%d attempts, want 5", len(at))
			}
			for n := range most {
				waits[n] = append(waits[n], at[n+1].Sub(at[n]))
			}
		}
		for n, all := range waits {
			// That none of 200 is in a fifth of the range happens once in 10^19 runs.
			least, greatest := slices.Min(all), slices.Max(all)
			if least > most[n]/5 || greatest < most[n]*4/5 || greatest > most[n] {
				t.Errorf("the waits before retry %d are %v to %v, want about 0 to %v", n+1, least, greatest, most[n])
			}
		}
		h.idle()
	})
}

// upOrDown has a unary method that fails while down says so.
func upOrDown(calls *atomic.Int64, down *atomic.Bool) *stub {
	return &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		calls.Add(1)
		if down.Load() {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		return &testpb.SimpleResponse{}, nil
	}}
}

// budgeted makes calls, which succeed or fail, and tells how many attempts each had.
func budgeted(client testpb.TestServiceClient, calls *atomic.Int64, down *atomic.Bool, fail bool, n int) (attempts []int64) {
	down.Store(fail)
	for range n {
		before := calls.Load()
		_, _ = client.UnaryCall(context.Background(), &testpb.SimpleRequest{})
		attempts = append(attempts, calls.Load()-before)
	}
	return attempts
}

// A failure takes one of 10 tokens, a success gives Budget, never more than there
// were at first; and with 5 or less there is one attempt.
func TestRule26Budget(t *testing.T) {
	for name, i := range map[string]interceptors.Interceptor{
		"retry": interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2, Budget: 0.5}),
		"hedge": interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 2, Budget: 0.5}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				var down atomic.Bool
				h := start(t, upOrDown(&calls, &down), on(interceptors.ClientSide, i))
				for step, test := range []struct {
					fail  bool
					calls int
					want  []int64
				}{
					{false, 3, []int64{1, 1, 1}},
					{true, 4, []int64{2, 2, 1, 1}}, // 8, 6, 5, 4 tokens are left
					{false, 3, []int64{1, 1, 1}},   // 5.5
					{true, 1, []int64{1}},          // 4.5
					{false, 4, []int64{1, 1, 1, 1}},
					{true, 2, []int64{2, 1}}, // of 6.5
				} {
					if diff := cmp.Diff(test.want, budgeted(h.client, &calls, &down, test.fail, test.calls)); diff != "" {
						t.Errorf("step %d: attempts of the calls (-want +got):\n%s", step, diff)
					}
				}
				h.idle()
			})
		})
	}
}

// A hedge for want of an answer needs tokens as well.
func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		var down, slow atomic.Bool
		plain := upOrDown(&calls, &down)
		h := start(t, &stub{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			reply, err := plain.unary(ctx, in)
			if slow.Load() {
				<-time.After(time.Second)
			}
			return reply, err
		}}, on(interceptors.ClientSide, interceptors.Hedge(interceptors.HedgePolicy{})))
		budgeted(h.client, &calls, &down, true, 4)
		slow.Store(true)
		if diff := cmp.Diff([]int64{1}, budgeted(h.client, &calls, &down, false, 1)); diff != "" {
			t.Errorf("attempts of a slow call (-want +got):\n%s", diff)
		}
		h.idle()
	})
}

// Each target has a budget of its own.
func TestRule26BudgetPerTarget(t *testing.T) {
	for name, i := range map[string]interceptors.Interceptor{
		"retry": interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2}),
		"hedge": interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 2}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				var down atomic.Bool
				h := start(t, upOrDown(&calls, &down), on(interceptors.ClientSide, i))
				conn, err := grpc.NewClient("passthrough:///another", append(interceptors.DialOptions(h.clients...),
					grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listen.DialContext(ctx) }))...)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for target, client := range []testpb.TestServiceClient{h.client, testpb.NewTestServiceClient(conn)} {
					if diff := cmp.Diff([]int64{2, 2, 1}, budgeted(client, &calls, &down, true, 3)); diff != "" {
						t.Errorf("target %d: attempts of the calls (-want +got):\n%s", target, diff)
					}
				}
				h.idle()
			})
		})
	}
}

// What was never sent says nothing about the target, whose budget is not spent.
func TestRule26BudgetOfWhatWasNotSent(t *testing.T) {
	for name, i := range map[string]interceptors.Interceptor{
		"retry": interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2}),
		"hedge": interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 2}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				var down, none atomic.Bool
				source := interceptors.TokenSourceFunc(func(context.Context) (string, error) {
					if none.Load() {
						return "", errors.New("no issuer")
					}
					return "token", nil
				})
				h := start(t, upOrDown(&calls, &down), on(interceptors.ClientSide, i, interceptors.Token(source, interceptors.AllowPlaintext())))
				none.Store(true)
				budgeted(h.client, &calls, &down, true, 10)
				none.Store(false)
				if diff := cmp.Diff([]int64{2, 2, 1}, budgeted(h.client, &calls, &down, true, 3)); diff != "" {
					t.Errorf("attempts of calls after those without a token (-want +got):\n%s", diff)
				}
				h.idle()
			})
		})
	}
}

// previousAttempts is what a server is told of the attempts before.
func previousAttempts(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return fmt.Sprint(md.Get("grpc-previous-rpc-attempts"))
}

// A call that is made with the context of an attempt is another call: its server
// hears of no attempts before, and it is counted as its own first one.
func TestRule26AttemptsAreOfTheirCall(t *testing.T) {
	for name, i := range map[string]interceptors.Interceptor{
		"retry": interceptors.Retry(interceptors.RetryPolicy{}),
		"hedge": interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 3}),
	} {
		for _, watched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/WithAttempts %v", name, watched), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var nested []string
					other := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
						nested = append(nested, previousAttempts(ctx))
						return &testpb.SimpleResponse{}, nil
					}}, func(h *harness) { h.clients = append(h.clients, interceptors.WithAttempts()) })
					var own []string
					h := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
						if own = append(own, previousAttempts(ctx)); len(own) < 3 {
							return nil, status.Error(codes.Unavailable, "not now")
						}
						return &testpb.SimpleResponse{}, nil
					}}, func(h *harness) {
						if watched {
							h.clients = append(h.clients, interceptors.WithAttempts())
						}
						h.clients = append(h.clients, i, interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
							if err := other.call(ctx, interceptors.Unary); err != nil {
								return err
							}
							return next(ctx)
						}))
					})
					if err := h.call(context.Background(), interceptors.Unary); err != nil {
						t.Fatal(err)
					}
					h.idle()
					if diff := cmp.Diff([]string{"[]", "[1]", "[2]"}, own); diff != "" {
						t.Errorf("what the server was told (-want +got):\n%s", diff)
					}
					if diff := cmp.Diff([]string{"[]", "[]", "[]"}, nested); diff != "" {
						t.Errorf("what another server was told (-want +got):\n%s", diff)
					}
					other.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 3})
				})
			})
		}
	}
}
