package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// One call in ten seconds for each user and two at once, and what a caller reads of
// a refusal.
func ExampleRateLimit() {
	limit := interceptors.RateLimit(interceptors.NewTokenBucket(0.1, 2), interceptors.ByUser, interceptors.PolicyName("per-user"))

	ada := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: "ada"})
	bob := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: "bob"})
	for _, ctx := range []context.Context{ada, ada, ada, bob} {
		err := limit(ctx, &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser"}, func(context.Context) error { return nil })
		id, _ := propagation.IdentityFromContext(ctx)
		fmt.Println(id.UserID, errors.Code(err))
		if errors.Is(err, interceptors.ErrRateLimited) {
			wait, _ := errors.RetryAfter(err)
			quota, _ := errors.Detail[*errdetails.QuotaFailure](err)
			fmt.Println(wait > 9e9, quota.GetViolations()[0].GetSubject(), quota.GetViolations()[0].GetQuotaValue())
		}
	}
	// Output:
	// ada OK
	// ada OK
	// ada ResourceExhausted
	// true per-user 2
	// bob OK
}

// A limit for strangers before they are asked who they are, a limit of messages
// for each user, and a limit of calls for all.
func ExampleRateLimit_several() {
	tokens := func(context.Context, *interceptors.Call) (propagation.Identity, error) {
		return propagation.Identity{UserID: "ada"}, nil
	}
	interceptors.ServerOptions(
		interceptors.RateLimit(interceptors.NewTokenBucket(1, 10), interceptors.ByPeerPrefix(32, 64), interceptors.PolicyName("strangers")),
		interceptors.Authenticate(interceptors.AuthenticatorFunc(tokens)),
		interceptors.RateLimit(interceptors.NewTokenBucket(100, 100), interceptors.ByUser, interceptors.PolicyName("messages"), interceptors.PerMessage()),
		interceptors.RateLimit(interceptors.NewTokenBucket(1000, 1000), interceptors.Global, interceptors.PolicyName("everybody")),
	)
}

// Batches are shed first, what people wait for last.
func ExampleAdaptiveLimit() {
	priority := func(_ context.Context, call *interceptors.Call) interceptors.Priority {
		switch {
		case strings.HasPrefix(call.Method(), "Import"):
			return interceptors.PriorityLow
		case call.Method() == "GetUser":
			return interceptors.PriorityHigh
		}
		return interceptors.PriorityNormal
	}
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }
	interceptors.ServerOptions(
		interceptors.For(unary, interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Priority: priority})),
		interceptors.For(interceptors.Not(unary), interceptors.ConcurrencyLimit(1000)),
	)
}

// Of ten places imports may have five, and who looks up a user may have all.
func ExampleConcurrencyLimitBy() {
	limit := interceptors.ConcurrencyLimitBy(10, func(_ context.Context, call *interceptors.Call) interceptors.Priority {
		switch call.Method() {
		case "ImportUsers":
			return interceptors.PriorityLow
		case "GetUser":
			return interceptors.PriorityHigh
		}
		return interceptors.PriorityNormal
	})
	// Calls at the same time: each begins while those before it still run.
	calls := slices.Concat(slices.Repeat([]string{"ImportUsers"}, 7), slices.Repeat([]string{"ListUsers"}, 7), slices.Repeat([]string{"GetUser"}, 7))
	let, shed := map[string]int{}, map[string]int{}
	var begin func()
	begin = func() {
		if len(calls) == 0 {
			return
		}
		method := calls[0]
		calls = calls[1:]
		err := limit(context.Background(), &interceptors.Call{FullMethod: "/users.v1.UserService/" + method}, func(context.Context) error {
			let[method]++
			begin()
			return nil
		})
		if errors.Is(err, interceptors.ErrConcurrencyLimit) {
			shed[method]++
			begin()
		}
	}
	begin()
	for _, method := range []string{"ImportUsers", "ListUsers", "GetUser"} {
		fmt.Println(method, let[method], "run,", shed[method], "are shed")
	}
	// Output:
	// ImportUsers 5 run, 2 are shed
	// ListUsers 4 run, 3 are shed
	// GetUser 1 run, 6 are shed
}

// Whoever asks for an hour gets ten seconds, who asks for nothing two, and who asks
// for one gets that.
func ExampleMaxTimeout() {
	deadlines := interceptors.Chain(interceptors.Timeout(2*time.Second), interceptors.MaxTimeout(10*time.Second))
	for _, asked := range []time.Duration{time.Hour, 0, time.Second} {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if asked > 0 {
			ctx, cancel = context.WithTimeout(ctx, asked)
		}
		err := deadlines(ctx, &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser"}, func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			fmt.Println(time.Until(deadline).Round(time.Second))
			return nil
		})
		cancel()
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 10s
	// 2s
	// 1s
}
