package interceptors_test

import (
	"context"
	"fmt"
	"strings"

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
