package interceptors_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Rules 19 to 21: what goes over the wire, seen by a server without the suite.
func TestRule21OnTheWire(t *testing.T) {
	member, _ := baggage.NewMember("plan", "gold")
	bag, _ := baggage.New(member)
	foreign := interceptors.WithPropagator(otelpropagation.NewCompositeTextMapPropagator(otelpropagation.TraceContext{}, otelpropagation.Baggage{}))
	identity := propagation.Identity{UserID: "ada", TenantID: "acme", SessionID: "s1", Roles: []string{"admin"}}
	for _, test := range []struct {
		name    string
		options []interceptors.ClientOption
		sent    metadata.MD
		want    map[string]string // "" is: must be there; "-": must not
	}{
		{"default", nil, nil, map[string]string{"traceparent": "", "x-request-id": "", "baggage": "user.id=ada,tenant.id=acme"}},
		{"third party", []interceptors.ClientOption{interceptors.External()}, nil,
			map[string]string{"traceparent": "", "x-request-id": "-", "baggage": "-"}},
		{"third party, forwarded headers", []interceptors.ClientOption{interceptors.External()}, metadata.Pairs("baggage", "a=b", "x-request-id", "id-1", "x-mine", "kept"),
			map[string]string{"traceparent": "", "x-request-id": "-", "baggage": "-", "x-mine": "kept"}},
		{"forwarded baggage", nil, metadata.Pairs("baggage", "a=b"), map[string]string{"baggage": "user.id=ada,tenant.id=acme"}},
		{"twice the same id", nil, metadata.Pairs("x-request-id", "id-1", "x-request-id", "id-1"), map[string]string{"x-request-id": "id-1"}},
		{"two ids", nil, metadata.Pairs("x-request-id", "id-1", "x-request-id", "id-2"), map[string]string{"x-request-id": ""}},
		{"a stale traceparent", nil, metadata.Pairs("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"), map[string]string{"traceparent": ""}},
		{"foreign propagator", []interceptors.ClientOption{foreign}, metadata.Pairs("x-mine", "kept"),
			map[string]string{"traceparent": "", "x-request-id": "", "baggage": "plan=gold", "x-mine": "kept"}},
		{"foreign propagator, third party", []interceptors.ClientOption{foreign, interceptors.External()}, nil,
			map[string]string{"traceparent": "", "x-request-id": "-", "baggage": "-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got atomic.Value
			h := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				got.Store(md)
				return &testpb.SimpleResponse{}, nil
			}}, func(h *harness) { h.clients = append(h.clients, test.options...) })
			ctx := baggage.ContextWithBaggage(propagation.ContextWithIdentity(h.ctx(), identity), bag)
			if test.sent != nil {
				ctx = metadata.NewOutgoingContext(ctx, test.sent)
			}
			if _, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			md := got.Load().(metadata.MD)
			span := h.ended(2)[0]
			for key, want := range test.want {
				values := md.Get(key)
				switch {
				case want == "-" && len(values) != 0:
					t.Errorf("%s went out: %q", key, values)
				case want == "" && len(values) != 1, want != "" && want != "-" && !slices.Equal(values, []string{want}):
					t.Errorf("%s is %q, want %q once", key, values, want)
				}
			}
			if tp := md.Get("traceparent"); len(tp) != 1 || !strings.Contains(tp[0], span.SpanContext().SpanID().String()) {
				t.Errorf("traceparent is %q, want that of span %s", tp, span.SpanContext().SpanID())
			}
			if id := md.Get("x-request-id"); len(id) == 1 && id[0] != attrs(span.Attributes())["request.id"] {
				t.Errorf("the id sent is %q, that of the span %v", id, attrs(span.Attributes())["request.id"])
			}
		})
	}
}
