package protovalidate_test

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/protovalidate"
)

// A server that checks what it receives.
func ExampleNew() {
	server := grpc.NewServer(interceptors.ServerOptions(interceptors.Validate(protovalidate.New(nil)))...)
	defer server.Stop()
}

// What a caller reads of the refusal.
func ExampleNew_violations() {
	err := protovalidate.New(nil).Validate(context.Background(), message("User", `name: "Al" friends { name: "Bo" }`))
	if bad, ok := errors.Detail[*errdetails.BadRequest](err); ok {
		for _, v := range bad.GetFieldViolations() {
			fmt.Println(v.GetField(), v.GetReason(), v.GetDescription())
		}
	}
	// Output:
	// name STRING_MIN_LEN must be at least 3 characters
	// friends[0].name STRING_MIN_LEN must be at least 3 characters
}
