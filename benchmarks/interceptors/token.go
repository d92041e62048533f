package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A token that is at hand, and what it takes more than credentials that somebody
// wrote by hand, who send the same and look at nothing.
var tokenScenario = scenario{
	name: "`Token` of a `CachedToken`, more than a credential", side: interceptors.ClientSide,
	ours: func() interceptors.Interceptor {
		cached := interceptors.CachedToken(func(context.Context) (string, time.Time, error) { return "secret", time.Time{}, nil })
		return interceptors.Token(cached, interceptors.AllowPlaintext())
	},
	base: func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		call.AddCallOptions(byHand)
		return next(ctx)
	},
}

var byHand = grpc.PerRPCCredentials(handwritten{})

// handwritten is a credential without checks.
type handwritten struct{}

var _ credentials.PerRPCCredentials = handwritten{}

func (handwritten) RequireTransportSecurity() bool { return false }

func (handwritten) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer secret"}, nil
}
