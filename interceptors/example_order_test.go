package interceptors_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// A server's interceptors in the order that they are made for, the outermost
// first.
func ExampleServerOptions() {
	verify := func(_ context.Context, token string) (propagation.Identity, error) {
		return propagation.Identity{}, fmt.Errorf("no token of %d bytes is known", len(token))
	}
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary } // the limit of a stream would be that of all of it
	server := grpc.NewServer(interceptors.ServerOptions(
		interceptors.For(unary, interceptors.Timeout(5*time.Second), interceptors.MaxTimeout(time.Minute)),
		interceptors.ConcurrencyLimit(1000),
		interceptors.Authenticate(interceptors.BearerToken(verify), interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*"))),
		interceptors.RateLimit(interceptors.NewTokenBucket(10, 20), interceptors.ByUser),
		interceptors.Authorize(
			interceptors.Anyone("/grpc.health.v1.Health/*"),
			interceptors.Allow("/users.v1.UserService/DeleteUser", interceptors.Role("admin")),
			interceptors.Allow("/users.v1.UserService/*"),
		),
		interceptors.Validate(),
		interceptors.LogPayloads(interceptors.PayloadRatio(0.01)),
	)...)
	defer server.Stop()
}

// Limits for each method, and one for those that have none.
func ExampleTimeout() {
	reports := interceptors.Methods("/reports.v1.ReportService/*")
	limits := interceptors.Chain(
		interceptors.For(reports, interceptors.MaxTimeout(time.Minute)),
		interceptors.For(interceptors.Not(reports), interceptors.Timeout(2*time.Second), interceptors.MaxTimeout(10*time.Second)),
	)
	for _, method := range []string{"/reports.v1.ReportService/Yearly", "/users.v1.UserService/GetUsers"} {
		_ = limits(context.Background(), &interceptors.Call{FullMethod: method}, func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			fmt.Println(method, time.Until(deadline).Round(time.Second))
			return nil
		})
	}
	// Output:
	// /reports.v1.ReportService/Yearly 1m0s
	// /users.v1.UserService/GetUsers 2s
}

// A rule of one's own, and what a caller reads of the refusal.
func ExampleValidate() {
	limit := interceptors.Validate(interceptors.ValidatorFunc(func(_ context.Context, msg any) error {
		if r, ok := msg.(*testpb.SimpleRequest); ok && r.GetResponseSize() > 1024 {
			return interceptors.ErrInvalid.WithField("response_size", "TOO_LARGE", "at most 1024")
		}
		return nil
	}))
	call := &interceptors.Call{Request: &testpb.SimpleRequest{ResponseSize: 4096}}
	err := limit(context.Background(), call, func(context.Context) error { return nil })

	fmt.Println(errors.Code(err), errors.Is(err, interceptors.ErrInvalid))
	if bad, ok := errors.Detail[*errdetails.BadRequest](err); ok {
		for _, v := range bad.GetFieldViolations() {
			fmt.Println(v.GetField(), v.GetReason(), v.GetDescription())
		}
	}
	// Output:
	// InvalidArgument true
	// response_size TOO_LARGE at most 1024
}

// The messages of some methods, cut after 20 bytes.
func ExampleLogPayloads() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log := interceptors.For(interceptors.Methods("/users.v1.UserService/*"),
		interceptors.LogPayloads(interceptors.PayloadLogger(logger), interceptors.PayloadBytes(20)))

	call := &interceptors.Call{FullMethod: "/users.v1.UserService/GetUsers", Request: &testpb.SimpleRequest{ResponseSize: 7}}
	_ = log(context.Background(), call, func(context.Context) error {
		call.Response = &testpb.SimpleResponse{Username: "ada lovelace"}
		return nil
	})
	// Output:
	// level=INFO msg="server message" rpc.method=users.v1.UserService/GetUsers rpc.kind=unary rpc.message.type=RECEIVED rpc.message.id=1 rpc.message.uncompressed_size=2 rpcscope.payload.type=grpc.testing.SimpleRequest rpcscope.payload="{\"responseSize\":7}"
	// level=INFO msg="server message" rpc.method=users.v1.UserService/GetUsers rpc.kind=unary rpc.message.type=SENT rpc.message.id=1 rpc.message.uncompressed_size=14 rpcscope.payload.type=grpc.testing.SimpleResponse rpcscope.payload="{\"username\":\"ada lov" rpcscope.payload.truncated=true
}
