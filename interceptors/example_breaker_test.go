package interceptors_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// After two failures in a row the service is left alone, and callers are told for
// how long.
func ExampleCircuitBreaker() {
	breaker := interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 2, OpenFor: time.Minute})

	down := func(context.Context) error { return errors.Unavailable("down for maintenance") }
	for range 3 {
		call := &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser", Side: interceptors.ClientSide}
		err := breaker(context.Background(), call, down)
		after, _ := errors.RetryAfter(err)
		fmt.Println(errors.Code(err), errors.Is(err, interceptors.ErrBreakerOpen), after.Round(time.Second))
	}
	// Output:
	// Unavailable false 0s
	// Unavailable false 0s
	// Unavailable true 1m0s
}

// A token that somebody else keeps up to date in a file, as Kubernetes does.
func ExampleToken() {
	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(
		interceptors.Retry(interceptors.RetryPolicy{}),
		interceptors.CircuitBreaker(interceptors.BreakerPolicy{}),
		interceptors.Token(interceptors.TokenFile("/var/run/secrets/tokens/users")),
	), grpc.WithTransportCredentials(credentials.NewTLS(nil)))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
}

// A token is fetched once for many calls.
func ExampleCachedToken() {
	issued := 0
	source := interceptors.CachedToken(func(context.Context) (string, time.Time, error) {
		issued++
		return fmt.Sprint("token-", issued), time.Now().Add(time.Hour), nil
	})
	for range 2 {
		token, err := source.Token(context.Background())
		fmt.Println(token, err)
	}
	// Output:
	// token-1 <nil>
	// token-1 <nil>
}
