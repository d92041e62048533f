package interceptors_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// BenchmarkUnary is a call over an in-memory connection, client and server in
// one process: bare, and with the whole suite on both sides, every span
// sampled and JSON logs to io.Discard.
func BenchmarkUnary(b *testing.B) {
	b.Run("bare", func(b *testing.B) { benchmarkUnary(b, nil, nil) })
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	options := []interceptors.Option{
		interceptors.WithTracerProvider(tp), interceptors.WithMeterProvider(mp), interceptors.WithPropagator(propagation.New()),
		interceptors.WithLogger(slog.New(slog.NewJSONHandler(io.Discard, nil))),
	}
	var servers []interceptors.ServerOption
	var clients []interceptors.ClientOption
	for _, o := range options {
		servers, clients = append(servers, o), append(clients, o)
	}
	b.Run("suite", func(b *testing.B) {
		benchmarkUnary(b, interceptors.ServerOptions(servers...), interceptors.DialOptions(clients...))
	})
	b.Run("server", func(b *testing.B) { benchmarkUnary(b, interceptors.ServerOptions(servers...), nil) })
	b.Run("client", func(b *testing.B) { benchmarkUnary(b, nil, interceptors.DialOptions(clients...)) })
}

func benchmarkUnary(b *testing.B, server []grpc.ServerOption, client []grpc.DialOption) {
	listen := bufconn.Listen(1 << 20)
	s := grpc.NewServer(server...)
	testpb.RegisterTestServiceServer(s, &stub{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(listen)
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(client, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listen.DialContext(ctx) }))...)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = conn.Close()
		s.Stop()
		<-served
	}()
	c := testpb.NewTestServiceClient(conn)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
