package propagation_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"

	"github.com/rpcscope/rpcscope/propagation"
)

// RFC 4231, test case 2.
const (
	rfcKey  = "Jefe"
	rfcData = "what do ya want for nothing?"
	rfcHash = "5bdcc146bf60754e6a042426089575c7"
)

func TestRule23AppendAttributes(t *testing.T) {
	full := propagation.Identity{UserID: rfcData, TenantID: "acme", SessionID: "s", Roles: []string{"admin"}}
	hash := propagation.WithUserHash([]byte(rfcKey))
	raw := propagation.WithRawUserID()
	for _, tt := range []struct {
		name string
		opts []propagation.Option
		id   *propagation.Identity
		want []attribute.KeyValue
	}{
		{"nobody", []propagation.Option{hash, raw}, nil, nil},
		{"default", nil, &full, []attribute.KeyValue{attribute.String("tenant.id", "acme")}},
		{"hash", []propagation.Option{hash}, &full,
			[]attribute.KeyValue{attribute.String("user.hash", rfcHash), attribute.String("tenant.id", "acme")}},
		{"raw", []propagation.Option{raw}, &full,
			[]attribute.KeyValue{attribute.String("user.id", rfcData), attribute.String("tenant.id", "acme")}},
		{"both", []propagation.Option{raw, hash}, &full,
			[]attribute.KeyValue{attribute.String("user.hash", rfcHash), attribute.String("user.id", rfcData), attribute.String("tenant.id", "acme")}},
		{"no user", []propagation.Option{raw, hash}, &propagation.Identity{TenantID: "acme"},
			[]attribute.KeyValue{attribute.String("tenant.id", "acme")}},
		{"session only", []propagation.Option{raw, hash}, &propagation.Identity{SessionID: "s"}, nil},
		{"empty key", []propagation.Option{hash, propagation.WithUserHash(nil)}, &propagation.Identity{UserID: "u"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			if tt.id != nil {
				ctx = propagation.ContextWithIdentity(ctx, *tt.id)
			}
			before := attribute.Bool("before", true)
			got := propagation.New(tt.opts...).AppendAttributes(ctx, []attribute.KeyValue{before})
			want := append([]attribute.KeyValue{before}, tt.want...)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(attribute.Value{})); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRule23UserHashConcurrentSafe(t *testing.T) {
	p := propagation.New(propagation.WithUserHash([]byte(rfcKey)))
	var wg sync.WaitGroup
	for _, user := range []string{rfcData, "u1", "u2", "a rather long user id that is longer than the others"} {
		ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: user})
		want := p.AppendAttributes(ctx, nil)[0].Value.AsString()
		wg.Go(func() {
			for range 500 {
				if got := p.AppendAttributes(ctx, nil)[0].Value.AsString(); got != want {
					t.Errorf("hash of %q is %q, then %q", user, want, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRule23UserHashKeyIsCopied(t *testing.T) {
	key := []byte(rfcKey)
	opt := propagation.WithUserHash(key)
	clear(key)
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: rfcData})
	if got := propagation.New(opt).AppendAttributes(ctx, nil)[0].Value.AsString(); got != rfcHash {
		t.Errorf("hash %q, want %q", got, rfcHash)
	}
}

func TestRule23MetricTenant(t *testing.T) {
	two := []propagation.Option{propagation.WithMetricTenants("acme", ""), nil, propagation.WithMetricTenants("globex")}
	for _, tt := range []struct {
		name   string
		opts   []propagation.Option
		tenant string
		want   string // "": none
	}{
		{"default", nil, "acme", ""},
		{"named", two, "acme", "acme"},
		{"named by a second option", two, "globex", "globex"},
		{"not named", two, "evil", "_OTHER"},
		{"none", two, "", ""},
		{"closed list of none", []propagation.Option{propagation.WithMetricTenants()}, "acme", "_OTHER"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kv, ok := propagation.New(tt.opts...).MetricTenant(propagation.ContextWithIdentity(context.Background(), propagation.Identity{TenantID: tt.tenant}))
			var want attribute.KeyValue
			if tt.want != "" {
				want = attribute.String("tenant.id", tt.want)
			}
			if kv != want || ok != (tt.want != "") {
				t.Errorf("MetricTenant = %v, %v, want %v", kv, ok, want)
			}
		})
	}
}
