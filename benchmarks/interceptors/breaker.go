package main

import (
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A closed breaker, which is what calls meet every day, beside failsafe-go's:
// go-grpc-middleware has none.
var breakerClosed = scenario{
	name: "`CircuitBreaker`, closed", side: interceptors.ClientSide,
	ours: func() interceptors.Interceptor { return interceptors.CircuitBreaker(interceptors.BreakerPolicy{}) },
	peer: "failsafe-go's", client: func() grpc.UnaryClientInterceptor {
		return failsafegrpc.NewUnaryClientInterceptor(circuitbreaker.NewBuilder[*testpb.SimpleResponse]().WithFailureThreshold(5).Build())
	},
}
