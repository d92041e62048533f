package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// testService answers 3 messages on a stream, and refuses unary calls.
type testService struct {
	testpb.UnimplementedTestServiceServer
}

func (testService) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return nil, status.Error(codes.PermissionDenied, "not you")
}

func (testService) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for range 3 {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

// Credentials that travel with RPCs are on no screen, in no log, on no page and
// in nothing that is exported; and what the console shows of streams and errors.
func TestSecretsOfCalls(t *testing.T) { // rule 29
	var terminal, text bytes.Buffer
	console := telemetry.NewConsole(&terminal)
	log := slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	handle := func(name string) *telemetry.Telemetry {
		return setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20" + secret},
			telemetry.WithServiceName(name), telemetry.WithSpanProcessor(console), telemetry.WithPrometheus(""), telemetry.WithMinLogLevel(slog.LevelDebug))
	}
	web, users := handle("web"), handle("users")
	options := func(tel *telemetry.Telemetry) []interceptors.Option {
		return []interceptors.Option{
			interceptors.WithTracerProvider(tel.TracerProvider()), interceptors.WithMeterProvider(tel.MeterProvider()), interceptors.WithPropagator(tel.Propagator()),
			interceptors.WithLogger(slog.New(tel.SlogHandler(log))),
			interceptors.WithMessageEvents(), interceptors.WithMessageMetrics(),
		}
	}
	var server []interceptors.ServerOption
	var client []interceptors.ClientOption
	for _, o := range options(users) {
		server = append(server, o)
	}
	for _, o := range options(web) {
		client = append(client, o)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gs := grpc.NewServer(interceptors.ServerOptions(server...)...)
	testpb.RegisterTestServiceServer(gs, testService{})
	served := make(chan error, 1)
	go func() { served <- gs.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), append(interceptors.DialOptions(client...), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret, "cookie", "session="+secret, "x-api-key", secret, "baggage", "token="+secret)
	stub := testpb.NewTestServiceClient(conn)
	if _, err := stub.UnaryCall(ctx, &testpb.SimpleRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("UnaryCall: %v", err)
	}
	stream, err := stub.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("Recv: %v", err)
	}
	_ = conn.Close()
	gs.GracefulStop()
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	outputs := map[string]string{}
	for name, tel := range map[string]*telemetry.Telemetry{"web": web, "users": users} {
		page := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		tel.MetricsHandler().ServeHTTP(page, req)
		if !strings.Contains(page.Body.String(), "trace_id=") {
			t.Errorf("no exemplar on the page of %s:\n%s", name, page.Body)
		}
		outputs["Prometheus page of "+name] = page.Body.String()
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	}
	var sent strings.Builder
	for _, s := range c.Spans() {
		sent.WriteString(s.Span.String())
	}
	for _, m := range c.Metrics() {
		sent.WriteString(m.Metric.String())
	}
	for _, l := range c.Logs() {
		sent.WriteString(l.LogRecord.String())
	}
	if len(c.Spans()) != 4 || len(c.Logs()) != 4 || strings.Count(text.String(), "\n") != 4 {
		t.Errorf("%d spans, %d log records; logged:\n%s", len(c.Spans()), len(c.Logs()), &text)
	}
	outputs["console"], outputs["log"], outputs["OTLP"] = terminal.String(), text.String(), sent.String()
	holdNoSecret(t, outputs)

	shown := regexp.MustCompile(`[ ━·]+[0-9.]+(µs|ms|s) `).ReplaceAllString(terminal.String(), " ")
	for _, want := range []string{
		"└─ web  → grpc.testing.TestService/UnaryCall  PERMISSION_DENIED  not you\n   └─ users  grpc.testing.TestService/UnaryCall  PERMISSION_DENIED",
		"└─ web  → grpc.testing.TestService/FullDuplexCall  OK  ↑3 ↓3\n   └─ users  grpc.testing.TestService/FullDuplexCall  OK  ↑3 ↓3\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("want %s\nin what is shown:\n%s", want, shown)
		}
	}
}
