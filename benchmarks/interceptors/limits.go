package main

import (
	"context"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// go-grpc-middleware's ratelimit with a limiter for all calls together, which is
// what its interface can do: it does not see the call. Beside it one for each
// peer, and one for each user, whom an interceptor before it knows.
var (
	rateLimitGlobal = rateLimitScenario("`RateLimit`, `Global`", interceptors.Global)
	rateLimitPeer   = rateLimitScenario("`RateLimit`, `ByPeer`", interceptors.ByPeer)
	rateLimitUser   = identified(rateLimitScenario("`RateLimit`, `ByUser`", interceptors.ByUser))

	// Headers are sent, which costs a call more than what is in them.
	rateLimitHeaders = scenario{
		name: "`RateLimit`, `QuotaHeaders`, more than headers",
		ours: func() interceptors.Interceptor {
			return interceptors.RateLimit(bucket(), interceptors.Global, interceptors.QuotaHeaders())
		},
		base: func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			if err := call.SetHeader(metadata.Pairs("ratelimit", `"default";r=999999999;t=1`, "ratelimit-policy", `"default";q=1000000000`)); err != nil {
				return err
			}
			return next(ctx)
		},
	}

	concurrencyScenario = scenario{name: "`ConcurrencyLimit`", ours: func() interceptors.Interceptor { return interceptors.ConcurrencyLimit(1000) }}
	adaptiveScenario    = scenario{name: "`AdaptiveLimit`", ours: func() interceptors.Interceptor {
		return interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{})
	}}
)

func bucket() *interceptors.TokenBucket { return interceptors.NewTokenBucket(1e9, 1e9) }

// shared is a bucket as go-grpc-middleware's limiter.
type shared struct{ *interceptors.TokenBucket }

func (s shared) Limit(ctx context.Context) error {
	d, err := s.Allow(ctx, "")
	if err == nil && !d.Allowed {
		err = interceptors.ErrRateLimited
	}
	return err
}

func rateLimitScenario(name string, key interceptors.KeyFunc) scenario {
	return scenario{
		name: name,
		ours: func() interceptors.Interceptor { return interceptors.RateLimit(bucket(), key) },
		peer: "ratelimit", theirs: func() grpc.UnaryServerInterceptor { return ratelimit.UnaryServerInterceptor(shared{bucket()}) },
	}
}

// identified has the calls of s belong to a user.
func identified(s scenario) scenario {
	identify := func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		return next(propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "ada"}))
	}
	limit := s.ours
	s.ours = func() interceptors.Interceptor { return interceptors.Chain(identify, limit()) }
	s.base = interceptors.Chain(identify, noop)
	return s
}
