package propagation_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/rpcscope/rpcscope/propagation"
)

const (
	someTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	someRequestID   = "018f3c1e-7b2a-7cc0-9d1e-3a5b7c9d1e3f"
)

// costs are the operations whose allocations are budgeted. Each has the peer's
// beside it where there is one.
var costs = []struct {
	name string
	want float64 // allocations at most
	run  func() func()
}{
	{"NewRequestID", 1, func() func() { return func() { propagation.NewRequestID() } }},
	{"ValidRequestID", 0, func() func() { return func() { propagation.ValidRequestID(someRequestID) } }},
	{"Extract/traceparent", 2, func() func() { return extraction(propagation.New(), mdCarrier{"traceparent": {someTraceparent}}) }},
	{"Extract/traceparent+request_id", 3, func() func() { return extraction(trusting(), withoutBaggage()) }},
	{"Extract/untrusted_baggage", 3, func() func() { return extraction(propagation.New(), withBaggage("user.id=u1,tenant.id=acme")) }},
	{"Extract/identity", 4, func() func() { return extraction(trusting(), withBaggage("user.id=u1,tenant.id=acme")) }},
	{"Extract/two_members", 9, func() func() { return extraction(trusting(), withBaggage("a=1,b=2")) }},
	{"Extract/identity+two_members", 10, func() func() { return extraction(trusting(), withBaggage("user.id=u1,tenant.id=acme,a=1,b=2")) }},
	{"Inject/traceparent+request_id", 3, func() func() { return injection(received(withoutBaggage()), propagation.New()) }},
	{"Inject/identity", 5, func() func() { return injection(received(withBaggage("user.id=u1,tenant.id=acme")), propagation.New()) }},
	{"AppendAttributes/hash+tenant", 1, func() func() {
		p := propagation.New(propagation.WithUserHash([]byte("0123456789abcdef")))
		ctx := received(withBaggage("user.id=u1,tenant.id=acme"))
		var room [4]attribute.KeyValue
		return func() { p.AppendAttributes(ctx, room[:0]) }
	}},
	{"MetricTenant", 0, func() func() {
		p := propagation.New(propagation.WithMetricTenants("acme"))
		ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{TenantID: "acme"})
		return func() { p.MetricTenant(ctx) }
	}},
	{"RequestID", 0, func() func() {
		ctx := received(withoutBaggage())
		return func() { propagation.RequestID(ctx) }
	}},
	{"ContextWithIdentity", 2, func() func() {
		ctx := received(withoutBaggage())
		id := propagation.Identity{UserID: "u1", Roles: []string{"admin"}, Scopes: []string{"users.read", "users.write"}}
		return func() { propagation.ContextWithIdentity(ctx, id) }
	}},
	{"IdentityFromContext", 0, func() func() {
		ctx := received(withBaggage("user.id=u1"))
		return func() { propagation.IdentityFromContext(ctx) }
	}},
}

func trusting() *propagation.Propagator {
	return propagation.New(propagation.WithTrust(propagation.TrustAll))
}

func withoutBaggage() mdCarrier {
	return mdCarrier{"traceparent": {someTraceparent}, "x-request-id": {someRequestID}}
}

func withBaggage(header string) mdCarrier {
	c := withoutBaggage()
	c.Set("baggage", header)
	return c
}

func received(c mdCarrier) context.Context { return trusting().Extract(context.Background(), c) }

func extraction(p otelprop.TextMapPropagator, c mdCarrier) func() {
	var carrier otelprop.TextMapCarrier = c
	return func() { p.Extract(context.Background(), carrier) }
}

func injection(ctx context.Context, p otelprop.TextMapPropagator) func() {
	var carrier otelprop.TextMapCarrier = mdCarrier{}
	return func() {
		clear(carrier.(mdCarrier))
		p.Inject(ctx, carrier)
	}
}

func TestAllocationBudget(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates: only run, not counted")
	}
	for _, c := range costs {
		t.Run(c.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(200, c.run()); got > c.want && !raceEnabled {
				t.Errorf("%v allocations, want at most %v", got, c.want)
			}
		})
	}
}

func BenchmarkPropagator(b *testing.B) {
	for _, c := range costs {
		b.Run(c.name, func(b *testing.B) {
			run := c.run()
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkOTel is what the same headers cost with the propagators of
// OpenTelemetry, which carry no request id.
func BenchmarkOTel(b *testing.B) {
	p := otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, otelprop.Baggage{})
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"Extract/traceparent", extraction(p, withoutBaggage())},
		{"Extract/two_members", extraction(p, withBaggage("user.id=u1,tenant.id=acme"))},
		{"Inject/traceparent", injection(p.Extract(context.Background(), withoutBaggage()), p)},
		{"Inject/two_members", injection(p.Extract(context.Background(), withBaggage("user.id=u1,tenant.id=acme")), p)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
}
