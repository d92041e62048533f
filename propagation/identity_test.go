package propagation_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rpcscope/rpcscope/propagation"
)

// who is an Identity for comparison: the exported fields and Verified.
type who struct {
	propagation.Identity
	Verified, Found bool
}

func whoIn(ctx context.Context) who {
	id, ok := propagation.IdentityFromContext(ctx)
	return who{id, id.Verified(), ok}
}

var ignoreUnexported = cmpopts.IgnoreUnexported(propagation.Identity{})

func checkWho(t *testing.T, ctx context.Context, want who) {
	t.Helper()
	if diff := cmp.Diff(want, whoIn(ctx), ignoreUnexported); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
}

func TestIdentityInContext(t *testing.T) {
	checkWho(t, context.Background(), who{})
	checkWho(t, nil, who{})

	full := propagation.Identity{
		UserID: "u", TenantID: "t", SessionID: "s", AuthMethod: "jwt",
		Roles: []string{"admin"}, Scopes: []string{"users.read"}, ExpiresAt: time.Unix(1e9, 0),
	}
	outer := propagation.ContextWithIdentity(context.Background(), full)
	inner := propagation.ContextWithIdentity(outer, propagation.Identity{UserID: "other"})
	checkWho(t, outer, who{full, true, true})
	checkWho(t, inner, who{propagation.Identity{UserID: "other"}, true, true})

	// Authentication that knows nobody by name is authentication all the same.
	checkWho(t, propagation.ContextWithIdentity(outer, propagation.Identity{}), who{propagation.Identity{}, true, true})
}

func TestIdentityIsCopied(t *testing.T) {
	id := propagation.Identity{Roles: []string{"reader"}, Scopes: []string{"read"}}
	ctx := propagation.ContextWithIdentity(context.Background(), id)
	id.Roles[0], id.Scopes[0] = "admin", "write"
	checkWho(t, ctx, who{propagation.Identity{Roles: []string{"reader"}, Scopes: []string{"read"}}, true, true})
	if id.Verified() {
		t.Error("ContextWithIdentity changed its argument")
	}
	got, _ := propagation.IdentityFromContext(ctx)
	_ = append(got.Roles, "writer")
	checkWho(t, ctx, who{propagation.Identity{Roles: []string{"reader"}, Scopes: []string{"read"}}, true, true})
}

func TestIdentityAndRequestIDShareAContext(t *testing.T) {
	ctx := propagation.ContextWithRequestID(context.Background(), "r")
	ctx = propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u"})
	ctx = propagation.ContextWithRequestID(ctx, "r2")
	ctx = propagation.ContextWithDestination(ctx, "target", "method", false)
	checkWho(t, ctx, who{propagation.Identity{UserID: "u"}, true, true})
	if got := propagation.RequestID(ctx); got != "r2" {
		t.Errorf("request id %q, want r2", got)
	}
}

func TestRule20IdentityFromBaggage(t *testing.T) {
	sent := mdCarrier{"baggage": {"user.id=u,tenant.id=t,session.id=s"}}
	verified := propagation.Identity{UserID: "alice", Roles: []string{"admin"}}
	for _, tt := range []struct {
		name  string
		trust propagation.TrustFunc
		ctx   context.Context
		want  who
	}{
		{"no trust", nil, context.Background(), who{}},
		{"TrustNone", propagation.TrustNone, context.Background(), who{}},
		{"TrustAll: there, not verified", propagation.TrustAll, context.Background(),
			who{propagation.Identity{UserID: "u", TenantID: "t", SessionID: "s"}, false, true}},
		{"authentication wins", propagation.TrustAll, propagation.ContextWithIdentity(context.Background(), verified),
			who{verified, true, true}},
		{"a later one wins over an earlier one, both unverified", propagation.TrustAll, trusting().Extract(context.Background(), mdCarrier{"baggage": {"user.id=before"}}),
			who{propagation.Identity{UserID: "u", TenantID: "t", SessionID: "s"}, false, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkWho(t, propagation.New(propagation.WithTrust(tt.trust)).Extract(tt.ctx, sent), tt.want)
		})
	}
}

func TestRule20ExpiredIdentityIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := func(expires time.Time) string {
			c := mdCarrier{}
			propagation.New().Inject(propagation.ContextWithIdentity(context.Background(),
				propagation.Identity{UserID: "u", ExpiresAt: expires}), c)
			return c.Get("baggage")
		}
		for _, tt := range []struct {
			name    string
			expires time.Time
			want    string
		}{
			{"never", time.Time{}, "user.id=u"},
			{"in a nanosecond", time.Now().Add(1), "user.id=u"},
			{"now", time.Now(), ""},
			{"an hour ago", time.Now().Add(-time.Hour), ""},
		} {
			if got := send(tt.expires); got != tt.want {
				t.Errorf("expires %s: sent %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}

func TestRule20RolesNeverLeave(t *testing.T) {
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{
		UserID: "u", AuthMethod: "secret-method", Roles: []string{"secret-role"}, Scopes: []string{"secret-scope"},
		ExpiresAt: time.Now().Add(time.Hour),
	})
	everything := propagation.New(propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
		return propagation.Outbound{TraceContext: true, RequestID: true, UserID: true, TenantID: true, SessionID: true, Baggage: []string{"*"}}
	}))
	c := mdCarrier{}
	everything.Inject(ctx, c)
	if diff := cmp.Diff(mdCarrier{"baggage": {"user.id=u"}}, c); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}
