package main

import (
	"context"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A scenario is a row of the table: an interceptor that lets a call pass, and
// go-grpc-middleware's that does the same.
type scenario struct {
	name string
	side interceptors.Side
	ours func() interceptors.Interceptor

	peer   string // "" where there is none
	theirs func() grpc.UnaryServerInterceptor
	client func() grpc.UnaryClientInterceptor // where it is a client's

	// context adds to the context of the client what the call is let pass for; nil
	// is nothing.
	context func(context.Context) context.Context
	request *testpb.SimpleRequest // nil is an empty one

	// budget is how many allocations ours may take more than base, which by default is
	// an interceptor that does nothing; zero is three.
	budget int
	base   interceptors.Interceptor
}

// scenarios are measured in this order.
var scenarios = []scenario{
	authenticateBearer,
	authenticateHeader,
	authenticateCertificate,
	authorizeScope,
	timeoutCaller,
	timeoutDefault,
	validateScenario,
	payloadRatio,
	payloadLogged,
	rateLimitGlobal,
	rateLimitPeer,
	rateLimitUser,
	rateLimitHeaders,
	concurrencyScenario,
	adaptiveScenario,
	breakerClosed,
	tokenScenario,
}

// noop is what an interceptor costs that does nothing.
func noop(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) }

func (s scenario) outgoing(ctx context.Context) context.Context {
	if s.context != nil {
		return s.context(ctx)
	}
	return ctx
}

func (s scenario) message() *testpb.SimpleRequest {
	if s.request != nil {
		return s.request
	}
	return &testpb.SimpleRequest{}
}
