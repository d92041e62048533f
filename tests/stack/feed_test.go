package stack

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"

	rpcerrors "github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
)

// start is the time of feed's first point: any will do, and a fixed one makes every run the same.
var start = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

const (
	interval = 15 * time.Second // between exports, as in compose
	exports  = 9                // two minutes: more than the range of any panel
)

// feed has a server and a client that rpcscope instruments call each other for
// a while, in ways that end well and badly, with one stream open all along, and
// exports their metrics to b every interval, which evaluates the rules then. It returns the time of the last export.
func feed(t *testing.T, b *backend) time.Time {
	t.Helper()
	ctx := t.Context()
	tel, err := telemetry.Setup(ctx,
		telemetry.WithoutGlobals(),
		telemetry.WithLookupEnv(func(string) (string, bool) { return "", false }),
		telemetry.WithDiagnostics(slog.NewTextHandler(t.Output(), nil)),
		telemetry.WithServiceName("users-api"),
		telemetry.WithResourceAttributes(attribute.String("service.namespace", "users"), attribute.String("service.version", "1.2.3")),
		telemetry.WithEndpoint(b.URL),
		telemetry.WithProtocol("http/protobuf"),
		telemetry.WithMetricInterval(time.Hour), // feed flushes
		telemetry.WithView(b.created.view),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
	client, served := connect(t, tel)
	rules := b.ruler(t)

	open, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Recv(); err != nil {
		t.Fatal(err)
	}
	now := start
	for i := range exports {
		for _, code := range []codes.Code{codes.OK, codes.NotFound, codes.Unavailable, codes.Internal} {
			call(t, client, code)
			<-served // a client has its answer before the server is done with the call
		}
		refuse(t, client)
		<-served
		for range leaveAlone(t, client, i) {
			<-served
		}
		callPanicking(t, client)
		now = start.Add(time.Duration(i) * interval)
		b.at(now)
		if err := tel.ForceFlush(ctx); err != nil {
			t.Fatal(err)
		}
		for _, err := range rules.eval(ctx, now) {
			t.Error(err)
		}
	}
	// Ended here, after the last point, and waited for, so that the server can stop.
	if err := open.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("got end of stream %v, want EOF", err)
	}
	b.at(now.Add(interval))
	return now
}

// call makes one call that ends with a code; Internal is a panic of the handler.
func call(t *testing.T, client testgrpc.TestServiceClient, want codes.Code) {
	t.Helper()
	_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{
		ResponseStatus: &testgrpc.EchoStatus{Code: int32(want)},
	})
	if got := rpcerrors.Code(err); got != want {
		t.Fatalf("got code %v, want %v", got, want)
	}
}

// refuse makes a call that is over the limit.
func refuse(t *testing.T, client testgrpc.TestServiceClient) {
	t.Helper()
	_, err := client.CacheableUnaryCall(t.Context(), &testgrpc.SimpleRequest{})
	if !rpcerrors.Is(err, interceptors.ErrRateLimited) {
		t.Fatalf("got error %v, want %v", err, interceptors.ErrRateLimited)
	}
}

// leaveAlone makes a call that fails, is made again, and is not even sent once the breaker has seen three failures. It
// returns how many calls the server has had.
func leaveAlone(t *testing.T, client testgrpc.TestServiceClient, round int) int {
	t.Helper()
	stream, err := client.StreamingOutputCall(t.Context(), &testgrpc.StreamingOutputCallRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	served := max(0, 2-round)
	want := codes.Unimplemented
	if served < 2 {
		want = codes.Unavailable
	}
	if got := rpcerrors.Code(err); got != want {
		t.Fatalf("round %d: got code %v, want %v", round, got, want)
	}
	return served
}

// callPanicking makes a call in which the client's interceptor panics.
func callPanicking(t *testing.T, client testgrpc.TestServiceClient) {
	t.Helper()
	defer func() {
		if got, want := recover(), "the interceptor's"; got != want {
			t.Errorf("got panic %v, want %v", got, want)
		}
	}()
	_, err := client.EmptyCall(t.Context(), &testgrpc.Empty{})
	t.Errorf("got error %v, want a panic", err)
}

// ended tells of each call that the server has ended, the suite's part in that included.
type ended chan struct{}

func (ended) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (ended) HandleConn(context.Context, stats.ConnStats)                       {}
func (ended) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }

func (e ended) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.End); ok {
		e <- struct{}{}
	}
}

// connect serves the test service on loopback and returns a client of it.
func connect(t *testing.T, tel *telemetry.Telemetry) (testgrpc.TestServiceClient, ended) {
	t.Helper()
	providers := []interceptors.Option{
		interceptors.WithTracerProvider(tel.TracerProvider()),
		interceptors.WithMeterProvider(tel.MeterProvider()),
		interceptors.WithPropagator(tel.Propagator()),
		interceptors.WithLogger(slog.New(tel.SlogHandler(nil))),
		interceptors.WithMessageMetrics(),
		interceptors.MaxTimeout(time.Minute),
	}
	server := []interceptors.ServerOption{limits()}
	dial := []interceptors.ClientOption{
		interceptors.WithAttempts(),
		interceptors.For(interceptors.Methods(testgrpc.TestService_StreamingOutputCall_FullMethodName),
			interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2, InitialBackoff: time.Nanosecond, Codes: []codes.Code{codes.Unimplemented}}),
			interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 3, OpenFor: time.Hour, IsFailure: func(error) bool { return true }})),
		interceptors.For(interceptors.Methods(testgrpc.TestService_EmptyCall_FullMethodName),
			func(context.Context, *interceptors.Call, interceptors.Next) error { panic("the interceptor's") }),
	}
	for _, p := range providers {
		server, dial = append(server, p), append(dial, p)
	}
	done := make(ended, 1) // one call at a time, and the stream at the end
	// gRPC tells its handlers in the order of the options: the suite's first.
	srv := grpc.NewServer(append(interceptors.ServerOptions(server...), grpc.StatsHandler(done))...)
	testgrpc.RegisterTestServiceServer(srv, service{})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		srv.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(listener.Addr().String(), append(interceptors.DialOptions(dial...),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return testgrpc.NewTestServiceClient(conn), done
}

// limits are those of one method: a rate limiter that cannot tell, which lets calls happen, and one that lets none.
func limits() interceptors.Interceptor {
	return interceptors.For(interceptors.Methods(testgrpc.TestService_CacheableUnaryCall_FullMethodName),
		interceptors.ConcurrencyLimit(100),
		interceptors.RateLimit(limiter(func() (interceptors.Decision, error) {
			return interceptors.Decision{}, errors.New("the store is away")
		}), interceptors.Global, interceptors.PolicyName("shared")),
		interceptors.RateLimit(limiter(func() (interceptors.Decision, error) {
			return interceptors.Decision{RetryAfter: time.Second}, nil
		}), interceptors.Global),
	)
}

type limiter func() (interceptors.Decision, error)

func (l limiter) Allow(context.Context, string) (interceptors.Decision, error) { return l() }

var errUserNotFound = rpcerrors.Define(codes.NotFound, "users", "USER_NOT_FOUND", "no such user")

type service struct {
	testgrpc.UnimplementedTestServiceServer
}

func (service) UnaryCall(_ context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	switch code := codes.Code(in.GetResponseStatus().GetCode()); code {
	case codes.OK:
		return &testgrpc.SimpleResponse{}, nil
	case codes.NotFound:
		return nil, errUserNotFound
	case codes.Internal:
		panic("the handler's")
	default:
		return nil, rpcerrors.Coded(code, "as asked")
	}
}

// FullDuplexCall answers each message and ends when the client has no more.
func (service) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}
