package interceptors_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

var messages = map[interceptors.Kind][2]float64{ // sent and received by the client
	interceptors.Unary: {1, 1}, interceptors.ClientStream: {3, 1}, interceptors.ServerStream: {1, 3}, interceptors.BidiStream: {3, 3},
}

func TestOneSpanPointAndRecordPerCall(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, &stub{}, nil)
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			spans := h.ended(2)
			client, server := spans[0], spans[1]
			if got, want := server.Parent().SpanID(), client.SpanContext().SpanID(); got != want {
				t.Errorf("the server span's parent is %v, want the client span %v", got, want)
			}
			if client.Parent().IsValid() {
				t.Errorf("the client span has parent %v, want none", client.Parent())
			}
			method := strings.TrimPrefix(map[interceptors.Kind]string{interceptors.Unary: unaryMethod, interceptors.ClientStream: clientStreamMethod,
				interceptors.ServerStream: serverStreamMethod, interceptors.BidiStream: bidiMethod}[kind], "/")
			id := attrs(client.Attributes())["request.id"]
			for _, span := range spans {
				want := map[string]any{"rpc.method": method, "rpc.system.name": "grpc", "rpc.response.status_code": "OK",
					"server.address": "bufconn", "request.id": id}
				if diff := cmp.Diff(want, attrs(span.Attributes())); diff != "" {
					t.Errorf("attributes of the %s span (-want +got):\n%s", span.SpanKind(), diff)
				}
				if span.Name() != method || span.Status().Code != otelcodes.Unset {
					t.Errorf("span %q with status %v, want %q and Unset", span.Name(), span.Status(), method)
				}
			}
			h.idle()
			for _, side := range []string{"server", "client"} {
				data, _ := h.metric("rpc." + side + ".call.duration").(metricdata.Histogram[float64])
				if len(data.DataPoints) != 1 || data.DataPoints[0].Count != 1 {
					t.Fatalf("%s duration points: %+v, want one call", side, data.DataPoints)
				}
				point := data.DataPoints[0]
				want := map[string]any{"rpc.method": method, "rpc.system.name": "grpc", "rpc.response.status_code": "OK"}
				if side == "client" {
					want["server.address"] = "bufconn"
				}
				if diff := cmp.Diff(want, attrs(point.Attributes.ToSlice())); diff != "" {
					t.Errorf("attributes of the %s duration (-want +got):\n%s", side, diff)
				}
				span := map[string]trace.SpanContext{"server": server.SpanContext(), "client": client.SpanContext()}[side]
				sid := span.SpanID()
				if len(point.Exemplars) != 1 || !cmp.Equal(point.Exemplars[0].SpanID, sid[:]) {
					t.Errorf("%s exemplars: %+v, want one of span %s", side, point.Exemplars, sid)
				}
			}
			records := h.logs.records(t)
			if len(records) != 2 {
				t.Fatalf("%d log records, want one per side: %v", len(records), records)
			}
			for _, r := range records {
				sent, received := messages[kind][0], messages[kind][1]
				span := client
				if r["msg"] == "server call" {
					sent, received = received, sent
					span = server
				}
				want := map[string]any{"level": "INFO", "rpc.method": method, "rpc.kind": kind.String(), "rpc.response.status_code": "OK",
					"request_id": id, "trace_id": span.SpanContext().TraceID().String(), "span_id": span.SpanContext().SpanID().String(),
					"rpc.messages_sent": sent, "rpc.messages_received": received}
				if r["msg"] == "client call" {
					want["level"] = "DEBUG"
				}
				for k, v := range want {
					if r[k] != v {
						t.Errorf("%s record: %s is %v, want %v", r["msg"], k, r[k], v)
					}
				}
			}
		})
	}
}

// Rule 18: a server's span is an error only for what is the server's fault, a
// client's for all but OK; error.type comes with it. Rule 16: undefined codes
// keep their number on the span only.
func TestStatusOfEveryCode(t *testing.T) {
	names := []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED", "CODE(17)"}
	serverFaults := map[string]bool{"UNKNOWN": true, "DEADLINE_EXCEEDED": true, "UNIMPLEMENTED": true, "INTERNAL": true, "UNAVAILABLE": true, "DATA_LOSS": true}
	for code, name := range names {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				fail := func() error { return status.Error(codes.Code(code), "told you") }
				h := start(t, &stub{
					unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
						return &testpb.SimpleResponse{}, fail()
					},
					clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
						if err := fail(); err != nil {
							return err
						}
						return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
					},
					serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
						if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
							return err
						}
						return fail()
					},
					bidi: func(testpb.TestService_FullDuplexCallServer) error { return fail() },
				}, nil)
				err := h.call(h.ctx(), kind)
				if got := status.Code(err); got != codes.Code(code) {
					t.Fatalf("the caller got %v, want %v", got, codes.Code(code))
				}
				metricName := name
				if name == "CODE(17)" {
					metricName = "_OTHER"
				}
				for _, span := range h.ended(2) {
					fault := name != "OK"
					side := "client"
					if span.SpanKind() == trace.SpanKindServer {
						fault, side = serverFaults[name], "server"
					}
					wantStatus, wantType, wantText := otelcodes.Unset, any(nil), ""
					if fault {
						wantStatus, wantType, wantText = otelcodes.Error, metricName, "told you"
					}
					got := attrs(span.Attributes())
					if got["rpc.response.status_code"] != name || got["error.type"] != wantType {
						t.Errorf("%s span: status code %v, error.type %v; want %v, %v", side, got["rpc.response.status_code"], got["error.type"], name, wantType)
					}
					if span.Status().Code != wantStatus || span.Status().Description != wantText {
						t.Errorf("%s span: status %+v; want %v %q", side, span.Status(), wantStatus, wantText)
					}
					if got := h.counts("rpc."+side+".call.duration", "rpc.response.status_code"); got[metricName] != 1 || len(got) != 1 {
						t.Errorf("%s duration by code: %v; want one %s", side, got, metricName)
					}
				}
				h.idle()
				failures := int64(1)
				if name == "OK" {
					failures = 0
				}
				for _, side := range []string{"server", "client"} {
					if got := h.counts("rpcscope."+side+".errors", "rpc.response.status_code")[metricName]; got != failures {
						t.Errorf("rpcscope.%s.errors with %s: %d, want %d", side, metricName, got, failures)
					}
				}
			})
		}
	}
}

// Rule 1: a stream that is cancelled and never read again ends all the same.
func TestRule1CancelledAndNeverRead(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds[1:] {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, blockingStub(), chain(chained))
				ctx, cancel := context.WithCancel(h.ctx())
				defer cancel()
				if err := h.open(ctx, kind); err != nil {
					t.Fatal(err)
				}
				cancel()
				for _, span := range h.ended(2) {
					if got := attrs(span.Attributes())["rpc.response.status_code"]; got != "CANCELLED" {
						t.Errorf("%s span: %v, want CANCELLED", span.SpanKind(), got)
					}
				}
				h.idle()
				if got := h.counts("rpc.client.call.duration", "rpc.response.status_code"); got["CANCELLED"] != 1 {
					t.Errorf("client calls by code: %v, want one CANCELLED", got)
				}
			})
		}
	}
}

// Rule 1: so does one whose connection is closed under it.
func TestRule1ConnectionClosed(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds[1:] {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, blockingStub(), chain(chained))
				if err := h.open(h.ctx(), kind); err != nil {
					t.Fatal(err)
				}
				_ = h.conn.Close()
				h.ended(2)
				h.idle()
			})
		}
	}
}

// Rules 1 and 3: an abandoned stream ends at its deadline, once.
func TestRule1AbandonedUntilDeadline(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, blockingStub(), chain(chained))
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
				defer cancel()
				if kind == interceptors.Unary {
					_ = h.call(ctx, kind)
				} else if err := h.open(ctx, kind); err != nil && status.Code(err) != codes.DeadlineExceeded {
					t.Fatal(err)
				}
				client := h.span(trace.SpanKindClient)
				if got := attrs(client.Attributes())["rpc.response.status_code"]; got != "DEADLINE_EXCEEDED" {
					t.Errorf("client span: %v, want DEADLINE_EXCEEDED", got)
				}
				h.idle()
				if got := h.counts("rpc.client.call.duration", "rpc.response.status_code"); got["DEADLINE_EXCEEDED"] != 1 || len(got) != 1 {
					t.Errorf("client calls by code: %v, want one DEADLINE_EXCEEDED", got)
				}
			})
		}
	}
}

// Rule 2: a call that the server rejects while the client is still sending has
// the code that the caller sees. Rule 3: receiving after the end records
// nothing more.
func TestRule2RejectedWhileSending(t *testing.T) {
	for _, chained := range []bool{false, true} {
		t.Run(name(interceptors.BidiStream, chained), func(t *testing.T) {
			h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
				if _, err := ss.Recv(); err != nil {
					return err
				}
				return status.Error(codes.PermissionDenied, "no")
			}}, chain(chained))
			cs, err := h.client.FullDuplexCall(h.ctx())
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				err = cs.Send(&testpb.StreamingOutputCallRequest{})
			}
			if err != io.EOF {
				t.Errorf("Send ended with %v, want io.EOF", err)
			}
			for range 3 {
				if _, err := cs.Recv(); status.Code(err) != codes.PermissionDenied {
					t.Errorf("Recv: %v, want PermissionDenied", err)
				}
			}
			client := h.ended(2)[0]
			if got := attrs(client.Attributes())["rpc.response.status_code"]; got != "PERMISSION_DENIED" || client.Status().Code != otelcodes.Error {
				t.Errorf("client span: %v, %v; want PERMISSION_DENIED and Error", got, client.Status().Code)
			}
			if got := h.counts("rpc.client.call.duration", "rpc.response.status_code"); got["PERMISSION_DENIED"] != 1 || len(got) != 1 {
				t.Errorf("client calls by code: %v, want one PERMISSION_DENIED", got)
			}
		})
	}
}

// Rule 4: a call that fails before its first attempt has a span and a point.
func TestRule4FailsBeforeAnAttempt(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, &stub{}, chain(chained))
				ctx, cancel := context.WithCancel(h.ctx())
				cancel()
				if got := status.Code(h.call(ctx, kind)); got != codes.Canceled {
					t.Fatalf("the caller got %v, want Canceled", got)
				}
				client := h.ended(1)[0]
				if got := attrs(client.Attributes())["rpc.response.status_code"]; got != "CANCELLED" {
					t.Errorf("client span: %v, want CANCELLED", got)
				}
				if got := h.counts("rpc.client.call.duration", "rpc.response.status_code"); got["CANCELLED"] != 1 {
					t.Errorf("client calls by code: %v, want one CANCELLED", got)
				}
				h.idle()
			})
		}
	}
	t.Run("unregistered compressor", func(t *testing.T) {
		h := start(t, &stub{}, nil)
		_, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{}, grpc.UseCompressor("none-such"))
		if status.Code(err) != codes.Internal {
			t.Fatalf("the caller got %v, want Internal", err)
		}
		h.ended(1)
		if got := h.counts("rpc.client.call.duration", "rpc.response.status_code"); got["INTERNAL"] != 1 {
			t.Errorf("client calls by code: %v, want one INTERNAL", got)
		}
	})
}

// Rule 5: a request that is refused before the interceptors is observed.
func TestRule5RefusedBeforeInterceptors(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) { h.grpc = append(h.grpc, grpc.MaxRecvMsgSize(10)) })
	_, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 100)}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("the caller got %v, want ResourceExhausted", err)
	}
	h.ended(2)
	h.idle()
	if got := h.counts("rpc.server.call.duration", "rpc.response.status_code"); got["RESOURCE_EXHAUSTED"] != 1 || len(got) != 1 {
		t.Errorf("server calls by code: %v, want one RESOURCE_EXHAUSTED", got)
	}
}

// Rule 5: unknown methods have a span that ends, a point, and a name that the
// peer did not choose.
func TestRule5UnknownMethod(t *testing.T) {
	h := start(t, &stub{}, nil)
	for _, method := range []string{"/grpc.testing.TestService/NoSuchMethod", "/no.such.Service/Get"} {
		err := h.conn.Invoke(h.ctx(), method, &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Fatalf("the caller got %v, want Unimplemented", err)
		}
	}
	h.ended(4)
	h.idle()
	for _, span := range h.ended(4)[2:] {
		got := attrs(span.Attributes())
		original, _ := got["rpc.method_original"].(string)
		if span.Name() != "_OTHER" || got["rpc.method"] != "_OTHER" || !strings.HasPrefix(original, "/") || span.Status().Code != otelcodes.Error {
			t.Errorf("span %q of an unknown method: %v, %v", span.Name(), span.Status(), got)
		}
	}
	h.counted("rpc.server.call.duration", "rpc.method", map[string]int64{"_OTHER": 2})
}

// Rule 5: with a handler for unknown services strangers choose the methods'
// names; their number is bounded.
func TestRule5UnknownServiceHandlerIsBounded(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) {
		h.grpc = append(h.grpc, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errors.NotFound("nothing here") }))
	})
	ctx := h.ctx()
	const calls = 1000
	for i := range calls {
		err := h.conn.Invoke(ctx, "/made.up.Service/M"+string(rune('a'+i%26))+strings.Repeat("x", i/26), &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
		if status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
	}
	if err := h.call(ctx, interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	h.idle()
	got := h.counts("rpc.server.call.duration", "rpc.method")
	if len(got) > 300 {
		t.Errorf("%d series for %d made-up methods, want at most 300", len(got), calls)
	}
	if got["_OTHER"] < calls-300 || got[strings.TrimPrefix(unaryMethod, "/")] != 1 {
		t.Errorf("calls under _OTHER: %d of %d; of the known method: %d", got["_OTHER"], calls, got[strings.TrimPrefix(unaryMethod, "/")])
	}
}

// Rule 6: a server that stops leaves no call in flight.
func TestRule6Stop(t *testing.T) {
	for _, kind := range kinds[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, blockingStub(), nil)
			if err := h.open(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			h.eventually("the call to arrive", func() bool { return len(h.spans.Started()) == 2 })
			h.server.Stop()
			_ = h.conn.Close()
			h.ended(2)
			h.idle()
		})
	}
}

// Rule 10: a panic is Internal with a text for strangers; value and stack stay
// on the span and in the log, and everything is counted.
func TestRule10PanicInHandler(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, &stub{
					unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
						panic("secret value")
					},
					clientStream: func(testpb.TestService_StreamingInputCallServer) error { panic("secret value") },
					serverStream: func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error {
						panic("secret value")
					},
					bidi: func(testpb.TestService_FullDuplexCallServer) error { panic("secret value") },
				}, chain(chained))
				err := h.call(h.ctx(), kind)
				if st := status.Convert(err); st.Code() != codes.Internal || strings.Contains(st.Message(), "secret") || strings.Contains(st.String(), "goroutine") {
					t.Errorf("the caller got %v, want Internal and nothing of the panic", err)
				}
				server := h.ended(2)[1]
				if len(server.Events()) != 1 {
					t.Fatalf("events: %v, want one exception", server.Events())
				}
				event := attrs(server.Events()[0].Attributes)
				stack, _ := event["exception.stacktrace"].(string)
				if text, _ := event["exception.message"].(string); !strings.Contains(text, "secret value") || !strings.Contains(stack, "engine_test.go") {
					t.Errorf("exception event %v, want the panic's value and the handler's frames", event)
				}
				h.idle()
				if got := h.counts("rpcscope.server.panics", "rpc.system.name")["grpc"]; got != 1 {
					t.Errorf("panics: %d, want 1", got)
				}
				if got := h.counts("rpc.server.call.duration", "rpc.response.status_code")["INTERNAL"]; got != 1 {
					t.Errorf("INTERNAL calls: %d, want 1", got)
				}
				var logged bool
				for _, r := range h.logs.records(t) {
					if r["msg"] == "server call" {
						text, _ := r["exception.stacktrace"].(string)
						logged = r["level"] == "ERROR" && strings.Contains(text, "engine_test.go")
					}
				}
				if !logged {
					t.Errorf("no record at level ERROR with the stack in %s", h.logs)
				}
			})
		}
	}
}

// Rule 11: raw and wrapped context errors are, in the log too, what the wire
// says.
func TestRule11ContextErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		want codes.Code
		name string
	}{
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
		{context.Canceled, codes.Canceled, "CANCELLED"},
		{wrapped{context.DeadlineExceeded}, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	} {
		h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, test.err }}, nil)
		if got := status.Code(h.call(h.ctx(), interceptors.Unary)); got != test.want {
			t.Errorf("the caller of a handler that returned %v got %v, want %v", test.err, got, test.want)
		}
		h.ended(2)
		for _, r := range h.logs.records(t) {
			if r["rpc.response.status_code"] != test.name {
				t.Errorf("%s logged %v for %v, want %v", r["msg"], r["rpc.response.status_code"], test.err, test.name)
			}
		}
	}
}

type wrapped struct{ error }

func (w wrapped) Unwrap() error { return w.error }

// Rule 19: one request id on both sides, sent once, minted where there is none,
// replaced where it is not valid, echoed where the caller cannot know it.
func TestRule19RequestID(t *testing.T) {
	var seen []string
	h := start(t, &stub{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		seen = metadata.ValueFromIncomingContext(ctx, propagation.RequestIDHeader)
		if in.GetFillUsername() {
			return nil, errors.NotFound("no")
		}
		return &testpb.SimpleResponse{Username: propagation.RequestID(ctx)}, nil
	}}, nil)
	call := func(ctx context.Context, fail bool) (id string, header, trailer metadata.MD) {
		resp, _ := h.client.UnaryCall(ctx, &testpb.SimpleRequest{FillUsername: fail}, grpc.Header(&header), grpc.Trailer(&trailer))
		return resp.GetUsername(), header, trailer
	}
	ctx := h.ctx()
	if id, _, _ := call(ctx, false); !propagation.ValidRequestID(id) || len(seen) != 1 || seen[0] != id {
		t.Errorf("minted: handler has %q, header has %v", id, seen)
	}
	if id, _, _ := call(propagation.ContextWithRequestID(ctx, "from-context"), false); id != "from-context" {
		t.Errorf("from the context: handler has %q", id)
	}
	own := metadata.AppendToOutgoingContext(propagation.ContextWithRequestID(ctx, "from-context"), propagation.RequestIDHeader, "from-app")
	if id, _, _ := call(own, false); id != "from-app" || len(seen) != 1 {
		t.Errorf("from the application: handler has %q, header has %v", id, seen)
	}
	bad := metadata.AppendToOutgoingContext(ctx, propagation.RequestIDHeader, "no spaces, please")
	if id, _, _ := call(bad, false); !propagation.ValidRequestID(id) || len(seen) != 1 || seen[0] != id {
		t.Errorf("an invalid one: handler has %q, header has %v", id, seen)
	}
	if _, _, trailer := call(propagation.ContextWithRequestID(ctx, "failing"), true); !cmp.Equal(trailer.Get(propagation.RequestIDHeader), []string{"failing"}) {
		t.Errorf("trailer of a failed call: %v, want the request id", trailer)
	}
}

// Rule 19: a caller without the suite learns the id that the server minted.
func TestRule19Echo(t *testing.T) {
	for _, kind := range kinds {
		h := start(t, &stub{}, func(h *harness) { h.clients = append(h.clients, interceptors.External()) })
		var header, trailer metadata.MD
		var err error
		switch kind {
		case interceptors.Unary:
			_, err = h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{}, grpc.Header(&header))
		case interceptors.ServerStream:
			var cs testpb.TestService_StreamingOutputCallClient
			cs, err = h.client.StreamingOutputCall(h.ctx(), &testpb.StreamingOutputCallRequest{}, grpc.Trailer(&trailer))
			if err == nil {
				err = drain(cs)
			}
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		server := h.ended(2)[1]
		want := attrs(server.Attributes())["request.id"]
		got := append(header.Get(propagation.RequestIDHeader), trailer.Get(propagation.RequestIDHeader)...)
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: echoed %v, want %v", kind, got, want)
		}
	}
}

func TestFilter(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) {
		f := interceptors.WithFilter(interceptors.Not(interceptors.Methods(unaryMethod)))
		h.servers, h.clients = append(h.servers, f), append(h.clients, f)
	})
	if err := h.call(h.ctx(), interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	if err := h.call(h.ctx(), interceptors.BidiStream); err != nil {
		t.Fatal(err)
	}
	h.idle()
	for _, span := range h.ended(2) {
		if span.Name() != strings.TrimPrefix(bidiMethod, "/") {
			t.Errorf("span %q was not to be observed", span.Name())
		}
	}
	if got := h.counts("rpc.server.call.duration", "rpc.method"); len(got) != 1 {
		t.Errorf("calls by method: %v, want the observed one only", got)
	}
	if got := len(h.logs.records(t)); got != 2 {
		t.Errorf("%d records, want two", got)
	}
}

// A panic in a function that is an option ends neither the process nor the call.
func TestPanicInAnOption(t *testing.T) {
	var mu sync.Mutex
	var said strings.Builder
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said.WriteString(err.Error() + "\n")
	}))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	reported := func() string {
		mu.Lock()
		defer mu.Unlock()
		defer said.Reset()
		return said.String()
	}
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, func(h *harness) {
			for _, o := range []interceptors.Option{
				interceptors.WithFilter(func(*interceptors.Call) bool { panic("the filter's") }),
				interceptors.WithAttributes(func(context.Context, *interceptors.Call) []attribute.KeyValue { panic("the attributes'") }),
				interceptors.WithAttributes(func(context.Context, *interceptors.Call) []attribute.KeyValue {
					return []attribute.KeyValue{attribute.Bool("after", true)}
				}),
			} {
				if side == interceptors.ServerSide {
					h.servers = append(h.servers, o)
				} else {
					h.clients = append(h.clients, o)
				}
			}
		})
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		spanKind := map[interceptors.Side]trace.SpanKind{interceptors.ServerSide: trace.SpanKindServer, interceptors.ClientSide: trace.SpanKindClient}[side]
		if got := attrs(h.span(spanKind).Attributes()); got["after"] != true || got["rpc.response.status_code"] != "OK" {
			t.Errorf("attributes of the span: %v", got)
		}
		got := reported()
		for _, want := range []string{"WithFilter: the function panicked for /grpc.testing.TestService/", "the filter's", "WithAttributes: the function panicked for /grpc.testing.TestService/", "the attributes'"} {
			if !strings.Contains(got, want) {
				t.Errorf("reported %q, want %q in it", got, want)
			}
		}
	})
}

func TestWithout(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) {
		for _, o := range []interceptors.Option{interceptors.WithoutTracing(), interceptors.WithoutMetrics(), interceptors.WithoutLogging()} {
			h.servers, h.clients = append(h.servers, o), append(h.clients, o)
		}
	})
	ctx, span := h.tp.Tracer("test").Start(h.ctx(), "caller")
	for _, kind := range kinds {
		if err := h.call(ctx, kind); err != nil {
			t.Fatal(err)
		}
	}
	span.End()
	h.ended(1)
	if got := h.metric("rpc.server.call.duration"); got != nil {
		t.Errorf("recorded %v", got)
	}
	if got := h.logs.String(); got != "" {
		t.Errorf("logged %s", got)
	}
}

// Without an SDK the suite does everything but record, whatever kind of no-op
// span the API hands out, and never ends a span that is not its own.
func TestNoSDK(t *testing.T) {
	for _, test := range []struct {
		name string
		tp   trace.TracerProvider
	}{{"noop", noop.NewTracerProvider()}, {"global", otel.GetTracerProvider()}} {
		for _, chained := range []bool{false, true} {
			for _, kind := range kinds {
				t.Run(test.name+"/"+name(kind, chained), func(t *testing.T) {
					add := chain(chained)
					h := start(t, &stub{}, func(h *harness) {
						o := interceptors.WithTracerProvider(test.tp)
						h.servers, h.clients = append(h.servers, o), append(h.clients, o)
						if add != nil {
							add(h)
						}
					})
					ctx, caller := h.tp.Tracer("test").Start(h.ctx(), "caller")
					if err := h.call(ctx, kind); err != nil {
						t.Fatal(err)
					}
					h.idle()
					if got := h.spans.Ended(); len(got) != 0 {
						t.Errorf("a span of the caller's was ended: %v", names(got))
					}
					if got := len(caller.(sdktrace.ReadOnlySpan).Attributes()); got != 0 {
						t.Errorf("%d attributes on the caller's span, want none", got)
					}
					caller.End()
					h.eventually("two records", func() bool { return len(h.logs.records(t)) == 2 })
				})
			}
		}
	}
}

func TestPublicEndpoint(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) { h.servers = append(h.servers, interceptors.WithPublicEndpoint()) })
	if err := h.call(h.ctx(), interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	spans := h.ended(2)
	client, server := spans[0], spans[1]
	if server.Parent().IsValid() || server.SpanContext().TraceID() == client.SpanContext().TraceID() {
		t.Errorf("the server span continues the caller's trace")
	}
	if len(server.Links()) != 1 || server.Links()[0].SpanContext.SpanID() != client.SpanContext().SpanID() {
		t.Errorf("links: %v, want one to the caller", server.Links())
	}
}

func TestTypedErrorsReachSpanLogAndMetric(t *testing.T) {
	notFound := errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} not found")
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			fail := func() error { return notFound.With("id", "7").WithCause(errors.New("row 7 of 10.0.0.1")) }
			h := start(t, &stub{
				unary:        func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, fail() },
				clientStream: func(testpb.TestService_StreamingInputCallServer) error { return fail() },
				serverStream: func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error {
					return fail()
				},
				bidi: func(testpb.TestService_FullDuplexCallServer) error { return fail() },
			}, nil)
			err := h.call(h.ctx(), kind)
			if !errors.Is(err, notFound) || status.Code(err) != codes.NotFound || errors.Message(err) != "user 7 not found" {
				t.Errorf("the caller got %v, want %v", err, notFound)
			}
			if strings.Contains(status.Convert(err).String(), "10.0.0.1") {
				t.Errorf("the cause went over the wire: %v", err)
			}
			for _, span := range h.ended(2) {
				got := attrs(span.Attributes())
				if got["error.domain"] != "users.example.com" || got["error.reason"] != "USER_NOT_FOUND" {
					t.Errorf("%s span: %v", span.SpanKind(), got)
				}
			}
			h.idle()
			for _, side := range []string{"server", "client"} {
				if got := h.counts("rpcscope."+side+".errors", "error.reason"); got["USER_NOT_FOUND"] != 1 {
					t.Errorf("rpcscope.%s.errors by reason: %v", side, got)
				}
			}
			var cause bool
			for _, r := range h.logs.records(t) {
				text, _ := r["error.message"].(string)
				cause = cause || r["msg"] == "server call" && strings.Contains(text, "10.0.0.1")
			}
			if !cause {
				t.Errorf("the server's log lacks the cause: %s", h.logs)
			}
		})
	}
}

func name(kind interceptors.Kind, chained bool) string {
	if chained {
		return kind.String() + "/chain"
	}
	return kind.String()
}

// chain puts a no-op interceptor on both sides.
func chain(chained bool) func(*harness) {
	if !chained {
		return nil
	}
	noop := interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) })
	return func(h *harness) { h.servers, h.clients = append(h.servers, noop), append(h.clients, noop) }
}

// blockingStub waits until its caller is gone.
func blockingStub() *stub {
	return &stub{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error { return gone(ss.Context()) },
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			return gone(ss.Context())
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error { return gone(ss.Context()) },
	}
}

func gone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// open opens a stream and waits until the server has it, without ever reading.
func (h *harness) open(ctx context.Context, kind interceptors.Kind) (err error) {
	switch kind {
	case interceptors.ClientStream:
		_, err = h.client.StreamingInputCall(ctx)
	case interceptors.ServerStream:
		_, err = h.client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
	case interceptors.BidiStream:
		_, err = h.client.FullDuplexCall(ctx)
	}
	if err == nil {
		h.eventually("the call to arrive", func() bool { return len(h.spans.Started()) == 2 || ctx.Err() != nil })
	}
	return err
}
