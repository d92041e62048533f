package interceptors_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// One call gives a server everything, another one a client.
func Example() {
	server := grpc.NewServer(interceptors.ServerOptions()...)
	defer server.Stop()

	conn, err := grpc.NewClient("dns:///localhost:50051", append(interceptors.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	fmt.Println(conn.Target())
	// Output: dns:///localhost:50051
}

// An interceptor is one function for unary calls and all kinds of streams, on
// servers and clients: next returns when the call has ended.
func ExampleInterceptor() {
	slow := func(limit time.Duration) interceptors.Interceptor {
		return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			defer func() {
				if d := time.Since(call.Start()); d > limit {
					slog.WarnContext(ctx, "slow call", "method", call.FullMethod, "kind", call.Kind, "duration", d, "sent", call.Sent())
				}
			}()
			return next(ctx)
		}
	}
	server := grpc.NewServer(interceptors.ServerOptions(slow(time.Second))...)
	defer server.Stop()
}

// Interceptors that apply to some methods only.
func ExampleFor() {
	readOnly := func(context.Context, *interceptors.Call, interceptors.Next) error {
		return errors.FailedPrecondition("the service is read-only until noon")
	}
	write := interceptors.Methods("/users.v1.UserService/CreateUser", "/users.v1.UserService/ImportUsers")
	interceptor := interceptors.For(write, readOnly)

	for _, method := range []string{"/users.v1.UserService/GetUsers", "/users.v1.UserService/CreateUser"} {
		err := interceptor(context.Background(), &interceptors.Call{FullMethod: method}, func(context.Context) error { return nil })
		fmt.Println(method, errors.Code(err))
	}
	// Output:
	// /users.v1.UserService/GetUsers OK
	// /users.v1.UserService/CreateUser FailedPrecondition
}
