package propagation_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/rpcscope/rpcscope/propagation"
)

// sender returns a context that has everything.
func sender(t testing.TB) context.Context {
	t.Helper()
	ctx := otelprop.TraceContext{}.Extract(context.Background(), mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"v=1"}})
	ctx = propagation.ContextWithRequestID(ctx, someRequestID)
	ctx = withMembers(t, ctx, "plan", "free", "note", "x")
	return propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u", TenantID: "t", SessionID: "s"})
}

func TestRule21Destination(t *testing.T) {
	type call struct{ target, method string }
	var asked []call
	perTarget := propagation.WithOutbound(func(_ context.Context, target, method string) propagation.Outbound {
		asked = append(asked, call{target, method})
		switch {
		case target == "dns:///partner" && method == "/p.P/Quote":
			return propagation.Outbound{RequestID: true, Baggage: []string{"plan"}}
		case target == "dns:///partner":
			return propagation.Outbound{}
		}
		return propagation.DefaultOutbound()
	})
	trace := mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"v=1"}}
	byDefault := mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"v=1"}, "x-request-id": {someRequestID}, "baggage": {"user.id=u,tenant.id=t"}}
	inContext := func(external bool) context.Context {
		return propagation.ContextWithDestination(sender(t), "dns:///partner", "/p.P/Buy", external)
	}
	for _, tt := range []struct {
		name  string
		opts  []propagation.Option
		ctx   context.Context
		to    *to
		want  mdCarrier
		asked []call
	}{
		{"default", nil, sender(t), nil, byDefault, nil},
		{"nil policy", []propagation.Option{perTarget, propagation.WithOutbound(nil)}, sender(t), nil, byDefault, nil},
		{"unknown destination", []propagation.Option{perTarget}, sender(t), nil, byDefault, []call{{"", ""}}},
		{"target", []propagation.Option{perTarget}, sender(t), &to{target: "dns:///users", method: "/u.U/Get"}, byDefault, []call{{"dns:///users", "/u.U/Get"}}},
		{"target and method", []propagation.Option{perTarget}, sender(t), &to{target: "dns:///partner", method: "/p.P/Quote"},
			mdCarrier{"x-request-id": {someRequestID}, "baggage": {"plan=free"}}, []call{{"dns:///partner", "/p.P/Quote"}}},
		{"nothing", []propagation.Option{perTarget}, sender(t), &to{target: "dns:///partner", method: "/p.P/Buy"}, mdCarrier{}, []call{{"dns:///partner", "/p.P/Buy"}}},
		{"third party", nil, sender(t), &to{external: true}, trace, nil},
		{"third party, whatever the policy says", []propagation.Option{perTarget}, sender(t), &to{target: "dns:///users", external: true}, trace, nil},
		{"from the context", []propagation.Option{perTarget}, inContext(false), nil, mdCarrier{}, []call{{"dns:///partner", "/p.P/Buy"}}},
		{"third party from the context", nil, inContext(true), nil, trace, nil},
		{"carrier before context", []propagation.Option{perTarget}, inContext(true), &to{target: "dns:///users", method: "/u.U/Get"}, byDefault, []call{{"dns:///users", "/u.U/Get"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = nil
			sent := mdCarrier{}
			var c otelprop.TextMapCarrier = sent
			if tt.to != nil {
				tt.to.mdCarrier = sent
				c = *tt.to
			}
			propagation.New(tt.opts...).Inject(tt.ctx, c)
			if diff := cmp.Diff(tt.want, sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.asked, asked, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("policy asked (-want +got):\n%s", diff)
			}
		})
	}
}

// A carrier that can delete loses what may not leave, where a proxy had copied
// it; one that cannot keeps it.
func TestRule21InjectRemoves(t *testing.T) {
	copied := func() mdCarrier {
		return mdCarrier{"traceparent": {"old"}, "tracestate": {"old=1"}, "x-request-id": {"theirs"}, "baggage": {"user.id=admin"}, "other": {"x"}}
	}
	nothing := propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound { return propagation.Outbound{} })
	trace := mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"v=1"}, "other": {"x"}}
	for _, tt := range []struct {
		name     string
		opts     []propagation.Option
		external bool
		ctx      context.Context
		want     mdCarrier
	}{
		{"third party", nil, true, sender(t), trace},
		{"nothing", []propagation.Option{nothing}, false, sender(t), mdCarrier{"other": {"x"}}},
		{"without baggage", []propagation.Option{propagation.WithoutBaggage()}, false, sender(t),
			mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"v=1"}, "x-request-id": {"theirs"}, "other": {"x"}}},
		{"nobody to speak of", nil, false, propagation.ContextWithRequestID(context.Background(), "r"),
			mdCarrier{"traceparent": {"old"}, "tracestate": {"old=1"}, "x-request-id": {"theirs"}, "other": {"x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := to{mdCarrier: copied(), external: tt.external}
			propagation.New(tt.opts...).Inject(tt.ctx, c)
			if diff := cmp.Diff(tt.want, c.mdCarrier); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
	c := copied()
	propagation.New(nothing).Inject(sender(t), c)
	if diff := cmp.Diff(copied(), c); diff != "" {
		t.Errorf("a carrier that cannot delete (-want +got):\n%s", diff)
	}
}

func TestDefaultOutboundIsRule21(t *testing.T) {
	want := propagation.Outbound{TraceContext: true, RequestID: true, UserID: true, TenantID: true}
	if diff := cmp.Diff(want, propagation.DefaultOutbound()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
