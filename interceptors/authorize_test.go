package interceptors_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
	"github.com/rpcscope/rpcscope/propagation"
)

var (
	allow  = interceptors.Allow
	anyone = interceptors.Anyone
	role   = interceptors.Role
	scope  = interceptors.Scope
	anyOf  = interceptors.AnyOf
)

// Which rule decides, and for whom.
func TestAuthorizeDecides(t *testing.T) {
	rules := []interceptors.Rule{
		anyone("/grpc.health.v1.Health/*"),
		allow("/users.v1.Users/Delete", role("admin"), scope("users.write")),
		allow("/users.v1.Users/Export", anyOf(role("admin"), scope("users.read"), anyOf(role("auditor")))),
		anyone("/users.v1.Users/LogIn"),
		allow("/users.v1.Users/*", scope("users.read")),
		allow("/me.v1.Me/*"),
	}
	const (
		ok      = codes.OK
		denied  = codes.PermissionDenied
		nobody  = codes.Unauthenticated
		unknown = `a rule that matches `

		unauthenticated = "a verified identity (no Authenticate ran outside of Authorize)"
	)
	verified := func(id propagation.Identity) context.Context {
		return propagation.ContextWithIdentity(context.Background(), id)
	}
	identities := map[string]context.Context{
		"none":     context.Background(),
		"nameless": verified(propagation.Identity{}),
		"admin":    verified(propagation.Identity{Roles: []string{"user", "admin"}}),
		"writer":   verified(propagation.Identity{Roles: []string{"admin"}, Scopes: []string{"users.write"}}),
		"reader":   verified(propagation.Identity{Scopes: []string{"openid", "users.read"}}),
		"similar":  verified(propagation.Identity{Roles: []string{"Admin", "administrator", "adm"}, Scopes: []string{"users", "Users.Read", "users.read.all", "users.read users.write", "users.*", "*"}}),
		"auditor":  verified(propagation.Identity{Roles: []string{"auditor"}}),
		"expired":  verified(propagation.Identity{Roles: []string{"admin"}, Scopes: []string{"users.read", "users.write"}, ExpiresAt: time.Unix(1, 0)}),
		"lasting":  verified(propagation.Identity{Scopes: []string{"users.read"}, ExpiresAt: time.Now().Add(time.Hour)}),
	}
	tests := []struct {
		method  string
		who     string
		code    codes.Code
		missing string
	}{
		{"/grpc.health.v1.Health/Check", "none", ok, ""},
		{"/grpc.health.v1.Health/Check", "expired", ok, ""},
		{"/users.v1.Users/Delete", "none", nobody, unauthenticated},
		{"/users.v1.Users/Delete", "nameless", denied, `Role("admin")`},
		{"/users.v1.Users/Delete", "admin", denied, `Scope("users.write")`},
		{"/users.v1.Users/Delete", "similar", denied, `Role("admin")`},
		{"/users.v1.Users/Delete", "writer", ok, ""},
		{"/users.v1.Users/Delete", "expired", nobody, "an identity that has not expired"},
		{"/users.v1.Users/Export", "admin", ok, ""},
		{"/users.v1.Users/Export", "reader", ok, ""},
		{"/users.v1.Users/Export", "auditor", ok, ""},
		{"/users.v1.Users/Export", "nameless", denied, `AnyOf(Role("admin"), Scope("users.read"), AnyOf(Role("auditor")))`},
		{"/users.v1.Users/LogIn", "none", ok, ""},
		{"/users.v1.Users/Get", "none", nobody, unauthenticated},
		{"/users.v1.Users/Get", "admin", denied, `Scope("users.read")`},
		{"/users.v1.Users/Get", "similar", denied, `Scope("users.read")`},
		{"/users.v1.Users/Get", "reader", ok, ""},
		{"/users.v1.Users/Get", "lasting", ok, ""},
		{"/me.v1.Me/Get", "none", nobody, unauthenticated},
		{"/me.v1.Me/Get", "nameless", ok, ""},
		{"/me.v1.Me/Get", "expired", nobody, "an identity that has not expired"},
		{"/other.v1.Other/Get", "writer", denied, unknown + "/other.v1.Other/Get"},
		{"/other.v1.Other/Get", "none", denied, unknown + "/other.v1.Other/Get"},
		{"me.v1.Me/Get", "nameless", denied, unknown + "me.v1.Me/Get"},
		{"users.v1.Users/LogIn", "none", denied, unknown + "users.v1.Users/LogIn"},
		{"//users.v1.Users/LogIn", "none", denied, unknown + "//users.v1.Users/LogIn"},
	}
	authorize := interceptors.Authorize(rules...)
	for _, test := range tests {
		called := false
		err := authorize(identities[test.who], &interceptors.Call{FullMethod: test.method}, func(context.Context) error {
			called = true
			return nil
		})
		if errors.Code(err) != test.code || called != (test.code == ok) {
			t.Errorf("%s for %s: %v, handler called: %v, want %v", test.method, test.who, err, called, test.code)
		}
		if err != nil && !strings.HasSuffix(err.Error(), "missing: "+test.missing) {
			t.Errorf("%s for %s: %v, want what is missing: %s", test.method, test.who, err, test.missing)
		}
	}
	last := interceptors.Authorize(allow("/a.B/C", role("admin")), anyone("*"))
	for method, want := range map[string]codes.Code{"/a.B/C": nobody, "/a.B/D": ok, "a.B/C": denied, "": denied} {
		if err := last(context.Background(), &interceptors.Call{FullMethod: method}, func(context.Context) error { return nil }); errors.Code(err) != want {
			t.Errorf("%q, with Anyone(\"*\") at the end: %v, want %v", method, err, want)
		}
	}
}

// What is missing is in span and log and not on the wire, for all kinds, with its
// count.
func TestAuthorizeTells(t *testing.T) {
	admin := allow("/grpc.testing.TestService/*", role("admin-of-the-vault"))
	tests := map[string]struct {
		who     propagation.Identity
		rule    interceptors.Rule
		err     *errors.Error
		missing string
		as      string
	}{
		"role":     {propagation.Identity{UserID: "bob"}, admin, interceptors.ErrPermissionDenied, `Role("admin-of-the-vault")`, "permission_denied"},
		"no rule":  {propagation.Identity{UserID: "bob"}, anyone("/a.B/*"), interceptors.ErrPermissionDenied, "a rule that matches /grpc.testing.TestService/", "permission_denied"},
		"identity": {propagation.Identity{}, admin, interceptors.ErrNoCredentials, "a verified identity (no Authenticate ran outside of Authorize)", "unauthenticated"},
	}
	for name, test := range tests {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				h := start(t, stubOf(func(stream) error {
					t.Error("the handler was called")
					return nil
				}), onServer(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					if test.who.UserID != "" {
						ctx = propagation.ContextWithIdentity(ctx, test.who)
					}
					return next(ctx)
				}, interceptors.Authorize(test.rule)))
				err := h.silent(h.ctx(), kind)
				if !errors.Is(err, test.err) || errors.Code(err) != test.err.Code() || errors.Message(err) != test.err.Message() {
					t.Errorf("the caller got %v, want %v", err, test.err)
				}
				if st, _ := status.FromError(err); strings.Contains(fmt.Sprint(st.Proto(), err), "vault") || strings.Contains(fmt.Sprint(st.Proto()), "missing") {
					t.Errorf("the caller is told what is missing: %v", st.Proto())
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{test.as: 1})
				for where, got := range h.told() {
					missing, _ := got["rpcscope.authorization.missing"].(string)
					if !strings.HasPrefix(missing, test.missing) || got["rpcscope.rejected.reason"] != test.as {
						t.Errorf("the %s has %v, want %q missing", where, got, test.missing)
					}
				}
			})
		}
	}
}

// Rule 20: an identity from baggage, even of a trusted peer, is never enough, not
// even together with one that is verified.
func TestRule20AuthorizeWantsVerified(t *testing.T) {
	for _, kind := range kinds {
		h := start(t, &stub{}, onServer(
			interceptors.Authenticate(knows(nil), interceptors.AllowAnonymous(interceptors.Methods("*"))),
			func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				if id, ok := propagation.IdentityFromContext(ctx); !ok || id.UserID != "eve" {
					t.Errorf("the baggage has %+v, want what the peer is trusted to say", id)
				}
				return next(ctx)
			},
			interceptors.Authorize(allow("*"))))
		ctx := propagation.ContextWithIdentity(h.ctx(), propagation.Identity{UserID: "eve", TenantID: "acme", Roles: []string{"admin"}})
		if err := h.silent(ctx, kind); !errors.Is(err, interceptors.ErrNoCredentials) {
			t.Errorf("%s: the caller got %v, want %v", kind, err, interceptors.ErrNoCredentials)
		}
		for where, got := range h.told() { // and not that nobody asked
			if missing := got["rpcscope.authorization.missing"]; missing != "a verified identity" {
				t.Errorf("%s: the %s says that %v is missing", kind, where, missing)
			}
		}
	}
}

// Authenticate and Authorize as a server has them.
func TestAuthenticateAndAuthorize(t *testing.T) {
	for _, kind := range kinds {
		for _, test := range []struct {
			header string
			rule   interceptors.Rule
			want   codes.Code
		}{
			{"Bearer " + secret, allow("/grpc.testing.TestService/*", role("admin"), scope("users.read")), codes.OK},
			{"Bearer " + secret, allow("*"), codes.OK},
			{"Bearer " + secret, allow("*", role("owner")), codes.PermissionDenied},
			{"Bearer other", allow("*"), codes.Unauthenticated},
		} {
			h := start(t, &stub{}, onServer(interceptors.Authenticate(knows(errors.New("no"))), interceptors.Authorize(test.rule)))
			if err := h.silent(authorized(h.ctx(), test.header), kind); errors.Code(err) != test.want {
				t.Errorf("%s, %v: %v, want %v", kind, test.rule, err, test.want)
			}
		}
	}
}

// A rule that could never decide, or be met, does not survive the start.
func TestAuthorizeMistakes(t *testing.T) {
	type rules = []interceptors.Rule
	for _, test := range []struct {
		rules rules
		rule  string // that is named
		why   string
	}{
		{rules{}, "", "no rule given"},
		{rules{allow("/a.B/C"), allow("a.B/C")}, `rule 2, Allow("a.B/C")`, "can match no method"},
		{rules{anyone("/a.B")}, `rule 1, Anyone("/a.B")`, "can match no method"},
		{rules{anyone("/a.*/C")}, `rule 1, Anyone("/a.*/C")`, "can match no method"},
		{rules{{}}, `rule 1, Allow("")`, "can match no method"},
		{rules{allow("/a.B/C"), allow("/a.B/C", role("x"))}, `rule 2, Allow("/a.B/C", Role("x"))`, `rule 1, Allow("/a.B/C"), matches all`},
		{rules{allow("/a.B/*"), allow("/x.Y/*"), anyone("/a.B/C")}, `rule 3, Anyone("/a.B/C")`, `rule 1, Allow("/a.B/*"), matches all`},
		{rules{anyone("/a.B/*"), allow("/a.B/*", scope("s"))}, `rule 2, Allow("/a.B/*", Scope("s"))`, `rule 1, Anyone("/a.B/*"), matches all`},
		{rules{anyone("*"), allow("/a.B/*")}, `rule 2, Allow("/a.B/*")`, `rule 1, Anyone("*"), matches all`},
		{rules{anyone("*"), allow("/a.B/C")}, `rule 2, Allow("/a.B/C")`, `rule 1, Anyone("*"), matches all`},
		{rules{allow("*"), anyone("*")}, `rule 2, Anyone("*")`, `rule 1, Allow("*"), matches all`},
		{rules{allow("*", role(""))}, `rule 1, Allow("*", Role(""))`, "nobody"},
		{rules{allow("*", scope(""))}, `rule 1, Allow("*", Scope(""))`, "nobody"},
		{rules{allow("*", scope("a b"))}, `rule 1, Allow("*", Scope("a b"))`, "nobody"},
		{rules{allow("*", scope(`a"`))}, `rule 1, Allow("*", Scope("a\""))`, "nobody"},
		{rules{allow("*", anyOf())}, `rule 1, Allow("*", AnyOf())`, "nobody"},
		{rules{allow("*", anyOf(role("x"), anyOf(scope("a b"))))}, `rule 1, Allow("*", AnyOf(Role("x"), AnyOf(Scope("a b"))))`, "nobody"},
		{rules{allow("*", interceptors.Requirement{})}, `rule 1, Allow("*", Requirement{})`, "empty"},
	} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "interceptors: Authorize: "+test.rule) || !strings.Contains(text, test.why) {
					t.Errorf("%v: recovered %q, want a panic that names %q and says %q", test.rules, text, test.rule, test.why)
				}
			}()
			interceptors.Authorize(test.rules...)
		}()
	}
	// What looks similar and is none.
	interceptors.Authorize(allow("/a.B/C"), allow("/a.B/D"), anyone("/a.B/*"), allow("/a.B.C/*"), anyone("*"))
}

// The rules are those that were given, whatever becomes of the slices.
func TestAuthorizeKeepsItsRules(t *testing.T) {
	needs := []interceptors.Requirement{role("admin")}
	rules := []interceptors.Rule{allow("/a.B/*", needs...)}
	authorize := interceptors.Authorize(rules...)
	needs[0], rules[0] = role("user"), anyone("*")
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{Roles: []string{"user"}})
	if err := authorize(ctx, &interceptors.Call{FullMethod: "/a.B/C"}, func(context.Context) error { return nil }); errors.Code(err) != codes.PermissionDenied {
		t.Errorf("%v, want PermissionDenied", err)
	}
}

func TestAuthorizeConforms(t *testing.T) {
	server := interceptorstest.Sides(interceptors.ServerSide)
	interceptorstest.Run(t, interceptors.Authorize(anyone("/rpcscope.test.Conformance/*")), server)
	interceptorstest.Run(t, interceptors.Authorize(anyone("/a.B/*")), server, interceptorstest.Rejects(codes.PermissionDenied))
	interceptorstest.Run(t, interceptors.Authorize(allow("*")), server, interceptorstest.Rejects(codes.Unauthenticated))
}
