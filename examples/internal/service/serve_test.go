package service_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// serve runs service.Serve and returns a client, the server's address, and what stops it and returns its error.
func serve(t *testing.T, cfg service.Config, opts ...telemetry.Option) (usersv1.UserServiceClient, string, func() error) {
	t.Helper()
	r := telemetrytest.New(t, opts...)
	cfg.Observe = observe.Through(r.Telemetry(), slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, l, cfg) }()
	t.Cleanup(cancel)
	conn, err := grpc.NewClient(l.Addr().String(), append(r.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := service.Check(timeout(t), l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return usersv1.NewUserServiceClient(conn), l.Addr().String(), func() error { cancel(); return <-served }
}

func TestServeStops(t *testing.T) {
	client, address, stop := serve(t, service.Config{Open: true})
	stream := watch(t, timeout(t), client, "", 0)
	start := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v with a watcher, want no wait", took)
	}
	if _, err := stream.Recv(); !errors.Is(err, users.ErrStopping) {
		t.Errorf("the watcher's error = %v, want %v", err, users.ErrStopping)
	}
	if err := service.Check(timeout(t), address); errors.Code(err) != codes.Unavailable {
		t.Errorf("health check after the end: %v, want %v", err, codes.Unavailable)
	}
}

// A call under way may end, and is ended when it takes too long.
func TestServeDrains(t *testing.T) {
	tests := []struct {
		name  string
		delay string
		drain time.Duration
		want  codes.Code
	}{
		{"in time", "delay=100ms", time.Minute, codes.OK},
		{"too late", "delay=1h", 50 * time.Millisecond, codes.Unavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			begun := make(serverSpans, 10)
			client, _, stop := serve(t, service.Config{Open: true, Faults: true, Drain: test.drain}, telemetry.WithSpanProcessor(begun))
			ended := make(chan error, 1)
			go func() {
				_, err := client.CreateUser(metadata.AppendToOutgoingContext(timeout(t), fault.Key, test.delay), &usersv1.CreateUserRequest{User: newUser("Ada")})
				ended <- err
			}()
			<-begun
			if err := stop(); err != nil {
				t.Error(err)
			}
			if err := <-ended; errors.Code(err) != test.want {
				t.Errorf("the call under way: %v, want %v", err, test.want)
			}
		})
	}
}

// serverSpans is a span processor that gets the name of each span that a server starts.
type serverSpans chan string

func (c serverSpans) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if s.SpanKind() == trace.SpanKindServer {
		c <- s.Name()
	}
}
func (serverSpans) OnEnd(sdktrace.ReadOnlySpan)      {}
func (serverSpans) Shutdown(context.Context) error   { return nil }
func (serverSpans) ForceFlush(context.Context) error { return nil }

func TestServeFails(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "no", "such", "folder.db")
	if err := service.Serve(t.Context(), l, service.Config{Database: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %v, want one that names %s", err, path)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v, want it closed", err)
	}
}

// One span on each side of a call of each kind, the server's beneath the client's, and one point in the metrics.
func TestOneSpanPerCall(t *testing.T) {
	tests := map[string]func(usersv1.UserServiceClient) error{
		"CreateUser": func(c usersv1.UserServiceClient) error {
			_, err := c.CreateUser(timeout(t), &usersv1.CreateUserRequest{User: newUser("Ada")})
			return err
		},
		"ListUsers": func(c usersv1.UserServiceClient) error {
			_, err := get(t, c)
			return err
		},
		"ImportUsers": func(c usersv1.UserServiceClient) error {
			_, err := importAll(t, c, people(3)...)
			return err
		},
		"WatchUsers": func(c usersv1.UserServiceClient) error {
			stream := watch(t, timeout(t), c, "", 0)
			if err := stream.CloseSend(); err != nil {
				return err
			}
			if _, err := stream.Recv(); err != io.EOF {
				return err
			}
			return nil
		},
	}
	for method, call := range tests {
		t.Run(method, func(t *testing.T) {
			r := telemetrytest.New(t)
			tel := r.Telemetry()
			_, client, stop := startObserved(t, nil, observe.By{TracerProvider: tel.TracerProvider(), MeterProvider: tel.MeterProvider(), Propagator: tel.Propagator(), Logger: slog.New(tel.SlogHandler(nil))})
			if err := call(client); err != nil {
				t.Fatal(err)
			}
			stop()
			spans := r.Spans().Named("users.v1.UserService/" + method)
			client1, server1 := spans.Kind(trace.SpanKindClient).One(), spans.Kind(trace.SpanKindServer).One()
			client1.Root()
			server1.ChildOf(client1)
			for _, side := range []string{"client", "server"} {
				if n := r.Metric("rpc." + side + ".call.duration").HistogramCount(); n != 1 {
					t.Errorf("%d points of the %s, want 1", n, side)
				}
				r.Logs().Message(side + " call").One()
			}
		})
	}
}
