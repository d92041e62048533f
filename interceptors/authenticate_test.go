package interceptors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
	"github.com/rpcscope/rpcscope/propagation"
)

const secret = "correct-horse-battery-staple"

// ada is who has the secret.
var ada = propagation.Identity{UserID: "ada", TenantID: "acme", Roles: []string{"admin"}, Scopes: []string{"users.read"}}

// knows is an Authenticator that knows one token, and fails on others with err.
func knows(err error) interceptors.Authenticator {
	return interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
		if token == secret {
			return ada, nil
		}
		return propagation.Identity{}, err
	})
}

func authorized(ctx context.Context, values ...string) context.Context {
	for _, v := range values {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
	}
	return ctx
}

// onServer is on, with a propagator that tells who called.
func onServer(chain ...interceptors.Interceptor) func(*harness) {
	return func(h *harness) {
		h.servers = append(h.servers, interceptors.WithPropagator(propagation.New(propagation.WithRawUserID(), propagation.WithTrust(propagation.TrustAll))))
		on(interceptors.ServerSide, chain...)(h)
	}
}

// identities are those that handlers of all kinds see.
func identities() (*stub, <-chan propagation.Identity) {
	seen := make(chan propagation.Identity, 1)
	return stubOf(func(s stream) error {
		id, _ := propagation.IdentityFromContext(s.Context)
		seen <- id
		return nil
	}), seen
}

// asVerified is id as it is in the context of a handler that authentication let in.
func asVerified(id propagation.Identity) propagation.Identity {
	id, _ = propagation.IdentityFromContext(propagation.ContextWithIdentity(context.Background(), id))
	return id
}

var sameIdentity = cmp.Options{cmp.AllowUnexported(propagation.Identity{}), cmpopts.EquateEmpty()}

func TestAuthenticate(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			stub, seen := identities()
			h := start(t, stub, onServer(interceptors.Authenticate(knows(errors.New("no")))))
			if err := h.silent(authorized(h.ctx(), "Bearer "+secret), kind); err != nil {
				t.Fatal(err)
			}
			want := ada
			want.AuthMethod = "bearer"
			if diff := cmp.Diff(asVerified(want), <-seen, sameIdentity); diff != "" {
				t.Errorf("the handler's identity (-want +got):\n%s", diff)
			}
			h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
			for where, got := range h.told() {
				if got["user.id"] != "ada" || got["tenant.id"] != "acme" || got["rpcscope.rejected.reason"] != nil {
					t.Errorf("the %s has %v", where, got)
				}
			}
		})
	}
}

// told is what the server's span and log say of the one call there was.
func (h *harness) told() map[string]map[string]any {
	h.t.Helper()
	h.idle()
	records := recordsOf(h.t, h, "server call")
	if len(records) != 1 {
		h.t.Fatalf("%d records of the server, want one: %v", len(records), records)
	}
	return map[string]map[string]any{"span": attrs(h.span(trace.SpanKindServer).Attributes()), "log": records[0]}
}

// What a caller gets, and what the operator.
func TestAuthenticateRefuses(t *testing.T) {
	custom := errors.Define(codes.Unauthenticated, "idp.example", "SESSION_ENDED", "the session was ended")
	long := strings.Repeat("a", interceptors.MaxTokenBytes+1)
	tests := []struct {
		name   string
		header []string
		fails  error // of verify, on tokens that it does not know
		code   codes.Code
		reason string // of the error
		text   string // for the caller
		cause  string // for the operator
		as     string // rpcscope.rejected.reason
	}{
		{name: "no header", code: codes.Unauthenticated, reason: "NO_CREDENTIALS", text: "authentication is required", cause: "there is no authorization header", as: "unauthenticated"},
		{name: "another scheme", header: []string{"Basic YWxhZGRpbg=="}, code: codes.Unauthenticated, reason: "NO_CREDENTIALS", text: "authentication is required", cause: "another scheme than Bearer", as: "unauthenticated"},
		{name: "no scheme", header: []string{secret}, code: codes.Unauthenticated, reason: "NO_CREDENTIALS", text: "authentication is required", cause: "another scheme than Bearer", as: "unauthenticated"},
		{name: "empty header", header: []string{""}, code: codes.Unauthenticated, reason: "NO_CREDENTIALS", text: "authentication is required", cause: "another scheme than Bearer", as: "unauthenticated"},
		{name: "scheme only", header: []string{"Bearer"}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "is empty", as: "unauthenticated"},
		{name: "scheme that only begins so", header: []string{"BearerX " + secret}, code: codes.Unauthenticated, reason: "NO_CREDENTIALS", text: "authentication is required", cause: "another scheme than Bearer", as: "unauthenticated"},
		{name: "twice", header: []string{"Bearer " + secret, "Bearer " + secret}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "there are 2 authorization headers", as: "unauthenticated"},
		{name: "two in one", header: []string{"Bearer " + secret + ", Bearer " + secret}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "a space or a comma", as: "unauthenticated"},
		{name: "a space", header: []string{"Bearer correct horse"}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "a space or a comma", as: "unauthenticated"},
		{name: "too long", header: []string{"Bearer " + long}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "16385 bytes; want at most 16384", as: "unauthenticated"},
		{name: "plain error", header: []string{"Bearer other"}, fails: errors.New("row 7 of table tokens"), code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "row 7 of table tokens", as: "unauthenticated"},
		{name: "not found", header: []string{"Bearer other"}, fails: fmt.Errorf("tokens: %w", errNoRows), code: codes.Unauthenticated, reason: "UNAUTHENTICATED", text: "the credentials are not valid", cause: "tokens: sql: no rows", as: "unauthenticated"},
		{name: "typed", header: []string{"Bearer other"}, fails: custom, code: codes.Unauthenticated, reason: "SESSION_ENDED", text: "the session was ended", cause: "the session was ended", as: "unauthenticated"},
		{name: "expired", header: []string{"Bearer other"}, fails: interceptors.ErrIdentityExpired, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", text: "the credentials have expired", cause: "the credentials have expired", as: "identity_expired"},
		{name: "denied", header: []string{"Bearer other"}, fails: errors.PermissionDenied("the account is locked"), code: codes.PermissionDenied, text: "the account is locked", cause: "the account is locked", as: "permission_denied"},
		{name: "status", header: []string{"Bearer other"}, fails: status.Error(codes.ResourceExhausted, "too many guesses"), code: codes.ResourceExhausted, text: "too many guesses", cause: "too many guesses", as: "authenticator_failed"},
		{name: "unavailable", header: []string{"Bearer other"}, fails: errors.Unavailable("come again"), code: codes.Unavailable, text: "come again", cause: "come again", as: "authenticator_failed"},
		{name: "unreachable", header: []string{"Bearer other"}, fails: fmt.Errorf("keys: %w", &net.DNSError{Err: "no such host", Name: "idp.internal"}), code: codes.Unavailable, text: "service unavailable", cause: "idp.internal", as: "authenticator_failed"},
		{name: "too slow", header: []string{"Bearer other"}, fails: fmt.Errorf("keys: %w", context.DeadlineExceeded), code: codes.DeadlineExceeded, text: "deadline exceeded", cause: "keys: ", as: "authenticator_failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, kind := range kinds {
				h := start(t, stubOf(func(stream) error {
					t.Error("the handler was called")
					return nil
				}), onServer(interceptors.Authenticate(knows(test.fails))))
				err := h.silent(authorized(h.ctx(), test.header...), kind)
				_, reason := errors.Reason(err)
				if errors.Code(err) != test.code || reason != test.reason || errors.Message(err) != test.text {
					t.Errorf("%s: the caller got %v, %q, %q, want %v, %q, %q", kind, errors.Code(err), reason, errors.Message(err), test.code, test.reason, test.text)
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{test.as: 1})
				told := h.told()
				for where, got := range told {
					if got["rpcscope.rejected.reason"] != test.as || got["user.id"] != nil {
						t.Errorf("%s: the %s has %v, want reason %q and no user", kind, where, got, test.as)
					}
				}
				if text := fmt.Sprint(told["log"]["error.message"]); !strings.Contains(text, test.cause) {
					t.Errorf("%s: the log says %q, want %q in it", kind, text, test.cause)
				}
			}
		})
	}
}

var errNoRows = errors.New("sql: no rows in result set")

// Who has gone away is not refused.
func TestAuthenticateIsGivenUp(t *testing.T) {
	for _, kind := range kinds {
		asked := make(chan struct{})
		h := start(t, &stub{}, onServer(interceptors.Authenticate(interceptors.AuthenticatorFunc(
			func(ctx context.Context, _ *interceptors.Call) (propagation.Identity, error) {
				close(asked)
				<-ctx.Done()
				return propagation.Identity{}, fmt.Errorf("keys: %w", ctx.Err())
			}))))
		ctx, cancel := context.WithCancel(h.ctx())
		go func() {
			<-asked
			cancel()
		}()
		if err := h.silent(ctx, kind); errors.Code(err) != codes.Canceled {
			t.Errorf("%s: the caller got %v, want Canceled", kind, err)
		}
		h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
		for where, got := range h.told() {
			if got["rpc.response.status_code"] != "CANCELLED" || got["rpcscope.rejected.reason"] != nil {
				t.Errorf("%s: the %s has %v", kind, where, got)
			}
		}
	}
}

// The scheme is case-insensitive (RFC 9110, section 11.1), and what is around the
// token is not a part of it.
func TestBearerTokenScheme(t *testing.T) {
	for _, header := range []string{"Bearer " + secret, "bearer " + secret, "BEARER   " + secret, "Bearer " + secret + " "} {
		h := start(t, &stub{}, onServer(interceptors.Authenticate(knows(errors.New("no")))))
		if err := h.call(authorized(h.ctx(), header), interceptors.Unary); err != nil {
			t.Errorf("%q: %v", header, err)
		}
	}
}

func TestAuthMethod(t *testing.T) {
	own := func(method string) func(context.Context, string) (propagation.Identity, error) {
		return func(context.Context, string) (propagation.Identity, error) {
			return propagation.Identity{AuthMethod: method}, nil
		}
	}
	for want, a := range map[string]interceptors.Authenticator{
		"bearer": interceptors.BearerToken(own("")),
		"jwt":    interceptors.BearerToken(own("jwt")),
		"header": interceptors.HeaderValue("Authorization", "Bearer "+secret, propagation.Identity{}),
		"key":    interceptors.HeaderValue("authorization", "Bearer "+secret, propagation.Identity{AuthMethod: "key"}),
		"saml": interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
			return propagation.Identity{AuthMethod: "saml"}, nil
		}),
	} {
		stub, seen := identities()
		h := start(t, stub, onServer(interceptors.Authenticate(a)))
		if err := h.silent(authorized(h.ctx(), "Bearer "+secret), interceptors.Unary); err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if got := <-seen; got.AuthMethod != want || !got.Verified() {
			t.Errorf("the identity is %+v, want AuthMethod %q, verified", got, want)
		}
	}
}

// An Authenticator sees the call.
func TestAuthenticatorSeesTheCall(t *testing.T) {
	for _, kind := range kinds {
		h := start(t, &stub{}, onServer(interceptors.Authenticate(interceptors.AuthenticatorFunc(
			func(_ context.Context, call *interceptors.Call) (propagation.Identity, error) {
				if call.Service() != "grpc.testing.TestService" || call.Kind != kind || call.Metadata().Get("x-user")[0] != "ada" {
					t.Errorf("the call is %s, %s with %v", call.FullMethod, call.Kind, call.Metadata())
				}
				return propagation.Identity{}, nil
			}))))
		if err := h.call(metadata.AppendToOutgoingContext(h.ctx(), "x-user", "ada"), kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestAllowAnonymous(t *testing.T) {
	nobody := propagation.Identity{}
	asAda := asVerified(propagation.Identity{UserID: "ada", TenantID: "acme", AuthMethod: "bearer", Roles: ada.Roles, Scopes: ada.Scopes})
	tests := []struct {
		name   string
		header []string
		fails  error
		method string // that is anonymous
		want   propagation.Identity
		code   codes.Code
	}{
		{name: "without", method: unaryMethod, want: nobody},
		{name: "with", method: unaryMethod, header: []string{"Bearer " + secret}, want: asAda},
		{name: "with what is not valid", method: unaryMethod, header: []string{"Bearer old"}, fails: interceptors.ErrIdentityExpired, want: nobody},
		{name: "with what is malformed", method: unaryMethod, header: []string{"Bearer"}, want: nobody},
		{name: "while nobody can tell", method: unaryMethod, header: []string{"Bearer old"}, fails: errors.Unavailable("later"), want: nobody},
		{name: "another method", method: bidiMethod, code: codes.Unauthenticated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stub, seen := identities()
			h := start(t, stub, onServer(interceptors.Authenticate(knows(test.fails),
				interceptors.AllowAnonymous(interceptors.Methods("/x.Y/Z")), nil, interceptors.AllowAnonymous(interceptors.Methods(test.method)))))
			err := h.silent(authorized(h.ctx(), test.header...), interceptors.Unary)
			if errors.Code(err) != test.code {
				t.Fatalf("the caller got %v, want %v", err, test.code)
			}
			if test.code != codes.OK {
				return
			}
			if diff := cmp.Diff(test.want, <-seen, sameIdentity); diff != "" {
				t.Errorf("the handler's identity (-want +got):\n%s", diff)
			}
			h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
		})
	}
}

// Rule 20: what authentication says takes the place of what the caller says of
// itself, and without authentication that is not verified.
func TestRule20AuthenticationAndBaggage(t *testing.T) {
	for _, header := range []string{"", "Bearer " + secret} {
		stub, seen := identities()
		h := start(t, stub, onServer(interceptors.Authenticate(knows(nil), interceptors.AllowAnonymous(interceptors.Methods("*")))))
		ctx := propagation.ContextWithIdentity(h.ctx(), propagation.Identity{UserID: "eve", TenantID: "evil"}) // travels as baggage
		if err := h.silent(authorized(ctx, header), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		want := propagation.Identity{UserID: "eve", TenantID: "evil"}
		if header != "" {
			want = asVerified(propagation.Identity{UserID: "ada", TenantID: "acme", AuthMethod: "bearer", Roles: ada.Roles, Scopes: ada.Scopes})
		}
		if diff := cmp.Diff(want, <-seen, sameIdentity); diff != "" {
			t.Errorf("with authorization %q the handler's identity is (-want +got):\n%s", header, diff)
		}
	}
}

// expiring is an Authenticator for credentials that end at a time.
func expiring(at func() time.Time) interceptors.Authenticator {
	return interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
		return propagation.Identity{UserID: "ada", ExpiresAt: at()}, nil
	})
}

func TestExpiredIdentity(t *testing.T) {
	for _, kind := range kinds {
		synctest.Test(t, func(t *testing.T) {
			for after, want := range map[time.Duration]codes.Code{-time.Nanosecond: codes.Unauthenticated, 0: codes.Unauthenticated, time.Minute: codes.OK} {
				h := start(t, &stub{}, onServer(interceptors.Authenticate(expiring(func() time.Time { return time.Now().Add(after) }))))
				err := h.call(context.Background(), kind)
				if errors.Code(err) != want || want != codes.OK && !errors.Is(err, interceptors.ErrIdentityExpired) {
					t.Errorf("%s: credentials that end %v from now: %v, want %v", kind, after, err, want)
				}
				reasons := map[string]int64{}
				if want != codes.OK {
					reasons["identity_expired"] = 1
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", reasons)
			}
		})
	}
}

// A stream ends when the identity that it was opened with does, whatever its
// handler waits for and returns.
func TestIdentityExpiresInAStream(t *testing.T) {
	handlers := map[string]func(stream) error{
		"watching":   func(s stream) error { <-s.Done(); return s.Err() },
		"ignoring":   func(s stream) error { <-s.Done(); return nil },
		"with cause": func(s stream) error { <-s.Done(); return context.Cause(s) },
		"receiving":  func(s stream) error { return forever(s.recv) },
	}
	options := map[string][]interceptors.AuthOption{
		"deadline": nil,
		"rechecks": {interceptors.Recheck(time.Hour)},
	}
	for how, opts := range options {
		for doing, handle := range handlers {
			for _, kind := range kinds[1:] {
				if kind == interceptors.ServerStream && doing == "receiving" {
					continue // there is nothing to wait for
				}
				t.Run(how+"/"+doing+"/"+kind.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						begun := time.Now()
						h := start(t, stubOf(handle), onServer(interceptors.Authenticate(expiring(func() time.Time { return begun.Add(time.Minute) }), opts...)))
						c := &cell{h: h, t: t, kind: kind, ctx: context.Background()}
						cs, err := c.open()
						if err != nil {
							t.Fatal(err)
						}
						<-time.After(time.Minute - time.Nanosecond)
						synctest.Wait()
						if got := h.tally("rpcscope.server.rejected", "rpcscope.rejected.reason"); len(got) > 0 {
							t.Errorf("before the time: %v", got)
						}
						err = receive(cs)
						if !errors.Is(err, interceptors.ErrIdentityExpired) || errors.Code(err) != codes.Unauthenticated {
							t.Errorf("the caller got %v, want %v", err, interceptors.ErrIdentityExpired)
						}
						if d := time.Since(begun); d < time.Minute || d > time.Minute+time.Millisecond {
							t.Errorf("it took %v, want a minute", d)
						}
						h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"identity_expired": 1})
						for where, got := range h.told() {
							if got["rpc.response.status_code"] != "UNAUTHENTICATED" || got["rpcscope.rejected.reason"] != "identity_expired" || got["user.id"] != "ada" {
								t.Errorf("the %s has %v", where, got)
							}
						}
					})
				})
			}
		}
	}
}

// forever does something until it fails.
func forever(do func() error) error {
	for {
		if err := do(); err != nil {
			return err
		}
	}
}

// What the handler called has the same deadline, and may have noticed first.
func TestIdentityExpiresInADependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		h := start(t, stubOf(func(s stream) error {
			deadline, _ := s.Deadline()
			<-time.After(time.Until(deadline))
			return errors.DeadlineExceeded("the database was too slow")
		}), onServer(interceptors.Authenticate(expiring(func() time.Time { return begun.Add(time.Minute) }))))
		if err := h.silent(context.Background(), interceptors.BidiStream); !errors.Is(err, interceptors.ErrIdentityExpired) {
			t.Errorf("the caller got %v, want %v", err, interceptors.ErrIdentityExpired)
		}
		h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"identity_expired": 1})
	})
}

// The caller's own deadline, when it comes first, is no expiry; what fails for
// another reason at that time is not either.
func TestNoExpiry(t *testing.T) {
	tests := map[string]struct {
		deadline time.Duration // of the caller
		handle   func(stream) error
		want     codes.Code
	}{
		"caller's deadline": {30 * time.Second, func(s stream) error { <-s.Done(); return s.Err() }, codes.DeadlineExceeded},
		"failed before":     {time.Hour, func(stream) error { return errors.NotFound("no such user") }, codes.NotFound},
		"own time limit":    {time.Hour, func(stream) error { return context.DeadlineExceeded }, codes.DeadlineExceeded},
		"OK":                {time.Hour, func(stream) error { return nil }, codes.OK},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, stubOf(test.handle), onServer(interceptors.Authenticate(expiring(func() time.Time { return time.Now().Add(time.Minute) }))))
				ctx, cancel := context.WithTimeout(context.Background(), test.deadline)
				defer cancel()
				if err := h.silent(ctx, interceptors.BidiStream); errors.Code(err) != test.want {
					t.Errorf("the caller got %v, want %v", err, test.want)
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
			})
		})
	}
}

// A unary call that has begun is let finish.
func TestIdentityExpiresInAUnaryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, opts := range [][]interceptors.AuthOption{nil, {interceptors.Recheck(time.Second)}} {
			h := start(t, pausing(func() { <-time.After(time.Hour) }), onServer(interceptors.Authenticate(expiring(func() time.Time { return time.Now().Add(time.Minute) }), opts...)))
			if err := h.call(context.Background(), interceptors.Unary); err != nil {
				t.Errorf("the caller got %v, want OK", err)
			}
		}
	})
}

func TestServerInterceptorsOnClients(t *testing.T) {
	for name, i := range map[string]interceptors.Interceptor{
		"Authenticate": interceptors.Authenticate(knows(nil), interceptors.AllowAnonymous(interceptors.Methods("*"))),
		"Authorize":    interceptors.Authorize(interceptors.Anyone("*")),
	} {
		for _, kind := range kinds {
			h := start(t, &stub{}, on(interceptors.ClientSide, i))
			err := h.call(h.ctx(), kind)
			if errors.Code(err) != codes.Internal || !strings.Contains(err.Error(), name+" is for servers: give it to ServerOptions") {
				t.Errorf("%s, %s: the caller got %v, want Internal", name, kind, err)
			}
		}
	}
}

// Mistakes that would let everybody in, or nobody, do not survive the start.
func TestAuthenticationMistakes(t *testing.T) {
	nobody := propagation.Identity{}
	for want, mistake := range map[string]func(){
		"Authenticate: the Authenticator is nil":         func() { interceptors.Authenticate(nil) },
		"Authenticate: the Authenticator is nil; want":   func() { interceptors.Authenticate(interceptors.AuthenticatorFunc(nil)) },
		"FirstOf: no Authenticator given":                func() { interceptors.FirstOf() },
		"FirstOf: no Authenticator given, which":         func() { interceptors.FirstOf(nil, interceptors.AuthenticatorFunc(nil)) },
		"BearerToken: verify is nil":                     func() { interceptors.BearerToken(nil) },
		"PeerCertificate: the function is nil":           func() { interceptors.PeerCertificate(nil) },
		"AllowAnonymous: the Matcher is nil":             func() { interceptors.AllowAnonymous(nil) },
		"Recheck: the interval is 0s":                    func() { interceptors.Recheck(0) },
		"Recheck: the interval is -1s":                   func() { interceptors.Recheck(-time.Second) },
		`HeaderValue: the value of "x-api-key" is empty`: func() { interceptors.HeaderValue("X-API-Key", "", nobody) },
		`HeaderValue: "" can be no header`:               func() { interceptors.HeaderValue("", "42", nobody) },
		`HeaderValue: "x api" can be no header`:          func() { interceptors.HeaderValue("x api", "42", nobody) },
		`HeaderValue: ":path" can be no header`:          func() { interceptors.HeaderValue(":path", "42", nobody) },
		`HeaderValue: "grpc-timeout" can be no header`:   func() { interceptors.HeaderValue("grpc-timeout", "42", nobody) },
	} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "interceptors: "+want) || !strings.Contains(text, "want") && !strings.Contains(text, "refuse every call") {
					t.Errorf("recovered %q, want a panic that begins with %q and says what is wanted", text, want)
				}
			}()
			mistake()
		}()
	}
}

// The original's authorization: 42.
func TestHeaderValue(t *testing.T) {
	tests := []struct {
		header, value string
		sent          []string
		code          codes.Code
		reason        string
	}{
		{"authorization", "42", []string{"42"}, codes.OK, ""},
		{"Authorization", "42", []string{"42"}, codes.OK, ""},
		{"authorization", "42", []string{"43"}, codes.Unauthenticated, "UNAUTHENTICATED"},
		{"authorization", "42", []string{"4"}, codes.Unauthenticated, "UNAUTHENTICATED"},
		{"authorization", "42", []string{"421"}, codes.Unauthenticated, "UNAUTHENTICATED"},
		{"authorization", "42", []string{""}, codes.Unauthenticated, "UNAUTHENTICATED"},
		{"authorization", "42", nil, codes.Unauthenticated, "NO_CREDENTIALS"},
		{"authorization", "42", []string{"42", "42"}, codes.Unauthenticated, "UNAUTHENTICATED"},
		{"x-api-key", "42", []string{"42"}, codes.Unauthenticated, "NO_CREDENTIALS"},
	}
	for _, test := range tests {
		for _, kind := range kinds {
			stub, seen := identities()
			h := start(t, stub, onServer(interceptors.Authenticate(interceptors.HeaderValue(test.header, test.value, propagation.Identity{UserID: "ada"}))))
			err := h.silent(authorized(h.ctx(), test.sent...), kind)
			if _, reason := errors.Reason(err); errors.Code(err) != test.code || reason != test.reason {
				t.Errorf("%s: %s %q, sent %q: %v, want %v, %s", kind, test.header, test.value, test.sent, err, test.code, test.reason)
			}
			if err == nil {
				if id := <-seen; id.UserID != "ada" || !id.Verified() {
					t.Errorf("%s: the identity is %+v", kind, id)
				}
			}
		}
	}
}

func TestFirstOf(t *testing.T) {
	fails := func(err error) interceptors.Authenticator {
		return interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
			return propagation.Identity{}, err
		})
	}
	is := func(id propagation.Identity) interceptors.Authenticator {
		return interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) { return id, nil })
	}
	var (
		none    = fails(interceptors.ErrNoCredentials)
		invalid = fails(errors.New("no"))
		down    = fails(errors.Unavailable("later"))
		bob     = propagation.Identity{UserID: "bob"}
		past    = propagation.Identity{UserID: "old", ExpiresAt: time.Unix(1, 0)}
	)
	for name, test := range map[string]struct {
		of     []interceptors.Authenticator
		user   string
		code   codes.Code
		reason string
	}{
		"the first":              {of: []interceptors.Authenticator{is(bob), is(ada)}, user: "bob"},
		"after none":             {of: []interceptors.Authenticator{none, nil, is(ada)}, user: "ada"},
		"after a refusal":        {of: []interceptors.Authenticator{invalid, is(ada)}, user: "ada"},
		"after an outage":        {of: []interceptors.Authenticator{down, is(ada)}, user: "ada"},
		"after an expired one":   {of: []interceptors.Authenticator{is(past), is(ada)}, user: "ada"},
		"none":                   {of: []interceptors.Authenticator{none, none}, code: codes.Unauthenticated, reason: "NO_CREDENTIALS"},
		"none and invalid":       {of: []interceptors.Authenticator{none, invalid, none}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED"},
		"expired":                {of: []interceptors.Authenticator{none, is(past)}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED"},
		"an outage and invalid":  {of: []interceptors.Authenticator{invalid, down, none}, code: codes.Unavailable},
		"the first of the worst": {of: []interceptors.Authenticator{invalid, is(past)}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED"},
	} {
		id, err := interceptors.FirstOf(test.of...).Authenticate(context.Background(), &interceptors.Call{})
		if _, reason := errors.Reason(err); id.UserID != test.user || errors.Code(err) != test.code || reason != test.reason {
			t.Errorf("%s: %q, %v, want %q, %v %s", name, id.UserID, err, test.user, test.code, test.reason)
		}
	}
}

// Rule 29: a token that verify quotes, whole or in part, is in no span, metric, log
// record or error, not even in the details of an error.
func TestRule29TokenOfAuthenticate(t *testing.T) {
	const head, body, sign = "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJhZGEiLCJyb2xlIjoiYWRtaW4ifQ", "c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	const token = head + "." + body + "." + sign
	quoting := map[string]func(token string) error{
		"plain":  func(token string) error { return fmt.Errorf("no row for %q", token) },
		"a part": func(string) error { return fmt.Errorf("claims %s: no subject", body) },
		"typed":  func(token string) error { return errors.Unauthenticated("token %s is unknown", token) },
		"cause": func(token string) error {
			return errors.Unavailable("later").WithCause(errors.New("GET /introspect?token=" + token))
		},
		"details": func(token string) error {
			return errors.Unauthenticated("unknown").With("tried", token).WithRetry(time.Second)
		},
		"reason":  func(token string) error { return errors.Unauthenticated("unknown").WithReason("idp", token) },
		"status":  func(token string) error { return status.Error(codes.Unauthenticated, "bad "+token) },
		"wrapped": func(token string) error { return fmt.Errorf("introspect %s: %w", token, errors.Unavailable("later")) },
		"network": func(token string) error { return fmt.Errorf("introspect %s: %w", token, context.DeadlineExceeded) },
		"joined":  func(token string) error { return errors.Join(errors.New(token), errors.PermissionDenied("locked")) },
		"panic":   func(token string) error { return panics(fmt.Errorf("cannot parse %q", token)) },
		"panic, value": func(token string) error {
			return panics(struct{ segments []string }{strings.Split(token, ".")})
		},
		"panic, typed": func(token string) error { return panics(errors.Unavailable("%s: later", token).With("tried", token)) },
	}
	for how, quote := range quoting {
		for _, opts := range [][]interceptors.AuthOption{nil, {interceptors.AllowAnonymous(interceptors.Methods("*"))}} {
			t.Run(fmt.Sprintf("%s/%d", how, len(opts)), func(t *testing.T) {
				var plain atomic.Pointer[error]
				a := interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
					err := error(errors.Internal(errors.New("panic")))
					plain.Store(&err)
					err = quote(token)
					plain.Store(&err)
					return propagation.Identity{}, err
				})
				h := start(t, &stub{}, onServer(interceptors.Authenticate(interceptors.FirstOf(a, interceptors.HeaderValue("x-api-key", secret, ada)), opts...)))
				var told strings.Builder
				for _, kind := range kinds {
					err := h.call(metadata.AppendToOutgoingContext(authorized(h.ctx(), "Bearer "+token), "x-api-key", "x"+secret), kind)
					if code := errors.Code(*plain.Load()); opts == nil && errors.Code(err) != code && (code != codes.Unknown || errors.Code(err) != codes.Unauthenticated) {
						t.Errorf("%s: the caller got %v, want the code %v", kind, err, code)
					}
					if err != nil {
						st, _ := status.FromError(err)
						fmt.Fprintf(&told, "%v %+v %v %v\n", err, err, errors.Message(err), st.Proto())
					}
				}
				h.idle()
				h.eventually("spans to end", func() bool { return len(h.spans.Ended()) == len(h.spans.Started()) })
				points := h.rec.Collect()
				recorded, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(h.spans.Ended()))
				if err != nil {
					t.Fatal(err)
				}
				for where, text := range map[string]string{
					"a span": string(recorded), "a metric": fmt.Sprintf("%+v", points), "the log": h.logs.String(), "an error": told.String(),
				} {
					for _, s := range []string{head, body, sign, secret} {
						if at := strings.Index(text, s); at >= 0 {
							t.Errorf("%s holds %s: %s", where, s, text[max(at-300, 0):at])
						}
					}
				}
				if strings.HasPrefix(how, "panic") && !strings.Contains(string(recorded), "interceptors_test.panics(") {
					t.Errorf("the span does not say where it panicked: %s", recorded)
				}
				if opts == nil && how != "reason" && how != "details" && !strings.Contains(h.logs.String(), "[redacted]") {
					t.Errorf("the log does not say that something is missing: %s", h.logs)
				}
			})
		}
	}
}

// A short token is taken out where it is quoted, and words that have it in them
// stay: with the token "no" they are most.
func TestRule29ShortToken(t *testing.T) {
	for _, test := range []struct{ token, text, want string }{
		{"a", "no session for a, nor for 'a'; ask a database at home", "no session for [redacted], nor for '[redacted]'; ask [redacted] database at home"},
		{"ada", "token=ada is not adamant, Canada or ada", "token=[redacted] is not adamant, Canada or [redacted]"},
		{"7", "7 of 77: code=7", "[redacted] of 77: code=[redacted]"},
		{"é1", "é1 Cité1", "[redacted] Cité1"},
		{"==", "want ==, got a==b", "want [redacted], got a==b"},
		{"adas", "adas is not in Canadas", "[redacted] is not in Can[redacted]"}, // no short one
	} {
		for how, err := range map[string]error{
			"plain": errors.New(test.text),
			"typed": errors.Unauthenticated("%s", test.text).WithCause(errors.New(test.text)),
		} {
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+test.token))
			_, got := interceptors.BearerToken(func(context.Context, string) (propagation.Identity, error) {
				return propagation.Identity{}, err
			}).Authenticate(ctx, &interceptors.Call{})
			want := test.want
			if how == "typed" {
				want = "Unauthenticated: " + want + ": Unauthenticated: " + want + ": " + want // the whole of it is the cause
			}
			if fmt.Sprint(got) != want || how == "typed" && errors.Message(got) != test.want {
				t.Errorf("%s, token %q: got %q and %q to strangers, want %q", how, test.token, got, errors.Message(got), want)
			}
		}
	}
}

//go:noinline
func panics(value any) error { panic(value) }

// A panic of verify that does not quote the token goes on as it is.
func TestPanicOfVerifyStays(t *testing.T) {
	for _, want := range []any{"no database", fs.ErrNotExist, []int{1}} {
		a := interceptors.BearerToken(func(context.Context, string) (propagation.Identity, error) { panic(want) })
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+secret))
		func() {
			defer func() {
				if got := recover(); !reflect.DeepEqual(got, want) {
					t.Errorf("panicked with %#v, want %#v", got, want)
				}
			}()
			_, err := a.Authenticate(ctx, &interceptors.Call{})
			t.Errorf("it returned %v, want a panic", err)
		}()
	}
}

// What verify says without quoting the token arrives as it is.
func TestErrorOfVerifyStays(t *testing.T) {
	fails := errors.Unavailable("later").With("zone", "b").WithRetry(time.Second).WithCause(errors.New("introspection: 503"))
	h := start(t, &stub{}, onServer(interceptors.Authenticate(knows(fails))))
	err := h.call(authorized(h.ctx(), "Bearer other"), interceptors.Unary)
	e, _ := errors.AsType[*errors.Error](err)
	if wait, _ := errors.RetryAfter(err); e.Code() != codes.Unavailable || e.Metadata()["zone"] != "b" || wait != time.Second {
		t.Errorf("the caller got %+v, want what verify returned", err)
	}
}

func TestAuthenticateConforms(t *testing.T) {
	later := time.Now().Add(time.Hour)
	a := interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
		if token != secret {
			return propagation.Identity{}, errors.New("unknown token")
		}
		return propagation.Identity{UserID: "ada", ExpiresAt: later}, nil
	})
	with := func(header string) interceptorstest.Option {
		return interceptorstest.WithContext(func(ctx context.Context) context.Context { return authorized(ctx, header) })
	}
	server := interceptorstest.Sides(interceptors.ServerSide)
	t.Run("accepted", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Authenticate(a), server, with("Bearer "+secret))
	})
	t.Run("rechecked", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Authenticate(a, interceptors.Recheck(time.Millisecond)), server, with("Bearer "+secret))
	})
	t.Run("anonymous", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Authenticate(a, interceptors.AllowAnonymous(interceptors.Methods("*"))), server)
	})
	t.Run("refused", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Authenticate(a), server, with("Bearer other"), interceptorstest.Rejects(codes.Unauthenticated))
	})
}

// What an accepted unary call costs beside the chain's own closure.
func TestAuthenticateAllocations(t *testing.T) {
	incoming := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+secret))
	next := func(context.Context) error { return nil }
	verified := propagation.ContextWithIdentity(context.Background(), ada)
	for _, test := range []struct {
		name string
		i    interceptors.Interceptor
		ctx  context.Context
		want float64
	}{
		{"BearerToken", interceptors.Authenticate(knows(nil)), incoming, 3},
		{"HeaderValue", interceptors.Authenticate(interceptors.HeaderValue("authorization", "Bearer "+secret, ada)), incoming, 3},
		{"Recheck", interceptors.Authenticate(knows(nil), interceptors.Recheck(time.Hour)), incoming, 3},
		{"Authorize", interceptors.Authorize(interceptors.Anyone("/a.B/*"), interceptors.Allow("/grpc.testing.TestService/*", interceptors.Role("admin"), interceptors.AnyOf(interceptors.Scope("x"), interceptors.Scope("users.read")))), verified, 0},
	} {
		call := &interceptors.Call{FullMethod: unaryMethod}
		if got := testing.AllocsPerRun(100, func() {
			if err := test.i(test.ctx, call, next); err != nil {
				t.Fatal(err)
			}
		}); got > test.want {
			t.Errorf("%s: %v allocations, want at most %v", test.name, got, test.want)
		}
	}
}
