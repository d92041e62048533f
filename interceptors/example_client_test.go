package interceptors_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Three attempts of a second each, for what is safe to do twice; a call that
// must not be made twice says so.
func ExampleRetry() {
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }
	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(
		interceptors.For(unary, interceptors.Timeout(5*time.Second)),
		interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}),
	), grpc.WithTransportCredentials(credentials.NewTLS(nil)))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	// Once and no more:
	_, err = testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{},
		interceptors.CallRetry(interceptors.RetryPolicy{MaxAttempts: 1}))
	fmt.Println(errors.Code(err))
}

// The reads of a service, made again when they take longer than nearly all do.
func ExampleHedge() {
	reads := interceptors.Methods("/users.v1.UserService/GetUser", "/users.v1.UserService/ListUsers")
	options := interceptors.DialOptions(
		interceptors.For(reads, interceptors.Hedge(interceptors.HedgePolicy{Delay: 20 * time.Millisecond})),
		interceptors.For(interceptors.Not(reads), interceptors.Retry(interceptors.RetryPolicy{})),
	)
	_ = options
}

func ExampleRetryServiceConfig() {
	fmt.Println(interceptors.RetryServiceConfig(interceptors.RetryPolicy{Codes: []codes.Code{codes.Unavailable}}, "/users.v1.UserService/*"))
	// Output: {"methodConfig":[{"name":[{"service":"users.v1.UserService"}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.05s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}],"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}
}

// What a client tool says at its end about what it did.
func ExampleCounts() {
	counts := interceptors.NewCounts()
	count := counts.Interceptor()
	for _, err := range []error{nil, nil, errors.NotFound("nobody")} {
		call := &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser", Side: interceptors.ClientSide}
		_ = count(context.Background(), call, func(context.Context) error { return err })
	}
	for _, m := range counts.Snapshot() {
		fmt.Println(m.Method, "calls:", m.Calls, "errors:", m.Errors(), "not found:", m.Codes[codes.NotFound])
	}
	// Output: /users.v1.UserService/GetUser calls: 3 errors: 1 not found: 1
}

// A cache of replies, as an interceptor of one's own: where it has the reply it
// answers without calling next.
func ExampleInterceptor_cache() {
	cache := func() interceptors.Interceptor {
		var replies sync.Map
		return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			request, ok := call.Request.(proto.Message)
			if !ok {
				return next(ctx) // a stream
			}
			bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
			if err != nil {
				return errors.Internal(err)
			}
			key := call.FullMethod + "\x00" + string(bytes)
			if reply, ok := replies.Load(key); ok {
				call.Response = proto.Clone(reply.(proto.Message)) // it is the caller's then
				return nil
			}
			if err := next(ctx); err != nil {
				return err
			}
			replies.Store(key, proto.Clone(call.Response.(proto.Message)))
			return nil
		}
	}
	interceptor := interceptors.For(interceptors.Methods("/users.v1.UserService/GetUser"), cache())

	for range 2 {
		call := &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser", Request: &testpb.SimpleRequest{ResponseSize: 1}}
		err := interceptor(context.Background(), call, func(context.Context) error {
			fmt.Println("asking the server")
			call.Response = &testpb.SimpleResponse{Username: "ada"}
			return nil
		})
		fmt.Println(call.Response.(*testpb.SimpleResponse).GetUsername(), err)
	}
	// Output:
	// asking the server
	// ada <nil>
	// ada <nil>
}

// What an interceptor can change about a client's call besides its message.
func ExampleCall_AddCallOptions() {
	patient := func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		call.AddCallOptions(grpc.WaitForReady(true), grpc.UseCompressor(gzip.Name))
		return next(ctx)
	}
	options := interceptors.DialOptions(interceptors.For(interceptors.Methods("/reports.v1.Reports/*"), patient))
	_ = options
}
