package interceptorstest_test

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	rpcerrors "github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// An interceptor that refuses does so on all kinds of calls, on both sides.
func ExampleCheck() {
	readOnly := func(context.Context, *interceptors.Call, interceptors.Next) error {
		return rpcerrors.FailedPrecondition("the service is read-only until noon")
	}
	fmt.Println(interceptorstest.Check(readOnly, interceptorstest.Rejects(codes.FailedPrecondition)))
	// Output: <nil>
}

// What is wrong has a name, and a situation in which it shows.
func ExampleViolation() {
	quiet := func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		_ = next(ctx) // the mistake
		return nil
	}
	err := interceptorstest.Check(quiet,
		interceptorstest.Sides(interceptors.ServerSide), interceptorstest.Kinds(interceptors.ServerStream))

	var v *interceptorstest.Violation
	if errors.As(err, &v) {
		fmt.Printf("%s %s, %s\n", v.Side, v.Kind, v.Ending)
		fmt.Printf("%s: %s\n", v.Obligation, v.Got)
	}
	// Output:
	// server server_stream, error
	// returns-error: next returned Canceled and it returned OK
}
