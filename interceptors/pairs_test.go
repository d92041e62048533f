package interceptors_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// clientInterceptors let the calls of the test pass, once or again.
var clientInterceptors = map[string]func() interceptors.Interceptor{
	"Timeout": func() interceptors.Interceptor { return interceptors.Timeout(time.Hour) },
	"Retry":   func() interceptors.Interceptor { return interceptors.Retry(interceptors.RetryPolicy{}) },
	"Retry with a time for each attempt": func() interceptors.Interceptor {
		return interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Minute})
	},
	"Hedge":          func() interceptors.Interceptor { return interceptors.Hedge(interceptors.HedgePolicy{}) },
	"CircuitBreaker": func() interceptors.Interceptor { return interceptors.CircuitBreaker(interceptors.BreakerPolicy{}) },
	"Token": func() interceptors.Interceptor {
		return interceptors.Token(tokenOf("secret"), interceptors.AllowPlaintext())
	},
	"RateLimit": func() interceptors.Interceptor {
		return interceptors.RateLimit(interceptors.NewTokenBucket(1e6, 1e6), interceptors.ByMethod, interceptors.PerMessage())
	},
	"ConcurrencyLimit": func() interceptors.Interceptor { return interceptors.ConcurrencyLimit(10) },
	"LogPayloads":      func() interceptors.Interceptor { return interceptors.LogPayloads() },
	"one of a user's":  func() interceptors.Interceptor { return hooksAndValue },
}

// serverInterceptors are the same for a server.
var serverInterceptors = map[string]func() interceptors.Interceptor{
	"Timeout":    clientInterceptors["Timeout"],
	"MaxTimeout": func() interceptors.Interceptor { return interceptors.MaxTimeout(time.Hour) },
	"Authenticate": func() interceptors.Interceptor {
		return interceptors.Authenticate(somebody, interceptors.AllowAnonymous(interceptors.Methods("*")))
	},
	"Authenticate again and again": func() interceptors.Interceptor {
		return interceptors.Authenticate(somebody, interceptors.Recheck(time.Second))
	},
	"Authorize": func() interceptors.Interceptor { return interceptors.Authorize(interceptors.Anyone("*")) },
	"RateLimit": clientInterceptors["RateLimit"],
	"RateLimit by user": func() interceptors.Interceptor {
		return interceptors.RateLimit(interceptors.NewTokenBucket(1e6, 1e6), interceptors.ByUser, interceptors.QuotaHeaders())
	},
	"ConcurrencyLimit": clientInterceptors["ConcurrencyLimit"],
	"AdaptiveLimit":    func() interceptors.Interceptor { return interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{}) },
	"Validate":         func() interceptors.Interceptor { return interceptors.Validate() },
	"LogPayloads":      clientInterceptors["LogPayloads"],
	"one of a user's":  clientInterceptors["one of a user's"],
}

var somebody = interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
	return propagation.Identity{UserID: "ada", ExpiresAt: time.Now().Add(time.Hour)}, nil
})

func hooksAndValue(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
	call.OnSend(func(any) error { return nil })
	call.OnReceive(func(any) error { return nil })
	return next(context.WithValue(ctx, kindKey{}, call.Kind))
}

type kindKey struct{}

// Whichever interceptor a client or a server has around whichever other: one call
// is one point with the code that the caller got, nothing is left in flight, and
// there are as many attempts as one of the two would make alone.
func TestPairs(t *testing.T) {
	for side, all := range map[interceptors.Side]map[string]func() interceptors.Interceptor{
		interceptors.ClientSide: clientInterceptors, interceptors.ServerSide: serverInterceptors,
	} {
		for outer := range all {
			for inner := range all {
				t.Run(side.String()+"/"+outer+" around "+inner, func(t *testing.T) {
					has := func(name string) bool { return strings.HasPrefix(outer, name) || strings.HasPrefix(inner, name) }
					for _, kind := range kinds {
						again := has("Hedge") && kind == interceptors.Unary ||
							has("Retry") && (kind == interceptors.Unary || kind == interceptors.ServerStream)
						t.Run(kind.String(), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) { onePair(t, side, kind, again, all[outer](), all[inner]()) })
						})
					}
				})
			}
		}
	}
}

// onePair makes a call that is unavailable at first, and one after it.
func onePair(t *testing.T, side interceptors.Side, kind interceptors.Kind, again bool, outer, inner interceptors.Interceptor) {
	var calls atomic.Int64
	unavailable := func(context.Context) error { return status.Error(codes.Unavailable, "not yet") }
	h := start(t, failingFirst(&calls, unavailable), on(side, outer, inner))
	want := []codes.Code{codes.Unavailable, codes.OK}
	attempts := int64(2)
	if again {
		want[0], attempts = codes.OK, 3
	}
	got := []codes.Code{status.Code(h.silent(t.Context(), kind)), status.Code(h.silent(t.Context(), kind))}
	synctest.Wait()
	if !slices.Equal(got, want) || calls.Load() != attempts {
		t.Errorf("the caller got %v in %d attempts, want %v in %d", got, calls.Load(), want, attempts)
	}
	points := make(map[string]int64)
	for _, code := range want {
		points[canonical(code)]++
	}
	if diff := cmp.Diff(points, h.tally("rpc."+side.String()+".call.duration", "rpc.response.status_code")); diff != "" {
		t.Errorf("durations (-want +got):\n%s", diff)
	}
	for method, n := range h.tally("rpcscope."+side.String()+".active_calls", "rpc.method") {
		if n != 0 {
			t.Errorf("%d calls of %s are in flight", n, method)
		}
	}
	if started, ended := len(h.spans.Started()), len(h.spans.Ended()); started != ended {
		t.Errorf("%d spans began and %d ended", started, ended)
	}
}
