package interceptors_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	otelcodes "go.opentelemetry.io/otel/codes"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// engines are the two that make spans and durations. The option is nil for the
// suite's own.
var engines = []struct {
	name   string
	option interceptors.Option
}{{"own", nil}, {"otelgrpc", interceptors.WithOTelGRPC()}}

// both gives options to both sides, after what configure, which may be nil, does.
func both(configure func(*harness), options ...interceptors.Option) func(*harness) {
	return func(h *harness) {
		if configure != nil {
			configure(h)
		}
		for _, o := range options {
			if o != nil {
				h.servers, h.clients = append(h.servers, o), append(h.clients, o)
			}
		}
	}
}

// scopes returns the scopes in which an instrument recorded something.
func (h *harness) scopes(name string) (scopes []string) {
	h.t.Helper()
	rm := h.rec.Collect()
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name == name {
				scopes = append(scopes, sm.Scope.Name)
			}
		}
	}
	return scopes
}

// recorded is counts where otelgrpc counts too, which it does after the suite
// has ended the call: it waits until n calls are counted.
func (h *harness) recorded(n int64, name string, key attribute.Key) map[string]int64 {
	h.t.Helper()
	var got map[string]int64
	h.eventually(name, func() bool {
		got = h.counts(name, key)
		var sum int64
		for _, n := range got {
			sum += n
		}
		return sum >= n
	})
	return got
}

// Spans and durations are otelgrpc's, one of each; what the suite knows beside
// is on its spans, and the log has their ids.
func TestOTelGRPC(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds {
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, &stub{}, both(chain(chained), interceptors.WithOTelGRPC(nil), interceptors.WithAttributes(
					func(_ context.Context, call *interceptors.Call) []attribute.KeyValue {
						return []attribute.KeyValue{attribute.String("kind", call.Kind.String())}
					})))
				ctx := propagation.ContextWithRequestID(h.ctx(), "the-id")
				if err := h.call(ctx, kind); err != nil {
					t.Fatal(err)
				}
				h.idle()
				spans := h.ended(2)
				client, server := spans[0], spans[1]
				if client.SpanKind() != trace.SpanKindClient || client.Parent().IsValid() || server.Parent().SpanID() != client.SpanContext().SpanID() {
					t.Errorf("parents %v and %v, want none and the client span %v", client.Parent(), server.Parent(), client.SpanContext())
				}
				for _, s := range spans {
					got := attrs(s.Attributes())
					want := map[string]any{"rpc.method": nameOf(kind), "rpc.system.name": "grpc", "rpc.response.status_code": "OK",
						"server.address": "bufconn", "request.id": "the-id", "kind": kind.String()}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("attributes of the %s span (-want +got):\n%s", s.SpanKind(), diff)
					}
					if s.InstrumentationScope().Name != otelgrpc.ScopeName {
						t.Errorf("the %s span is of %s, want %s", s.SpanKind(), s.InstrumentationScope().Name, otelgrpc.ScopeName)
					}
				}
				for i, side := range []string{"client", "server"} {
					duration := "rpc." + side + ".call.duration"
					if diff := cmp.Diff(map[string]int64{"OK": 1}, h.recorded(1, duration, "rpc.response.status_code")); diff != "" {
						t.Errorf("%s by code (-want +got):\n%s", duration, diff)
					}
					if diff := cmp.Diff([]string{otelgrpc.ScopeName}, h.scopes(duration)); diff != "" {
						t.Errorf("scopes of %s (-want +got):\n%s", duration, diff)
					}
					records := recordsOf(t, h, side+" call")
					if len(records) != 1 {
						t.Fatalf("%d records of the %s, want one", len(records), side)
					}
					sc := spans[i].SpanContext()
					want := map[string]any{"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String(), "request_id": "the-id",
						"rpc.response.status_code": "OK", "rpc.method": nameOf(kind), "rpc.kind": kind.String()}
					for k, v := range want {
						if records[0][k] != v {
							t.Errorf("%s of the %s's record is %v, want %v", k, side, records[0][k], v)
						}
					}
				}
			})
		}
	}
}

func TestOTelGRPCErrors(t *testing.T) {
	notFound := errors.Define(codes.Internal, "users.example.com", "TORN_PAGE", "user {id} cannot be read")
	fail := func() error { return notFound.With("id", "7").WithCause(errors.New("page 12 of 10.0.0.1")) }
	failing := &stub{
		unary:        func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, fail() },
		clientStream: func(testpb.TestService_StreamingInputCallServer) error { return fail() },
		serverStream: func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error {
			return fail()
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			for {
				if _, err := ss.Recv(); err != nil {
					return fail()
				}
			}
		},
	}
	for _, chained := range []bool{false, true} {
		for _, kind := range kinds {
			if kind == interceptors.ClientStream {
				continue // may be rejected while the client sends, see TestKnownDifferences
			}
			t.Run(name(kind, chained), func(t *testing.T) {
				h := start(t, failing, both(chain(chained), interceptors.WithOTelGRPC()))
				err := h.call(h.ctx(), kind)
				if !errors.Is(err, notFound) || errors.Message(err) != "user 7 cannot be read" || strings.Contains(status.Convert(err).String(), "10.0.0.1") {
					t.Errorf("the caller got %v, want %v without its cause", err, notFound)
				}
				h.idle()
				spans := h.ended(2)
				for _, span := range spans {
					got := attrs(span.Attributes())
					if got["error.domain"] != "users.example.com" || got["error.reason"] != "TORN_PAGE" || span.Status().Code != otelcodes.Error {
						t.Errorf("%s span: %v, %v", span.SpanKind(), span.Status(), got)
					}
				}
				events := spans[1].Events()
				if len(events) != 1 || !strings.Contains(attrs(events[0].Attributes)["exception.message"].(string), "10.0.0.1") {
					t.Errorf("events of the server span: %v, want the exception with its cause", events)
				}
				for i, side := range []string{"client", "server"} {
					points, _ := h.metric("rpcscope." + side + ".errors").(metricdata.Sum[int64])
					if len(points.DataPoints) != 1 || points.DataPoints[0].Value != 1 {
						t.Fatalf("rpcscope.%s.errors: %v, want one", side, points.DataPoints)
					}
					p := points.DataPoints[0]
					if got := attrs(p.Attributes.ToSlice()); got["error.reason"] != "TORN_PAGE" || got["rpc.response.status_code"] != "INTERNAL" {
						t.Errorf("rpcscope.%s.errors: %v", side, got)
					}
					sid := spans[i].SpanContext().SpanID()
					if len(p.Exemplars) != 1 || !cmp.Equal(p.Exemplars[0].SpanID, sid[:]) {
						t.Errorf("rpcscope.%s.errors: exemplars %v, want one of span %s", side, p.Exemplars, sid)
					}
					if records := recordsOf(t, h, side+" call"); len(records) != 1 || records[0]["span_id"] != sid.String() || records[0]["error.reason"] != "TORN_PAGE" {
						t.Errorf("the %s logged %v", side, records)
					}
				}
			})
		}
	}
}

// Rule 10 holds on otelgrpc too.
func TestOTelGRPCPanic(t *testing.T) {
	h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { panic("secret value") }},
		both(nil, interceptors.WithOTelGRPC()))
	err := h.call(h.ctx(), interceptors.Unary)
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("the caller got %v, want Internal and nothing of the panic", err)
	}
	h.idle()
	server := h.ended(2)[1]
	if len(server.Events()) != 1 || !strings.Contains(attrs(server.Events()[0].Attributes)["exception.stacktrace"].(string), "otelgrpc_test.go") {
		t.Errorf("events: %v, want one exception with the handler's frames", server.Events())
	}
	if got := h.counts("rpcscope.server.panics", "rpc.system.name")["grpc"]; got != 1 {
		t.Errorf("panics: %d, want 1", got)
	}
}

// The chain runs on top: it refuses, and what it learns shows; a server's
// interceptors and handler have otelgrpc's span in their context, so that what
// they call is its child.
func TestOTelGRPCChain(t *testing.T) {
	var inChain, inHandler trace.SpanContext
	var refuse bool
	var h *harness
	var forwarded error
	h = start(t, &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			inHandler = trace.SpanContextFromContext(ctx)
			_, forwarded = h.client.EmptyCall(ctx, &testpb.Empty{})
			return &testpb.SimpleResponse{}, nil
		},
	}, both(on(interceptors.ServerSide, interceptors.For(interceptors.Methods(unaryMethod),
		func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			inChain = trace.SpanContextFromContext(ctx)
			if refuse {
				return errors.PermissionDenied("not you")
			}
			return next(propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "ada"}))
		})), interceptors.WithOTelGRPC(), interceptors.WithPropagator(propagation.New(propagation.WithRawUserID()))))
	if err := h.call(h.ctx(), interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	if status.Code(forwarded) != codes.Unimplemented {
		t.Fatalf("the call of the handler: %v", forwarded)
	}
	h.idle()
	var outer, inner trace.SpanContext
	for _, s := range h.ended(4) {
		switch {
		case s.SpanKind() == trace.SpanKindServer && s.Name() == unaryMethod[1:]:
			outer = s.SpanContext()
			if got := attrs(s.Attributes())["user.id"]; got != "ada" {
				t.Errorf("user.id of the server span is %v, want what the chain learned", got)
			}
		case s.SpanKind() == trace.SpanKindClient && s.Name() != unaryMethod[1:]:
			inner = s.Parent()
		}
	}
	if inChain.SpanID() != outer.SpanID() || inHandler.SpanID() != outer.SpanID() || inner.SpanID() != outer.SpanID() {
		t.Errorf("span in the chain %v, in the handler %v, parent of the handler's call %v; want %v", inChain.SpanID(), inHandler.SpanID(), inner.SpanID(), outer.SpanID())
	}
	refuse = true
	if err := h.call(h.ctx(), interceptors.Unary); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the caller got %v, want what the chain refused it with", err)
	}
}

// otelgrpc gets the suite's options, and the user's after them.
func TestOTelGRPCOptions(t *testing.T) {
	t.Run("filter", func(t *testing.T) {
		h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC(), interceptors.WithFilter(interceptors.Not(interceptors.Methods(unaryMethod)))))
		for _, kind := range kinds[:2] {
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
		}
		h.idle()
		for _, s := range h.ended(2) {
			if s.Name() != clientStreamMethod[1:] {
				t.Errorf("span %q was not to be observed", s.Name())
			}
		}
		if diff := cmp.Diff(map[string]int64{clientStreamMethod[1:]: 1}, h.recorded(1, "rpc.server.call.duration", "rpc.method")); diff != "" {
			t.Errorf("calls by method (-want +got):\n%s", diff)
		}
	})
	t.Run("without", func(t *testing.T) {
		h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC(), interceptors.WithoutTracing(), interceptors.WithoutMetrics(), interceptors.WithoutLogging()))
		ctx, caller := h.tp.Tracer("test").Start(h.ctx(), "caller")
		for _, kind := range kinds {
			if err := h.call(ctx, kind); err != nil {
				t.Fatal(err)
			}
		}
		caller.End()
		for _, s := range h.ended(1) {
			if len(s.Attributes()) != 0 {
				t.Errorf("attributes on the caller's span: %v", s.Attributes())
			}
		}
		for _, name := range []string{"rpc.server.call.duration", "rpc.client.call.duration"} {
			if got := h.metric(name); got != nil {
				t.Errorf("%s: %v", name, got)
			}
		}
		if got := h.logs.String(); got != "" {
			t.Errorf("logged %s", got)
		}
	})
	t.Run("public endpoint", func(t *testing.T) {
		h := start(t, &stub{}, func(h *harness) {
			both(nil, interceptors.WithOTelGRPC())(h)
			h.servers = append(h.servers, interceptors.WithPublicEndpoint())
		})
		if err := h.call(h.ctx(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		spans := h.ended(2)
		if spans[1].Parent().IsValid() || len(spans[1].Links()) != 1 || spans[1].Links()[0].SpanContext.SpanID() != spans[0].SpanContext().SpanID() {
			t.Errorf("parent %v, links %v; want none, and one to the caller", spans[1].Parent(), spans[1].Links())
		}
	})
	t.Run("external", func(t *testing.T) { // rule 21
		var got metadata.MD
		h := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			got, _ = metadata.FromIncomingContext(ctx)
			return &testpb.SimpleResponse{}, nil
		}}, func(h *harness) {
			both(nil, interceptors.WithOTelGRPC())(h)
			h.clients = append(h.clients, interceptors.External())
		})
		ctx := propagation.ContextWithIdentity(propagation.ContextWithRequestID(h.ctx(), "the-id"), propagation.Identity{UserID: "ada"})
		if err := h.call(ctx, interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		h.ended(2)
		if len(got.Get("traceparent")) != 1 || len(got.Get("baggage")) != 0 || len(got.Get(propagation.RequestIDHeader)) != 0 {
			t.Errorf("the third party got %v, want trace context only", got)
		}
	})
	t.Run("external, to a propagator that knows nothing of it", func(t *testing.T) {
		for _, external := range []interceptors.ClientOption{nil, interceptors.External()} {
			var got metadata.MD
			h := start(t, flaky(0, func(ctx context.Context) { got, _ = metadata.FromIncomingContext(ctx) }), func(h *harness) {
				both(nil, interceptors.WithOTelGRPC(), interceptors.WithPropagator(
					otelpropagation.NewCompositeTextMapPropagator(otelpropagation.TraceContext{}, otelpropagation.Baggage{})))(h)
				h.clients = append(h.clients, external)
			})
			member, err := baggage.NewMember("user.id", "ada")
			if err != nil {
				t.Fatal(err)
			}
			bag, err := baggage.New(member)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.call(baggage.ContextWithBaggage(h.ctx(), bag), interceptors.Unary); err != nil {
				t.Fatal(err)
			}
			want := 1
			if external != nil {
				want = 0
			}
			if len(got.Get("traceparent")) != 1 || len(got.Get("baggage")) != want || len(got.Get(propagation.RequestIDHeader)) != want {
				t.Errorf("external: %v; the server got %v, want %d of baggage and request id each", external != nil, got, want)
			}
		}
	})
	t.Run("filter by side", func(t *testing.T) {
		h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC(), interceptors.WithFilter(func(c *interceptors.Call) bool {
			return c.Side == interceptors.ClientSide
		})))
		if err := h.call(h.ctx(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		if got := h.ended(1)[0].SpanKind(); got != trace.SpanKindClient {
			t.Errorf("a %s span, want the client's only", got)
		}
	})
	t.Run("the last counts", func(t *testing.T) {
		h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC(otelgrpc.WithSpanAttributes(attribute.String("team", "users"))), interceptors.WithOTelGRPC()))
		if err := h.call(h.ctx(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		for _, s := range h.ended(2) {
			if got := attrs(s.Attributes()); got["team"] != nil {
				t.Errorf("%s span: %v, want nothing of the first option", s.SpanKind(), got)
			}
		}
	})
	t.Run("otelgrpc's own", func(t *testing.T) {
		h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC(nil, otelgrpc.WithSpanAttributes(attribute.String("team", "users")), nil)))
		if err := h.call(h.ctx(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		for _, s := range h.ended(2) {
			if got := attrs(s.Attributes())["team"]; got != "users" {
				t.Errorf("%s span: team is %v, want users", s.SpanKind(), got)
			}
		}
	})
}

// What travels is sent once: a second propagator injects over the first.
func TestOTelGRPCCarries(t *testing.T) {
	for _, kind := range kinds {
		var got metadata.MD
		see := func(ctx context.Context) { got, _ = metadata.FromIncomingContext(ctx) }
		h := start(t, flaky(0, see), both(nil, interceptors.WithOTelGRPC()))
		ctx := propagation.ContextWithIdentity(h.ctx(), propagation.Identity{UserID: "ada"})
		if err := h.call(ctx, kind); err != nil {
			t.Fatal(err)
		}
		client := h.ended(2)[0]
		for _, key := range []string{"traceparent", "baggage", propagation.RequestIDHeader} {
			if len(got.Get(key)) != 1 {
				t.Errorf("%s: %s was sent as %v, want once", kind, key, got.Get(key))
			}
		}
		if tp := got.Get("traceparent"); len(tp) != 1 || !strings.Contains(tp[0], client.SpanContext().SpanID().String()) {
			t.Errorf("%s: traceparent %v, want the client span %v", kind, tp, client.SpanContext().SpanID())
		}
	}
}

// To otelgrpc each attempt is a call (D2); ours on top of it counts one call,
// and attempts if asked to.
func TestOTelGRPCRetries(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, flaky(2, nil), func(h *harness) {
				both(nil, interceptors.WithOTelGRPC())(h)
				h.clients = append(h.clients, interceptors.WithAttempts())
				h.dial = append(h.dial, retrying)
			})
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			h.idle()
			h.ended(6)
			h.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 1, "retry": 2})
			if got := nonEmpty(h.counts("rpcscope.client.errors", "rpc.response.status_code")); got != nil {
				t.Errorf("failed calls: %v, want none", got)
			}
			records := clientRecords(t, h)
			if len(records) != 1 || records[0]["rpc.response.status_code"] != "OK" {
				t.Fatalf("the client logged %v, want one record with OK", records)
			}
			last := trees(h.spans.Ended())
			if len(last) != 3 {
				t.Fatalf("%d roots, want otelgrpc's three: %v", len(last), last)
			}
			var found bool
			for _, s := range h.spans.Ended() {
				if s.SpanKind() == trace.SpanKindClient && s.SpanContext().SpanID().String() == records[0]["span_id"] {
					found = attrs(s.Attributes())["rpc.response.status_code"] == "OK"
				}
			}
			if !found {
				t.Errorf("the log's span is not that of the last attempt: %v", records[0])
			}
			points, _ := h.metric("rpcscope.client.attempts").(metricdata.Sum[int64])
			for _, p := range points.DataPoints {
				if len(p.Exemplars) == 0 {
					t.Errorf("%v has no exemplar", p.Attributes.ToSlice())
				}
			}
		})
	}
}

// A call on which otelgrpc sees nothing has no span of its own making, and the
// caller's is left alone.
func TestOTelGRPCBeforeAnAttempt(t *testing.T) {
	h := start(t, &stub{}, both(nil, interceptors.WithOTelGRPC()))
	ctx, caller := h.tp.Tracer("test").Start(h.ctx(), "caller")
	_, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.UseCompressor("none-such"))
	if status.Code(err) != codes.Internal {
		t.Fatalf("the caller got %v, want Internal", err)
	}
	caller.End()
	span := h.ended(1)[0]
	if span.Name() != "caller" || len(span.Attributes()) != 0 || len(span.Events()) != 0 || span.Status().Code != otelcodes.Unset {
		t.Errorf("the caller's span: %s %v %v %v", span.Name(), span.Attributes(), span.Events(), span.Status())
	}
	h.idle()
	h.counted("rpcscope.client.errors", "rpc.response.status_code", map[string]int64{"INTERNAL": 1})
	if got := clientRecords(t, h); len(got) != 1 || got[0]["rpc.response.status_code"] != "INTERNAL" {
		t.Errorf("the client logged %v, want one record with INTERNAL", got)
	}
}
