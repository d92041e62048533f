package interceptors_test

import (
	"context"
	"encoding/json"
	stderrors "errors"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// Every message has a record, in order, with the ids of its call.
func TestLogPayloads(t *testing.T) {
	const in, out = "grpc.testing.StreamingOutputCallRequest", "grpc.testing.StreamingOutputCallResponse"
	requests := map[interceptors.Kind][]string{
		interceptors.Unary: {"grpc.testing.SimpleRequest"}, interceptors.ServerStream: {in}, interceptors.BidiStream: {in, in, in},
		interceptors.ClientStream: {"grpc.testing.StreamingInputCallRequest", "grpc.testing.StreamingInputCallRequest", "grpc.testing.StreamingInputCallRequest"},
	}
	responses := map[interceptors.Kind][]string{
		interceptors.Unary: {"grpc.testing.SimpleResponse"}, interceptors.ServerStream: {out, out, out}, interceptors.BidiStream: {out, out, out},
		interceptors.ClientStream: {"grpc.testing.StreamingInputCallResponse"},
	}
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, on(side, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			ctx, span := otel.GetTracerProvider().Tracer("own").Start(ctx, "own") // is not the call's
			defer span.End()
			return interceptors.LogPayloads()(ctx, call, next)
		}))
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		h.idle()
		call := recordsOf(t, h, side.String()+" call")[0]
		got := map[string][]string{}
		for _, r := range recordsOf(t, h, side.String()+" message") {
			direction := r["rpc.message.type"].(string)
			got[direction] = append(got[direction], r["rpcscope.payload.type"].(string))
			want := map[string]any{
				"level": "INFO", "rpc.message.id": float64(len(got[direction])), "rpc.method": call["rpc.method"], "rpc.kind": kind.String(),
				"request_id": call["request_id"], "trace_id": call["trace_id"], "span_id": call["span_id"],
			}
			for key, want := range want {
				if r[key] != want || want == nil {
					t.Errorf("%s of a message is %v, want %v", key, r[key], want)
				}
			}
			if text := r["rpcscope.payload"].(string); r["rpcscope.payload.type"] == "grpc.testing.SimpleResponse" {
				if text != `{"username":"ada"}` || r["rpc.message.uncompressed_size"] != 5.0 {
					t.Errorf("the reply is %s of %v bytes", text, r["rpc.message.uncompressed_size"])
				}
			}
		}
		want := map[string][]string{"RECEIVED": requests[kind], "SENT": responses[kind]}
		if side == interceptors.ClientSide {
			want = map[string][]string{"SENT": requests[kind], "RECEIVED": responses[kind]}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages logged (-want +got):\n%s", diff)
		}
	})
}

// Which calls' messages are logged.
func TestLogPayloadsOf(t *testing.T) {
	never := interceptors.For(interceptors.Methods("/other.Service/*"), interceptors.LogPayloads())
	for _, test := range []struct {
		name    string
		log     interceptors.Interceptor
		sampler sdktrace.Sampler
		options []interceptors.ServerOption
		want    int
	}{
		{name: "all", log: interceptors.LogPayloads(), want: 2},
		{name: "none", log: nil},
		{name: "another method", log: never},
		{name: "nothing of it", log: interceptors.LogPayloads(interceptors.PayloadRatio(0))},
		{name: "the last one counts", log: interceptors.LogPayloads(interceptors.PayloadRatio(0), nil, interceptors.PayloadRatio(1)), want: 2},
		{name: "sampled", log: interceptors.LogPayloads(interceptors.PayloadSampledTraces()), want: 2},
		{name: "not sampled", log: interceptors.LogPayloads(interceptors.PayloadSampledTraces()), sampler: sdktrace.NeverSample()},
		{name: "not sampled, all wanted", log: interceptors.LogPayloads(), sampler: sdktrace.NeverSample(), want: 2},
		{name: "level enabled", log: interceptors.LogPayloads(interceptors.PayloadLevel(slog.LevelDebug)), want: 2},
		{name: "level not enabled", log: interceptors.LogPayloads(interceptors.PayloadLevel(slog.LevelDebug - 1))},
		{name: "not observed", log: interceptors.LogPayloads(), options: []interceptors.ServerOption{interceptors.WithFilter(interceptors.Not(all))}},
		{name: "without an access log", log: interceptors.LogPayloads(), options: []interceptors.ServerOption{interceptors.WithoutLogging()}, want: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, &stub{}, func(h *harness) {
				if test.sampler != nil {
					h.tp = sdktrace.NewTracerProvider(sdktrace.WithSampler(test.sampler))
					h.servers = append(h.servers, interceptors.WithTracerProvider(h.tp))
					h.clients = append(h.clients, interceptors.WithTracerProvider(h.tp))
				}
				h.servers = append(append(h.servers, test.options...), test.log)
			})
			if err := h.call(h.ctx(), interceptors.Unary); err != nil {
				t.Fatal(err)
			}
			h.idle()
			if got := len(recordsOf(t, h, "server message")); got != test.want {
				t.Errorf("%d messages are logged, want %d", got, test.want)
			}
		})
	}
}

// The trace decides, the same way for everybody, and whatever a sampler that goes
// by the trace id has decided.
func TestPayloadRatio(t *testing.T) {
	const calls, ratio = 20_000, 0.1
	var counter atomic.Int64
	logger := slog.New(counting{slog.DiscardHandler, &counter})
	log := interceptors.LogPayloads(interceptors.PayloadLogger(logger), interceptors.PayloadRatio(ratio))
	isLogged := func(ctx context.Context) bool {
		before := counter.Load()
		if err := log(ctx, &interceptors.Call{Request: "x"}, func(context.Context) error { return io.EOF }); err != io.EOF {
			t.Fatal(err)
		}
		return counter.Load() > before
	}
	sampler := sdktrace.TraceIDRatioBased(ratio)
	generator := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)).Tracer("")
	var sampled, drawn, both, without int
	for range calls {
		ctx, span := generator.Start(context.Background(), "call")
		is := isLogged(ctx)
		if is != isLogged(ctx) {
			t.Fatal("the same trace is logged once and not the next time")
		}
		if is {
			drawn++
		}
		if span.SpanContext().IsSampled() {
			sampled++
			if is {
				both++
			}
		}
		if isLogged(context.Background()) {
			without++
		}
	}
	for what, share := range map[string]float64{
		"calls with a trace": float64(drawn) / calls, "calls without": float64(without) / calls, "sampled calls": float64(both) / float64(sampled),
	} {
		if share < 0.07 || share > 0.13 {
			t.Errorf("of %s %.3f are logged, want %.1f", what, share, ratio)
		}
	}
}

// counting counts records.
type counting struct {
	slog.Handler
	n *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }

func (c counting) Handle(context.Context, slog.Record) error {
	c.n.Add(1)
	return stderrors.New("the disk is full")
}

// broken is a message, and a handler, that panics.
type broken struct{ slog.Handler }

func (broken) Enabled(context.Context, slog.Level) bool  { return true }
func (broken) Handle(context.Context, slog.Record) error { panic("handler") }

type brokenMessage struct{ proto.Message }

// A call does not fail because of a log.
func TestLogPayloadsNeverBreaksTheCall(t *testing.T) {
	var handled atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { handled.Add(1) }))
	defer otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	for name, test := range map[string]struct {
		msg    any
		logger *slog.Logger
		typed  string
		panics int64
	}{
		"handler panics":  {msg: request(), logger: slog.New(broken{}), panics: 2},
		"handler fails":   {msg: request(), logger: slog.New(counting{slog.DiscardHandler, new(atomic.Int64)})},
		"message panics":  {msg: brokenMessage{}, panics: 2},
		"no message":      {msg: nil, typed: "<nil>"},
		"nil message":     {msg: (*testpb.SimpleRequest)(nil), typed: "grpc.testing.SimpleRequest"},
		"another message": {msg: &struct{ Password string }{planted}, typed: "*struct { Password string }"},
	} {
		t.Run(name, func(t *testing.T) {
			handled.Store(0)
			b := &logBuffer{}
			if test.logger == nil {
				test.logger = slog.New(slog.NewJSONHandler(b, nil))
			}
			for _, kind := range []interceptors.Kind{interceptors.Unary} {
				call := &interceptors.Call{Kind: kind, Request: test.msg}
				err := interceptors.LogPayloads(interceptors.PayloadLogger(test.logger))(t.Context(), call, func(context.Context) error {
					call.Response = test.msg
					return nil
				})
				if err != nil {
					t.Errorf("the call failed: %v", err)
				}
			}
			if got := handled.Load(); got != test.panics {
				t.Errorf("%d panics reported, want %d", got, test.panics)
			}
			if test.typed == "" {
				return
			}
			records := b.records(t)
			if len(records) != 2 {
				t.Fatalf("%d records, want 2", len(records))
			}
			for _, r := range records {
				if r["rpcscope.payload.type"] != test.typed {
					t.Errorf("the type is %v, want %s", r["rpcscope.payload.type"], test.typed)
				}
			}
			if strings.Contains(b.String(), planted) {
				t.Errorf("the content of what is no protocol buffer is logged: %s", b)
			}
		})
	}
}

// A reply is logged if there is one.
func TestLogPayloadsOfFailedCall(t *testing.T) {
	h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		return nil, errors.NotFound("nobody")
	}}, on(interceptors.ServerSide, interceptors.LogPayloads()))
	if err := h.call(h.ctx(), interceptors.Unary); err == nil {
		t.Fatal("the call succeeded")
	}
	if got := recordsOf(t, h, "server message"); len(got) != 1 || got[0]["rpc.message.type"] != "RECEIVED" {
		t.Errorf("got %v, want the request", got)
	}
}

func TestPayloadOptionsOfNothing(t *testing.T) {
	for want, f := range map[string]func(){
		"interceptors: PayloadBytes(0): want more than zero": func() { interceptors.PayloadBytes(0) },
		"interceptors: PayloadRatio(1.5): want 0 to 1":       func() { interceptors.PayloadRatio(1.5) },
		"interceptors: PayloadRatio(-1): want 0 to 1":        func() { interceptors.PayloadRatio(-1) },
		"interceptors: PayloadRatio(NaN): want 0 to 1":       func() { interceptors.PayloadRatio(math.NaN()) },
	} {
		if got := panicOf(f); got != want {
			t.Errorf("got %v, want a panic with %q", got, want)
		}
	}
}

// Rule 29: over a connection, with everything that is recorded on both sides, and
// a token in the metadata.
func TestRule29Payloads(t *testing.T) {
	const token = "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG"
	secret := newSecretive(t, 1)
	empty := func() proto.Message { return typeSecrets.New().Interface() }
	logs, spans := &logBuffer{}, tracetest.NewSpanRecorder()
	common := []interceptors.Option{
		interceptors.WithLogger(slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		interceptors.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))), interceptors.WithMessageEvents(),
		interceptors.Validate(), interceptors.LogPayloads(interceptors.PayloadBytes(1 << 20)),
	}
	var servers []interceptors.ServerOption
	var clients []interceptors.ClientOption
	for _, o := range common {
		servers, clients = append(servers, o), append(clients, o)
	}
	// All kinds: a server that answers the first message of a client with one.
	answer := func(_ any, ss grpc.ServerStream) error {
		if err := ss.RecvMsg(empty()); err != nil {
			return err
		}
		return ss.SendMsg(secret)
	}
	desc := grpc.ServiceDesc{
		ServiceName: "rpcscope.test.Keeper", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "unary", Handler: func(_ any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			in := empty()
			if err := decode(in); err != nil {
				return nil, err
			}
			return i(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/rpcscope.test.Keeper/unary"}, func(context.Context, any) (any, error) { return secret, nil })
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "client_stream", Handler: answer, ClientStreams: true},
			{StreamName: "server_stream", Handler: answer, ServerStreams: true},
			{StreamName: "bidi_stream", Handler: answer, ClientStreams: true, ServerStreams: true},
		},
	}
	server, pipe := grpc.NewServer(interceptors.ServerOptions(servers...)...), bufconn.Listen(1<<16)
	server.RegisterService(&desc, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(interceptors.DialOptions(clients...), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token, "cookie", token)
	call := func(kind interceptors.Kind) error {
		method := "/rpcscope.test.Keeper/" + kind.String()
		if kind == interceptors.Unary {
			return conn.Invoke(ctx, method, secret, empty())
		}
		cs, err := conn.NewStream(ctx, &desc.Streams[kind-1], method)
		if err != nil {
			return err
		}
		if err := stderrors.Join(cs.SendMsg(secret), cs.CloseSend(), cs.RecvMsg(empty())); err != nil || kind == interceptors.ClientStream {
			return err
		}
		if err := cs.RecvMsg(empty()); err != io.EOF {
			return err
		}
		return nil
	}
	for _, kind := range kinds {
		if err := call(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	_ = conn.Close()
	server.GracefulStop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	recorded, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(spans.Ended()))
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"the log": logs.String(), "a span": string(recorded)} {
		for _, secret := range []string{planted, "aHVudGVy", "4711000", token} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s holds %s: %s", where, secret, text[max(at-300, 0):at])
			}
		}
	}
	// 4 kinds, 2 messages, 2 sides, 7 places.
	if n := strings.Count(logs.String(), `\"open\":\"seen\"`); n != 4*2*2*7 {
		t.Errorf("what is no secret is logged %d times, want %d", n, 4*2*2*7)
	}
}

func TestLogPayloadsConforms(t *testing.T) {
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil))
	interceptorstest.Run(t, interceptors.LogPayloads(interceptors.PayloadLogger(logger)))
}
