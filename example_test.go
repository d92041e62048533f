package rpcscope_test

// The code of README.md, which TestREADME compares with this file.

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
)

// A server and a client with all that there is by default.
func Example() {
	ctx := context.Background()
	tel := telemetry.MustSetup(ctx, telemetry.WithServiceName("users")) // OTLP to localhost:4317, or where OTEL_* says
	defer tel.Close()

	server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(tel.Logger()))...)
	defer server.Stop()

	creds := credentials.NewTLS(nil)
	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(interceptors.WithLogger(tel.Logger())),
		grpc.WithTransportCredentials(creds))...)
	if err == nil {
		defer conn.Close()
	}
}

var ErrUserNotFound = errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} not found")

// An error that callers recognise.
func Example_errors() {
	handler := func(id int, err error) error {
		return errors.Wrap(err, ErrUserNotFound.With("id", id)) // in a handler; the cause stays in the span and the log
	}
	err := handler(7, sql.ErrNoRows)

	if errors.Is(err, ErrUserNotFound) { // in the client, on the other side of the wire
		fmt.Println(errors.Code(err), errors.Message(err))
	}
	// Output: NotFound user 7 not found
}

func slow(limit time.Duration, log *slog.Logger) interceptors.Interceptor {
	return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		defer func() {
			if d := time.Since(call.Start()); d > limit {
				log.WarnContext(ctx, "slow call", "method", call.FullMethod, "duration", d, "messages", call.Sent())
			}
		}()
		return next(ctx)
	}
}

// One function for unary calls and all kinds of streams, on servers and clients.
func Example_interceptor() {
	server := grpc.NewServer(interceptors.ServerOptions(slow(time.Second, slog.Default()))...)
	defer server.Stop()
}

// Who may call, how often, for how long.
func Example_server() {
	server := guarded(storedSessions{"s3cr3t": {"ada", []string{"admin"}}})
	defer server.Stop()
}

// storedSessions are those of an application, by token.
type storedSessions map[string]session

type session struct {
	UserID string
	Roles  []string
}

func (s storedSessions) Find(_ context.Context, token string) (session, error) {
	found, ok := s[token]
	if !ok {
		return session{}, errors.New("no such session")
	}
	return found, nil
}

func guarded(sessions storedSessions) *grpc.Server {
	verify := func(ctx context.Context, token string) (propagation.Identity, error) {
		session, err := sessions.Find(ctx, token) // your own; an error refuses the call
		return propagation.Identity{UserID: session.UserID, Roles: session.Roles}, err
	}
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }

	server := grpc.NewServer(interceptors.ServerOptions(
		interceptors.For(unary, interceptors.Timeout(5*time.Second), interceptors.MaxTimeout(time.Minute)),
		interceptors.ConcurrencyLimit(1000), // or AdaptiveLimit
		interceptors.Authenticate(interceptors.BearerToken(verify), // or Authenticate(verifier, ...), of jwtauth
			interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*"))),
		interceptors.RateLimit(interceptors.NewTokenBucket(10, 20), interceptors.ByUser),
		interceptors.Authorize(
			interceptors.Anyone("/grpc.health.v1.Health/*"),
			interceptors.Allow("/users.v1.UserService/DeleteUser", interceptors.Role("admin")),
			interceptors.Allow("/users.v1.UserService/*"),
		),
		interceptors.Validate(),                                   // or Validate(protovalidate.New(nil))
		interceptors.LogPayloads(interceptors.PayloadRatio(0.01)), // debug_redact fields masked
	)...)
	return server
}

// What a client makes of failures.
func Example_client() {
	tel, creds := telemetry.MustSetup(context.Background()), credentials.NewTLS(nil)
	defer tel.Close()
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }

	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(
		interceptors.WithLogger(tel.Logger()),
		interceptors.For(unary, interceptors.Timeout(5*time.Second)),                 // unless the caller set a deadline
		interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}), // or For(reads, Hedge(...))
		interceptors.CircuitBreaker(interceptors.BreakerPolicy{}),
		interceptors.Token(interceptors.TokenFile("/var/run/secrets/tokens/users")), // or CachedToken(fetch)
	), grpc.WithTransportCredentials(creds))...)
	if err == nil {
		defer conn.Close()
	}
}
