package interceptors_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/interceptors"
)

// requestOf and responseOf are messages of a known size.
func requestOf(n int) *testpb.StreamingOutputCallRequest {
	return &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: bytes.Repeat([]byte("q"), n)}}
}

func responseOf(n int) *testpb.StreamingOutputCallResponse {
	return &testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: bytes.Repeat([]byte("r"), n)}}
}

// talkative answers every kind with one, or three, messages of a known size and
// then with err.
func talkative(err error) *stub {
	return &stub{
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Payload: responseOf(500).GetPayload()}, err
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			for range 3 {
				if _, err := ss.Recv(); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return ss.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: 3})
		},
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			for range 3 {
				if err := ss.Send(responseOf(500)); err != nil {
					return err
				}
			}
			return err
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			for range 3 {
				if _, err := ss.Recv(); err != nil {
					return err
				}
				if err := ss.Send(responseOf(500)); err != nil {
					return err
				}
			}
			return err
		},
	}
}

// talk makes a call of the kind with requests of a known size.
func (h *harness) talk(ctx context.Context, kind interceptors.Kind, opts ...grpc.CallOption) error {
	switch kind {
	case interceptors.ClientStream:
		cs, err := h.client.StreamingInputCall(ctx, opts...)
		if err != nil {
			return err
		}
		for range 3 {
			if err := cs.Send(&testpb.StreamingInputCallRequest{Payload: requestOf(100).GetPayload()}); err != nil {
				break
			}
		}
		_, err = cs.CloseAndRecv()
		return err
	case interceptors.ServerStream:
		cs, err := h.client.StreamingOutputCall(ctx, requestOf(100), opts...)
		if err != nil {
			return err
		}
		return drain(cs)
	case interceptors.BidiStream:
		cs, err := h.client.FullDuplexCall(ctx, opts...)
		if err != nil {
			return err
		}
		for range 3 {
			if err := cs.Send(requestOf(100)); err != nil {
				break
			}
		}
		_ = cs.CloseSend()
		return drain(cs)
	}
	_, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: requestOf(100).GetPayload()}, opts...)
	return err
}

// said is how many messages a call has, and their sizes, of requests and of
// responses.
type said struct{ requests, requestSize, responses, responseSize int }

func saidBy(kind interceptors.Kind) said {
	request := proto.Size(requestOf(100)) // fields of the same numbers in all requests but SimpleRequest, whose keys are as long
	response := proto.Size(responseOf(500))
	reply := proto.Size(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: 3})
	return map[interceptors.Kind]said{
		interceptors.Unary:        {1, request, 1, response},
		interceptors.ClientStream: {3, request, 1, reply},
		interceptors.ServerStream: {1, request, 3, response},
		interceptors.BidiStream:   {3, request, 3, response},
	}[kind]
}

// histogram is what a histogram recorded, of one method: how often, and the sum.
type histogram struct {
	Count uint64
	Sum   int64
	Attrs map[string]any
}

func (h *harness) histogram(name string) (found []histogram) {
	h.t.Helper()
	switch data := h.metric(name).(type) {
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			found = append(found, histogram{p.Count, p.Sum, attrs(p.Attributes.ToSlice())})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			found = append(found, histogram{Count: p.Count, Attrs: attrs(p.Attributes.ToSlice())})
		}
	}
	return found
}

func TestMessageMetrics(t *testing.T) {
	for _, engine := range engines {
		for _, chained := range []bool{false, true} {
			for _, kind := range kinds {
				t.Run(engine.name+"/"+name(kind, chained), func(t *testing.T) {
					h := start(t, talkative(nil), both(chain(chained), engine.option, interceptors.WithMessageMetrics()))
					if err := h.talk(h.ctx(), kind, grpc.UseCompressor(gzip.Name)); err != nil {
						t.Fatal(err)
					}
					h.idle()
					want := saidBy(kind)
					for side, attrs := range map[string]map[string]any{
						"server": {"rpc.method": nameOf(kind), "rpc.system.name": "grpc"},
						"client": {"rpc.method": nameOf(kind), "rpc.system.name": "grpc", "server.address": "bufconn"},
					} {
						for name, want := range map[string]histogram{
							"request.size":          {uint64(want.requests), int64(want.requests * want.requestSize), attrs},
							"response.size":         {uint64(want.responses), int64(want.responses * want.responseSize), attrs},
							"requests_per_call":     {1, int64(want.requests), attrs},
							"responses_per_call":    {1, int64(want.responses), attrs},
							"time_to_first_message": {1, 0, attrs},
						} {
							name = "rpcscope." + side + "." + name
							if diff := cmp.Diff([]histogram{want}, h.histogram(name)); diff != "" {
								t.Errorf("%s (-want +got):\n%s", name, diff)
							}
						}
					}
				})
			}
		}
	}
}

// A call without a response has no time to its first, and the messages that it
// had are counted all the same.
func TestMessageMetricsOfAFailure(t *testing.T) {
	for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ClientStream} {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, talkative(status.Error(codes.NotFound, "no")), both(nil, interceptors.WithMessageMetrics()))
			if err := h.talk(h.ctx(), kind); status.Code(err) != codes.NotFound {
				t.Fatal(err)
			}
			h.idle()
			want := saidBy(kind)
			for _, side := range []string{"server", "client"} {
				for name, want := range map[string][2]int{
					"request.size":          {want.requests, want.requests * want.requestSize},
					"response.size":         {},
					"requests_per_call":     {1, want.requests},
					"responses_per_call":    {1, 0},
					"time_to_first_message": {},
				} {
					name = "rpcscope." + side + "." + name
					var count, sum int
					for _, p := range h.histogram(name) {
						count, sum = count+int(p.Count), sum+int(p.Sum)
					}
					if got := [2]int{count, sum}; got != want {
						t.Errorf("%s: count and sum %v, want %v", name, got, want)
					}
				}
			}
		})
	}
}

// Without the option the instruments do not exist.
func TestWithoutMessageMetrics(t *testing.T) {
	h := start(t, &stub{}, nil)
	if err := h.call(h.ctx(), interceptors.BidiStream); err != nil {
		t.Fatal(err)
	}
	h.idle()
	rm := h.rec.Collect()
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if strings.Contains(m.Name, "_per_call") || strings.Contains(m.Name, ".size") || strings.Contains(m.Name, "first_message") {
				t.Errorf("%s was recorded", m.Name)
			}
		}
	}
}

func TestMessageMetricsInstruments(t *testing.T) {
	h := start(t, talkative(nil), both(nil, interceptors.WithMessageMetrics()))
	if err := h.talk(h.ctx(), interceptors.BidiStream); err != nil {
		t.Fatal(err)
	}
	h.idle()
	rm := h.rec.Collect()
	units := map[string]string{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Description == "" {
				t.Errorf("%s has no description", m.Name)
			}
			units[m.Name] = m.Unit
		}
	}
	want := map[string]string{}
	for _, side := range []string{"server", "client"} {
		for name, unit := range map[string]string{"request.size": "By", "response.size": "By", "requests_per_call": "{message}",
			"responses_per_call": "{message}", "time_to_first_message": "s", "active_calls": "{call}"} {
			want["rpcscope."+side+"."+name] = unit
		}
		want["rpc."+side+".call.duration"] = "s"
	}
	if diff := cmp.Diff(want, units); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
}

// Every message is an event, in the order in which that side saw those of each
// direction; sizes are what was sent and what went over the wire.
func TestMessageEvents(t *testing.T) {
	for _, engine := range engines {
		for _, attempts := range []bool{false, true} {
			if attempts && engine.option != nil {
				continue // otelgrpc's spans are attempts already
			}
			for _, kind := range kinds {
				name := engine.name + "/" + kind.String()
				options := []interceptors.ClientOption{nil}
				if attempts {
					name += "/attempts"
					options[0] = interceptors.WithAttempts()
				}
				t.Run(name, func(t *testing.T) {
					h := start(t, talkative(nil), both(func(h *harness) { h.clients = append(h.clients, options...) }, engine.option, interceptors.WithMessageEvents()))
					if err := h.talk(h.ctx(), kind, grpc.UseCompressor(gzip.Name)); err != nil {
						t.Fatal(err)
					}
					h.idle()
					said := saidBy(kind)
					spans := h.ended(2 + map[bool]int{true: 1}[attempts])
					client := trace.SpanKindClient
					if attempts {
						client = trace.SpanKindInternal
					}
					for _, span := range spans {
						var sent, received [][3]any
						requests := repeat(said.requests, said.requestSize)
						responses := repeat(said.responses, said.responseSize)
						switch span.SpanKind() {
						case client:
							sent, received = requests, responses
						case trace.SpanKindServer:
							sent, received = responses, requests
						}
						if diff := cmp.Diff(sent, messageEvents(t, span, "SENT")); diff != "" {
							t.Errorf("%s span: messages sent (-want +got):\n%s", span.SpanKind(), diff)
						}
						if diff := cmp.Diff(received, messageEvents(t, span, "RECEIVED")); diff != "" {
							t.Errorf("%s span: messages received (-want +got):\n%s", span.SpanKind(), diff)
						}
						if want := len(sent) + len(received); len(span.Events()) != want {
							t.Errorf("%s span: %d events, want %d: %v", span.SpanKind(), len(span.Events()), want, span.Events())
						}
					}
				})
			}
		}
	}
}

// repeat lists n messages: id, uncompressed size, and whether gzip made it
// smaller.
func repeat(n, size int) (messages [][3]any) {
	for i := range n {
		messages = append(messages, [3]any{int64(i + 1), int64(size), size > 50})
	}
	return messages
}

func messageEvents(t *testing.T, span sdktrace.ReadOnlySpan, kind string) (found [][3]any) {
	t.Helper()
	for _, e := range span.Events() {
		a := attrs(e.Attributes)
		if e.Name != "rpc.message" || len(a) != 4 {
			t.Errorf("event %s with %v, want rpc.message with four attributes", e.Name, a)
			continue
		}
		if a["rpc.message.type"] == kind {
			size, compressed := a["rpc.message.uncompressed_size"].(int64), a["rpc.message.compressed_size"].(int64)
			found = append(found, [3]any{a["rpc.message.id"], size, compressed > 0 && compressed < size})
		}
	}
	return found
}

// Events of a filtered call go nowhere, least of all onto a span of its caller's.
func TestMessageEventsOfAFilteredCall(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine.name, func(t *testing.T) {
			h := start(t, talkative(nil), both(nil, engine.option, interceptors.WithMessageEvents(), interceptors.WithMessageMetrics(),
				interceptors.WithFilter(func(*interceptors.Call) bool { return false })))
			ctx, caller := h.tp.Tracer("test").Start(h.ctx(), "caller")
			for _, kind := range kinds {
				if err := h.talk(ctx, kind); err != nil {
					t.Fatal(err)
				}
			}
			caller.End()
			for _, span := range h.ended(1) {
				if len(span.Events()) != 0 {
					t.Errorf("events on the caller's span: %v", span.Events())
				}
			}
			for _, side := range []string{"server", "client"} {
				if got := h.histogram("rpcscope." + side + ".request.size"); got != nil {
					t.Errorf("sizes of calls that are not observed: %v", got)
				}
			}
		})
	}
}
