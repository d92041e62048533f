package main

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// What a service puts together today: otelgrpc with W3C trace context and
// baggage, go-grpc-middleware's Prometheus metrics with durations, logging,
// recovery, authentication and rate limit, and a request id written by hand. It
// is built to be cheap: one log record per call and side, an authentication and
// a limiter that let everything pass, a request id that is echoed only when it
// is new.

func assembledServer(r *recorder) []grpc.ServerOption {
	metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	r.registry.MustRegister(metrics)
	authenticate := func(ctx context.Context) (context.Context, error) {
		r.authenticated.Add(1)
		return ctx, nil
	}
	limiter := passing{r}
	return []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpcOptions(r)...)),
		grpc.ChainUnaryInterceptor(
			metrics.UnaryServerInterceptor(), requestIDUnaryServer,
			logging.UnaryServerInterceptor(logTo(r.log), logOptions...), recovery.UnaryServerInterceptor(),
			auth.UnaryServerInterceptor(authenticate), ratelimit.UnaryServerInterceptor(limiter)),
		grpc.ChainStreamInterceptor(
			metrics.StreamServerInterceptor(), requestIDStreamServer,
			logging.StreamServerInterceptor(logTo(r.log), logOptions...), recovery.StreamServerInterceptor(),
			auth.StreamServerInterceptor(authenticate), ratelimit.StreamServerInterceptor(limiter)),
	}
}

func assembledClient(r *recorder) []grpc.DialOption {
	metrics := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram())
	r.registry.MustRegister(metrics)
	limiter := passing{r}
	return []grpc.DialOption{
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpcOptions(r)...)),
		grpc.WithChainUnaryInterceptor(
			metrics.UnaryClientInterceptor(), requestIDUnaryClient,
			logging.UnaryClientInterceptor(logTo(r.log), logOptions...), ratelimit.UnaryClientInterceptor(limiter)),
		grpc.WithChainStreamInterceptor(
			metrics.StreamClientInterceptor(), requestIDStreamClient,
			logging.StreamClientInterceptor(logTo(r.log), logOptions...), ratelimit.StreamClientInterceptor(limiter)),
	}
}

type passing struct{ r *recorder }

func (p passing) Limit(context.Context) error {
	p.r.limited.Add(1)
	return nil
}

// logTo is the adapter of go-grpc-middleware's documentation.
func logTo(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		l.Log(ctx, slog.Level(level), msg, fields...)
	})
}

// One record per call, with the ids that lead from it to the trace, at the
// middleware's levels: a client's OK is DEBUG, as it is in the suite.
var logOptions = []logging.Option{
	logging.WithLogOnEvents(logging.FinishCall),
	logging.WithFieldsFromContext(func(ctx context.Context) logging.Fields {
		fields := logging.Fields{"request_id", requestID(ctx)}
		if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
			fields = append(fields, "trace_id", sc.TraceID().String(), "span_id", sc.SpanID().String())
		}
		return fields
	}),
}

const requestIDHeader = "x-request-id"

type requestIDKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// takeRequestID returns ctx with the caller's request id, or with a new one
// that the caller is told.
func takeRequestID(ctx context.Context) context.Context {
	if ids := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(ids) > 0 && ids[0] != "" {
		return context.WithValue(ctx, requestIDKey{}, ids[0])
	}
	id := newRequestID()
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, id)) // fails only when there is nobody to tell
	return context.WithValue(ctx, requestIDKey{}, id)
}

// sendRequestID returns ctx with the request id of the call that this one
// belongs to, or with a new one, in its metadata.
func sendRequestID(ctx context.Context) context.Context {
	id := requestID(ctx)
	if id == "" {
		id = newRequestID()
		ctx = context.WithValue(ctx, requestIDKey{}, id)
	}
	return metadata.AppendToOutgoingContext(ctx, requestIDHeader, id)
}

func newRequestID() string { return uuid.Must(uuid.NewV7()).String() }

func requestIDUnaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(takeRequestID(ctx), req)
}

func requestIDStreamServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	wrapped := middleware.WrapServerStream(stream)
	wrapped.WrappedContext = takeRequestID(stream.Context())
	return handler(srv, wrapped)
}

func requestIDUnaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(sendRequestID(ctx), method, req, reply, cc, opts...)
}

func requestIDStreamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(sendRequestID(ctx), desc, cc, method, opts...)
}
