package main

import (
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/validator"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Both ask the message whether it has a method to validate itself. gRPC's test
// messages have none: what a method takes is its own.
var validateScenario = scenario{
	name: "`Validate`",
	ours: func() interceptors.Interceptor { return interceptors.Validate() },
	peer: "validator", theirs: func() grpc.UnaryServerInterceptor { return validator.UnaryServerInterceptor() },
}
