package interceptors_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// What a call option says is for the one call, and for those who look at it.
func TestCallTimeout(t *testing.T) {
	second := interceptors.Timeout(time.Second)
	for name, test := range map[string]struct {
		chain    []interceptors.Interceptor
		option   []grpc.CallOption
		deadline time.Duration
		want     time.Duration // that the call takes until it is given up
	}{
		"none":                {chain: []interceptors.Interceptor{second}, want: time.Second},
		"longer":              {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{interceptors.CallTimeout(time.Minute)}, want: time.Minute},
		"shorter":             {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{interceptors.CallTimeout(time.Millisecond)}, want: time.Millisecond},
		"the last counts":     {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{interceptors.CallTimeout(time.Minute), interceptors.CallTimeout(2 * time.Minute)}, want: 2 * time.Minute},
		"no limit":            {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{interceptors.CallTimeout(0)}, want: time.Hour},
		"no Timeout":          {chain: []interceptors.Interceptor{nil}, option: []grpc.CallOption{interceptors.CallTimeout(time.Second)}, want: time.Hour},
		"caller's deadline":   {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{interceptors.CallTimeout(time.Second)}, deadline: 5 * time.Second, want: 5 * time.Second},
		"maximum stays":       {chain: []interceptors.Interceptor{interceptors.MaxTimeout(time.Minute), second}, option: []grpc.CallOption{interceptors.CallTimeout(time.Hour)}, want: time.Minute},
		"no interceptors":     {option: []grpc.CallOption{interceptors.CallTimeout(time.Second), interceptors.CallRetry(interceptors.RetryPolicy{})}, want: time.Hour},
		"among other options": {chain: []interceptors.Interceptor{second}, option: []grpc.CallOption{grpc.WaitForReady(true), interceptors.CallTimeout(time.Minute), grpc.MaxCallRecvMsgSize(1 << 20)}, want: time.Minute},
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					wait := func(ctx context.Context) error {
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(time.Hour):
							return status.Error(codes.Aborted, "nobody stopped it")
						}
					}
					h := start(t, waitingFor(wait), func(h *harness) {
						on(interceptors.ClientSide, test.chain...)(h)
						h.dial = append(h.dial, grpc.WithDefaultCallOptions(test.option...))
					})
					ctx := context.Background()
					if test.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
						defer cancel()
					}
					want := codes.DeadlineExceeded
					if test.want == time.Hour {
						want = codes.Aborted
					}
					begun := time.Now()
					if err := h.call(ctx, kind); status.Code(err) != want || time.Since(begun) != test.want {
						t.Errorf("%v after %v, want %v after %v", err, time.Since(begun), want, test.want)
					}
					h.idle()
				})
			})
		}
	}
}

func TestCallRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, slices.Repeat([]func(context.Context) error{fails(codes.Unavailable)}, 100)...),
			on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2, Budget: -1})))
		for _, test := range []struct {
			opts []grpc.CallOption
			want int64
		}{
			{nil, 2},
			{[]grpc.CallOption{interceptors.CallRetry(interceptors.RetryPolicy{MaxAttempts: 1})}, 1},
			{[]grpc.CallOption{interceptors.CallRetry(interceptors.RetryPolicy{MaxAttempts: 5})}, 5},
			{[]grpc.CallOption{interceptors.CallRetry(interceptors.RetryPolicy{Codes: []codes.Code{codes.Aborted}})}, 1},
		} {
			calls.Store(0)
			_, err := h.client.UnaryCall(context.Background(), &testpb.SimpleRequest{}, test.opts...)
			if status.Code(err) != codes.Unavailable || calls.Load() != test.want {
				t.Errorf("%v after %d attempts, want Unavailable after %d", err, calls.Load(), test.want)
			}
		}
		h.idle()
	})
}
