package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// The four kinds of RPC, as grpc's own test service has them.
const (
	unaryMethod        = "/grpc.testing.TestService/UnaryCall"
	clientStreamMethod = "/grpc.testing.TestService/StreamingInputCall"
	serverStreamMethod = "/grpc.testing.TestService/StreamingOutputCall"
	bidiMethod         = "/grpc.testing.TestService/FullDuplexCall"
)

// stub is a server whose methods are its fields; those that are nil answer
// with three messages, or with one.
type stub struct {
	testpb.UnimplementedTestServiceServer
	unary        func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	clientStream func(testpb.TestService_StreamingInputCallServer) error
	serverStream func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error
	bidi         func(testpb.TestService_FullDuplexCallServer) error
}

func (s *stub) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary != nil {
		return s.unary(ctx, in)
	}
	return &testpb.SimpleResponse{Username: "ada"}, nil
}

func (s *stub) StreamingInputCall(ss testpb.TestService_StreamingInputCallServer) error {
	if s.clientStream != nil {
		return s.clientStream(ss)
	}
	var n int32
	for {
		if _, err := ss.Recv(); err == io.EOF {
			return ss.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		} else if err != nil {
			return err
		}
		n++
	}
}

func (s *stub) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	if s.serverStream != nil {
		return s.serverStream(in, ss)
	}
	for range 3 {
		if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *stub) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	if s.bidi != nil {
		return s.bidi(ss)
	}
	for {
		if _, err := ss.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// harness is a client and a server with what they record.
type harness struct {
	t      *testing.T
	client testpb.TestServiceClient
	conn   *grpc.ClientConn
	server *grpc.Server
	listen *bufconn.Listener

	rec     *telemetrytest.Recorder
	spans   spans
	tp      trace.TracerProvider
	logs    *logBuffer
	servers []interceptors.ServerOption
	clients []interceptors.ClientOption
	grpc    []grpc.ServerOption
	dial    []grpc.DialOption

	register func(grpc.ServiceRegistrar) // further services; may be nil
}

// newHarness returns a harness that records, with nothing yet to record.
func newHarness(t *testing.T) *harness {
	t.Helper()
	// What a service does by default: a caller's decision not to sample holds.
	rec := telemetrytest.New(t, telemetry.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	h := &harness{t: t, rec: rec, spans: spans{rec}, tp: rec.Telemetry().TracerProvider(), logs: &logBuffer{}}
	t.Cleanup(func() { wantDocumented(t, h.logs) })
	return h
}

// spans are those of a recorder as they are now; its own assertions wait until
// none is open.
type spans struct{ *telemetrytest.Recorder }

// Ended returns the spans that have ended, in that order.
func (s spans) Ended() []sdktrace.ReadOnlySpan {
	var ended []sdktrace.ReadOnlySpan
	for _, span := range s.Spans().Ended() {
		ended = append(ended, span.ReadOnlySpan)
	}
	return ended
}

// Started returns the spans that have begun, ended or not.
func (s spans) Started() []sdktrace.ReadOnlySpan {
	open := s.Open() // first: one that ends meanwhile is among the ended ones
	started := s.Ended()
	for _, span := range open {
		if !slices.ContainsFunc(started, func(other sdktrace.ReadOnlySpan) bool { return other.SpanContext().Equal(span.SpanContext()) }) {
			started = append(started, span.ReadOnlySpan)
		}
	}
	return started
}

// start runs s behind the suite until the test ends. configure, which may be
// nil, adds to the options.
func start(t *testing.T, s *stub, configure func(*harness)) *harness {
	t.Helper()
	h := newHarness(t)
	h.listen = bufconn.Listen(1 << 16)
	logger := slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	common := []interceptors.Option{
		interceptors.WithTracerProvider(h.tp), interceptors.WithMeterProvider(h.rec.Telemetry().MeterProvider()),
		interceptors.WithPropagator(propagation.New()), interceptors.WithLogger(logger),
	}
	for _, o := range common {
		h.servers, h.clients = append(h.servers, o), append(h.clients, o)
	}
	if configure != nil {
		configure(h)
	}
	options := append(interceptors.ServerOptions(h.servers...), grpc.WaitForHandlers(true))
	h.server = grpc.NewServer(append(options, h.grpc...)...)
	testpb.RegisterTestServiceServer(h.server, s)
	if h.register != nil {
		h.register(h.server)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.server.Serve(h.listen)
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(append(interceptors.DialOptions(h.clients...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listen.DialContext(ctx) }),
	), h.dial...)...)
	if err != nil {
		t.Fatal(err)
	}
	h.conn, h.client = conn, testpb.NewTestServiceClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		h.server.Stop()
		<-served
	})
	return h
}

// ctx is done when the test ought to have ended long ago.
func (h *harness) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	h.t.Cleanup(cancel)
	return ctx
}

// call makes one call of the kind, to its end, and returns its error.
func (h *harness) call(ctx context.Context, kind interceptors.Kind) error {
	switch kind {
	case interceptors.ClientStream:
		cs, err := h.client.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if err := cs.Send(&testpb.StreamingInputCallRequest{}); err != nil {
				break // the status comes from CloseAndRecv
			}
		}
		_, err = cs.CloseAndRecv()
		return err
	case interceptors.ServerStream:
		cs, err := h.client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		if err != nil {
			return err
		}
		return drain(cs)
	case interceptors.BidiStream:
		cs, err := h.client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if err := cs.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
				break
			}
		}
		_ = cs.CloseSend()
		return drain(cs)
	}
	_, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{})
	return err
}

func drain[T any](cs grpc.ServerStreamingClient[T]) error {
	for {
		if _, err := cs.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var kinds = []interceptors.Kind{interceptors.Unary, interceptors.ClientStream, interceptors.ServerStream, interceptors.BidiStream}

// ended waits until n spans have ended and returns them, the client's first.
func (h *harness) ended(n int) []sdktrace.ReadOnlySpan {
	h.t.Helper()
	h.eventually("spans to end", func() bool { return len(h.spans.Ended()) >= n })
	spans := h.spans.Ended()
	if len(spans) != n || len(h.spans.Started()) != n {
		h.t.Fatalf("%d spans started and %d ended, want %d of each: %v", len(h.spans.Started()), len(spans), n, names(spans))
	}
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return int(b.SpanKind()) - int(a.SpanKind()) })
	return spans
}

func names(spans []sdktrace.ReadOnlySpan) (s []string) {
	for _, span := range spans {
		s = append(s, span.SpanKind().String()+" "+span.Name())
	}
	return s
}

// span returns the last span of the kind, once none is open.
func (h *harness) span(kind trace.SpanKind) sdktrace.ReadOnlySpan {
	h.t.Helper()
	var found sdktrace.ReadOnlySpan
	h.eventually(kind.String()+" span to end", func() bool {
		if slices.ContainsFunc(h.rec.Open(), func(s telemetrytest.Span) bool { return s.SpanKind() == kind }) {
			return false
		}
		for _, s := range h.spans.Ended() {
			if s.SpanKind() == kind {
				found = s
			}
		}
		return found != nil
	})
	return found
}

// eventually waits for what other goroutines are about to do.
func (h *harness) eventually(what string, done func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited 10 s for %s; spans ended: %v, logged: %v", what, names(h.spans.Ended()), h.logs.records(h.t))
		}
		tick := time.NewTimer(time.Millisecond)
		<-tick.C
	}
}

func attrs(kvs []attribute.KeyValue) map[string]any {
	m := make(map[string]any, len(kvs))
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

// metric returns the data of an instrument, nil when it recorded nothing.
func (h *harness) metric(name string) metricdata.Aggregation {
	h.t.Helper()
	for _, sm := range h.rec.Collect().ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name == name {
				return m.Data
			}
		}
	}
	return nil
}

// counts returns how many calls were counted in a histogram or counter, by the
// value of a key, once no call is in flight.
func (h *harness) counts(name string, key attribute.Key) map[string]int64 {
	h.t.Helper()
	h.idle()
	return h.tally(name, key)
}

// counted fails the test unless counts returns want.
func (h *harness) counted(name string, key attribute.Key, want map[string]int64) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.counts(name, key)); diff != "" {
		h.t.Errorf("%s by %s (-want +got):\n%s", name, key, diff)
	}
}

func (h *harness) tally(name string, key attribute.Key) map[string]int64 {
	h.t.Helper()
	got := map[string]int64{}
	value := func(set attribute.Set) string {
		v, _ := set.Value(key)
		return v.AsString()
	}
	switch data := h.metric(name).(type) {
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			got[value(p.Attributes)] += int64(p.Count)
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			got[value(p.Attributes)] += p.Value
		}
	}
	return got
}

func (h *harness) idle() {
	h.t.Helper()
	for _, name := range []string{"rpcscope.server.active_calls", "rpcscope.client.active_calls"} {
		h.eventually(name+" to return to zero", func() bool {
			for _, n := range h.tally(name, "rpc.method") {
				if n != 0 {
					return false
				}
			}
			return true
		})
	}
}

// logBuffer holds JSON lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) records(t *testing.T) (records []map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewBufferString(b.String()))
	for decoder.More() {
		var r map[string]any
		if err := decoder.Decode(&r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}
