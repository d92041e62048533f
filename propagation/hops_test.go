package propagation_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// arrival is what a server saw of a call.
type arrival struct {
	requestID string
	who       who
	trace     trace.TraceID
	members   map[string]string
	header    map[string][]string // of those a Propagator writes
}

func arrive(ctx context.Context) arrival {
	a := arrival{propagation.RequestID(ctx), whoIn(ctx), trace.SpanContextFromContext(ctx).TraceID(), membersIn(ctx), map[string][]string{}}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, k := range []string{"traceparent", "tracestate", "x-request-id", "baggage"} {
		if v := md[k]; v != nil {
			a.header[k] = v
		}
	}
	return a
}

var compareArrivals = cmp.Options{cmp.AllowUnexported(arrival{}), ignoreUnexported}

// Web calls A, which calls B and a third party. Rules 19, 20 and 21 over real
// connections, with all four kinds of call.
func TestThreeHops(t *testing.T) {
	loopback := propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("127.0.0.0/8")))
	traceID, _ := trace.TraceIDFromHex(someTraceparent[3:35])
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			atA, atB, atParty := make(chan arrival, 1), make(chan arrival, 1), make(chan arrival, 1)
			b := dial(t, serve(t, func(ctx context.Context) error { atB <- arrive(ctx); return nil },
				serverOptions(propagation.New(loopback))...), dialOptions(propagation.New(), false)...)
			party := dial(t, serve(t, func(ctx context.Context) error { atParty <- arrive(ctx); return nil },
				serverOptions(propagation.New(propagation.WithTrust(propagation.TrustAll)))...), dialOptions(propagation.New(), true)...)
			a := dial(t, serve(t, func(ctx context.Context) error {
				atA <- arrive(ctx)
				if err := kind.call(ctx, b); err != nil {
					return err
				}
				return kind.call(ctx, party)
			}, serverOptions(propagation.New(loopback))...), dialOptions(propagation.New(), false)...)
			web := httptest.NewServer(propagation.New().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx := propagation.ContextWithIdentity(r.Context(), propagation.Identity{
					UserID: "alice", TenantID: "acme", SessionID: "s", Roles: []string{"admin"},
				})
				if err := kind.call(ctx, a); err != nil {
					http.Error(w, err.Error(), http.StatusBadGateway)
				}
			})))
			defer web.Close()

			resp := get(t, client(t), web.URL, http.Header{"Traceparent": {someTraceparent}, "Baggage": {"user.id=mallory,x=1"}})
			id := resp.Header.Get("X-Request-Id")
			if resp.Status != http.StatusOK || !propagation.ValidRequestID(id) {
				t.Fatalf("status %d, request id %q", resp.Status, id)
			}
			inside := arrival{
				requestID: id,
				who:       who{propagation.Identity{UserID: "alice", TenantID: "acme"}, false, true},
				trace:     traceID,
				members:   map[string]string{},
				header: map[string][]string{
					"traceparent": {someTraceparent}, "x-request-id": {id}, "baggage": {"user.id=alice,tenant.id=acme"},
				},
			}
			if diff := cmp.Diff(inside, <-atA, compareArrivals); diff != "" {
				t.Errorf("at A (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(inside, <-atB, compareArrivals); diff != "" {
				t.Errorf("at B (-want +got):\n%s", diff)
			}
			got := <-atParty
			if got.requestID == id || !propagation.ValidRequestID(got.requestID) {
				t.Errorf("the third party has request id %q, want one of its own", got.requestID)
			}
			want := arrival{got.requestID, who{}, traceID, map[string]string{}, map[string][]string{"traceparent": {someTraceparent}}}
			if diff := cmp.Diff(want, got, compareArrivals); diff != "" {
				t.Errorf("at the third party (-want +got):\n%s", diff)
			}
		})
	}
}

// The attempts of a call have one request id, each once.
func TestRule19SameIDAcrossAttempts(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			var mu sync.Mutex
			var ids [][]string
			addr := serve(t, func(ctx context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, arrive(ctx).header["x-request-id"])
				if len(ids) < 3 {
					return status.Error(codes.Unavailable, "try again")
				}
				return nil
			}, serverOptions(propagation.New())...)
			c := dial(t, addr, append(dialOptions(propagation.New(), false), grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}],
				"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))...)
			if err := kind.call(propagation.ContextWithRequestID(t.Context(), "r"), c); err != nil {
				t.Fatal(err)
			}
			if want := [][]string{{"r"}, {"r"}, {"r"}}; !slices.EqualFunc(ids, want, slices.Equal) {
				t.Errorf("ids of the attempts %q, want %q", ids, want)
			}
		})
	}
}

// baggageCopy is what contrib's baggagecopy processor does: it makes attributes
// of all baggage in the context of a span that starts.
type baggageCopy struct{}

func (baggageCopy) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	for _, m := range baggage.FromContext(ctx).Members() {
		s.SetAttributes(attribute.String(m.Key(), m.Value()))
	}
}

func (baggageCopy) OnEnd(sdktrace.ReadOnlySpan)      {}
func (baggageCopy) ForceFlush(context.Context) error { return nil }
func (baggageCopy) Shutdown(context.Context) error   { return nil }

// Rule 20: what an untrusted peer sends reaches no span, not through a baggage
// processor and not through otelgrpc, and what a trusted one sends as its
// identity does not get there in the clear (rule 23).
func TestRule20NothingReachesSpans(t *testing.T) {
	const sent = "user.id=mallory,tenant.id=evil,plan=free,x=1"
	for _, tt := range []struct {
		name string
		opts []propagation.Option
		want []attribute.KeyValue
	}{
		{"untrusted", nil, nil},
		{"untrusted, listed", []propagation.Option{propagation.WithInboundBaggage("plan")}, nil},
		{"trusted", []propagation.Option{propagation.WithTrust(propagation.TrustAll), propagation.WithInboundBaggage("plan")},
			[]attribute.KeyValue{attribute.String("plan", "free")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := telemetrytest.New(t, telemetry.WithSpanProcessor(baggageCopy{}))
			tp := rec.Telemetry().TracerProvider()
			work := func(ctx context.Context) error {
				_, span := tp.Tracer("test").Start(ctx, "work")
				span.End()
				return nil
			}
			addr := serve(t, work, grpc.StatsHandler(otelgrpc.NewServerHandler(
				otelgrpc.WithPropagators(propagation.New(tt.opts...)), otelgrpc.WithTracerProvider(tp))))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", sent, "traceparent", someTraceparent)
			for _, kind := range kinds {
				rec.Reset()
				if err := kind.call(ctx, dial(t, addr)); err != nil {
					t.Fatal(err)
				}
				var got []attribute.KeyValue
				for _, s := range rec.Spans().All() {
					if s.SpanContext().TraceID().String() != someTraceparent[3:35] {
						t.Errorf("%s: span %s is in another trace", kind.name, s.Name())
					}
					if s.Name() == "work" {
						got = s.Attributes()
					}
					for _, kv := range s.Attributes() {
						if kv.Value.AsString() == "mallory" || kv.Value.AsString() == "evil" {
							t.Errorf("%s: span %s has %s", kind.name, s.Name(), kv.Key)
						}
					}
				}
				if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(attribute.Value{})); diff != "" {
					t.Errorf("%s: attributes (-want +got):\n%s", kind.name, diff)
				}
			}
		})
	}
}

// A service with otelgrpc and OpenTelemetry's own propagators reads what ours
// sends, and the reverse.
func TestInteropWithOTelGRPC(t *testing.T) {
	plain := otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, otelprop.Baggage{})
	tp := telemetrytest.New(t).Telemetry().TracerProvider()
	ours := propagation.New(propagation.WithTrust(propagation.TrustAll),
		propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
			o := propagation.DefaultOutbound()
			o.Baggage = []string{"plan"}
			return o
		}))
	start := func() (context.Context, trace.SpanContext) {
		ctx, span := tp.Tracer("test").Start(t.Context(), "caller")
		span.End()
		return ctx, span.SpanContext()
	}
	t.Run("ours to theirs", func(t *testing.T) {
		got := make(chan arrival, 1)
		addr := serve(t, func(ctx context.Context) error { got <- arrive(ctx); return nil },
			grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithPropagators(plain), otelgrpc.WithTracerProvider(tp))))
		c := dial(t, addr, dialOptions(ours, false)...)
		for _, kind := range kinds {
			ctx, sc := start()
			ctx = propagation.ContextWithIdentity(withMembers(t, ctx, "plan", "free"), propagation.Identity{UserID: "al ice", TenantID: "acmé"})
			if err := kind.call(ctx, c); err != nil {
				t.Fatal(err)
			}
			a := <-got
			if a.trace != sc.TraceID() {
				t.Errorf("%s: trace %s, want %s", kind.name, a.trace, sc.TraceID())
			}
			want := map[string]string{"user.id": "al ice", "tenant.id": "acmé", "plan": "free"}
			if diff := cmp.Diff(want, a.members); diff != "" {
				t.Errorf("%s: members (-want +got):\n%s", kind.name, diff)
			}
		}
	})
	t.Run("theirs to ours", func(t *testing.T) {
		got := make(chan arrival, 1)
		addr := serve(t, func(ctx context.Context) error { got <- arrive(ctx); return nil }, serverOptions(ours)...)
		c := dial(t, addr, grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithPropagators(plain), otelgrpc.WithTracerProvider(tp))))
		for _, kind := range kinds {
			ctx, sc := start()
			ctx = withMembers(t, ctx, "plan", "free", "user.id", "al ice", "tenant.id", "acmé")
			ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "5b7e1f0a-6f0e-9d5e-8b5c-0b4ed0b0a7b1") // as Envoy makes them
			if err := kind.call(ctx, c); err != nil {
				t.Fatal(err)
			}
			a := <-got
			a.header = nil
			want := arrival{"5b7e1f0a-6f0e-9d5e-8b5c-0b4ed0b0a7b1",
				who{propagation.Identity{UserID: "al ice", TenantID: "acmé"}, false, true}, sc.TraceID(), map[string]string{"plan": "free"}, nil}
			if diff := cmp.Diff(want, a, compareArrivals); diff != "" {
				t.Errorf("%s (-want +got):\n%s", kind.name, diff)
			}
		}
	})
}
