package benchmarks_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// contender is one way to observe a call; nil options leave it bare.
type contender struct {
	name   string
	server func() []grpc.ServerOption
	client func() []grpc.DialOption
}

// Every contender records to the SDK: each span sampled, metrics with a
// reader. The suite also carries a request id, converts errors, recovers
// panics and logs every call as JSON to io.Discard.
var contenders = []contender{
	{
		name:   "bare",
		server: func() []grpc.ServerOption { return nil },
		client: func() []grpc.DialOption { return nil },
	},
	{
		name: "otelgrpc",
		server: func() []grpc.ServerOption {
			return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpcOptions()...))}
		},
		client: func() []grpc.DialOption {
			return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpcOptions()...))}
		},
	},
	{
		name: "rpcscope",
		server: func() []grpc.ServerOption {
			return interceptors.ServerOptions(options[interceptors.ServerOption]()...)
		},
		client: func() []grpc.DialOption {
			return interceptors.DialOptions(options[interceptors.ClientOption]()...)
		},
	},
}

func providers() (*sdktrace.TracerProvider, *sdkmetric.MeterProvider) {
	return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample())),
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}

func otelgrpcOptions() []otelgrpc.Option {
	tp, mp := providers()
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(tp), otelgrpc.WithMeterProvider(mp),
		otelgrpc.WithPropagators(otelpropagation.NewCompositeTextMapPropagator(otelpropagation.TraceContext{}, otelpropagation.Baggage{}))}
}

func options[O any]() (options []O) {
	tp, mp := providers()
	for _, o := range []interceptors.Option{
		interceptors.WithTracerProvider(tp), interceptors.WithMeterProvider(mp), interceptors.WithPropagator(propagation.New()),
		interceptors.WithLogger(slog.New(slog.NewJSONHandler(io.Discard, nil))),
	} {
		options = append(options, o.(O))
	}
	return options
}

func BenchmarkUnary(b *testing.B) {
	bench(b, func(ctx context.Context, client testpb.TestServiceClient) error {
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	})
}

// BenchmarkServerStream is a stream of 100 messages to the client.
func BenchmarkServerStream(b *testing.B) {
	bench(b, func(ctx context.Context, client testpb.TestServiceClient) error {
		stream, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			return nil
		}
		return err
	})
}

func bench(b *testing.B, call func(context.Context, testpb.TestServiceClient) error) {
	for _, c := range contenders {
		b.Run("server/"+c.name, func(b *testing.B) { benchWith(b, c.server(), nil, call) })
		b.Run("both/"+c.name, func(b *testing.B) { benchWith(b, c.server(), c.client(), call) })
	}
}

func benchWith(b *testing.B, server []grpc.ServerOption, client []grpc.DialOption, call func(context.Context, testpb.TestServiceClient) error) {
	listen := bufconn.Listen(1 << 20)
	s := grpc.NewServer(server...)
	testpb.RegisterTestServiceServer(s, service{})
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
	stub := testpb.NewTestServiceClient(conn)
	ctx := context.Background()
	if err := call(ctx, stub); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := call(ctx, stub); err != nil {
			b.Fatal(err)
		}
	}
}

type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, nil
}

func (service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer) error {
	for range 100 {
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}
