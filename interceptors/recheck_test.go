package interceptors_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// answers is an Authenticator that answers with them in turn, and with the last
// one from then on.
type answers struct {
	each  []answer
	asked atomic.Int64
}

type answer struct {
	id  propagation.Identity
	err error
	do  func(context.Context, *interceptors.Call) // nil: nothing
}

func (a *answers) Authenticate(ctx context.Context, call *interceptors.Call) (propagation.Identity, error) {
	n := int(a.asked.Add(1))
	one := a.each[min(n, len(a.each))-1]
	if one.do != nil {
		one.do(ctx, call)
	}
	return one.id, one.err
}

// A stream lasts while the Authenticator, asked again and again, does not object.
func TestRecheck(t *testing.T) {
	const every = 10 * time.Minute
	begun := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every synctest bubble
	user := propagation.Identity{UserID: "ada", TenantID: "acme", Roles: []string{"admin", "auditor"}, Scopes: []string{"read", "write"}}
	with := func(change func(*propagation.Identity)) answer {
		id := user
		change(&id)
		return answer{id: id}
	}
	until := func(after time.Duration) answer {
		return with(func(id *propagation.Identity) { id.ExpiresAt = begun.Add(after) })
	}
	ok, changed := answer{id: user}, "UNAUTHENTICATED"
	tests := []struct {
		name     string
		each     []answer
		code     codes.Code // OK: it lasts for three hours
		reason   string
		from, to time.Duration // when it ends
		failures any           // rpcscope.auth.rechecks_failed
		rejected string
	}{
		{name: "nothing to object", each: []answer{ok}},
		{name: "no more", each: []answer{ok, ok, {err: errors.New("revoked")}}, code: codes.Unauthenticated, reason: "UNAUTHENTICATED", from: 18 * time.Minute, to: 2 * every, rejected: "unauthenticated"},
		{name: "locked", each: []answer{ok, {err: errors.PermissionDenied("locked")}}, code: codes.PermissionDenied, from: 9 * time.Minute, to: every, rejected: "permission_denied"},
		{name: "status", each: []answer{ok, {err: status.Error(codes.Unauthenticated, "no")}}, code: codes.Unauthenticated, from: 9 * time.Minute, to: every, rejected: "unauthenticated"},
		{name: "another user", each: []answer{ok, with(func(id *propagation.Identity) { id.UserID = "eve" })}, code: codes.Unauthenticated, reason: changed, from: 9 * time.Minute, to: every, rejected: "unauthenticated"},
		{name: "another tenant", each: []answer{ok, with(func(id *propagation.Identity) { id.TenantID = "evil" })}, code: codes.Unauthenticated, reason: changed, from: 9 * time.Minute, to: every, rejected: "unauthenticated"},
		{name: "a role less", each: []answer{ok, with(func(id *propagation.Identity) { id.Roles = id.Roles[1:] })}, code: codes.Unauthenticated, reason: changed, from: 9 * time.Minute, to: every, rejected: "unauthenticated"},
		{name: "a scope less", each: []answer{ok, with(func(id *propagation.Identity) { id.Scopes = nil })}, code: codes.Unauthenticated, reason: changed, from: 9 * time.Minute, to: every, rejected: "unauthenticated"},
		{name: "more", each: []answer{ok, with(func(id *propagation.Identity) {
			id.Roles = append(slices.Clone(id.Roles), "owner")
			slices.Reverse(id.Roles)
		})}},
		{name: "an outage", each: []answer{ok, {err: errors.Unavailable("later")}, ok}, failures: 1.0},
		{name: "an outage that lasts", each: []answer{until(40 * time.Minute), {err: errors.Unavailable("later")}}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", from: 40 * time.Minute, to: 40 * time.Minute, failures: 4.0, rejected: "identity_expired"},
		{name: "expires", each: []answer{until(5 * time.Minute)}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", from: 5 * time.Minute, to: 5 * time.Minute, rejected: "identity_expired"},
		{name: "expires later than it did", each: []answer{until(15 * time.Minute), until(35 * time.Minute)}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", from: 35 * time.Minute, to: 35 * time.Minute, rejected: "identity_expired"},
		{name: "expires earlier", each: []answer{until(time.Hour), until(12 * time.Minute)}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", from: 12 * time.Minute, to: 12 * time.Minute, rejected: "identity_expired"},
		{name: "has expired", each: []answer{ok, until(time.Minute)}, code: codes.Unauthenticated, reason: "IDENTITY_EXPIRED", from: 9 * time.Minute, to: every, rejected: "identity_expired"},
		{name: "panics", each: []answer{ok, {do: func(context.Context, *interceptors.Call) { panic("authenticator") }}, ok}, failures: 1.0},
		{name: "does not answer", each: []answer{ok, {err: context.DeadlineExceeded, do: func(ctx context.Context, _ *interceptors.Call) { <-ctx.Done() }}, ok}, failures: 1.0},
	}
	for _, test := range tests {
		for _, kind := range kinds[1:] {
			t.Run(test.name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					said := handled(t)
					a := &answers{each: test.each}
					h := start(t, stubOf(func(s stream) error { <-s.Done(); return s.Err() }), onServer(interceptors.Authenticate(a, interceptors.Recheck(every))))
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Hour)
					defer cancel()
					err := h.silent(ctx, kind)
					after := time.Since(begun)
					want, from, to := test.code, test.from, test.to
					if want == codes.OK {
						want, from, to = codes.DeadlineExceeded, 3*time.Hour, 3*time.Hour
					}
					if _, reason := errors.Reason(err); errors.Code(err) != want || reason != test.reason || after < from || after > to+time.Millisecond {
						t.Errorf("after %v the caller got %v, want %v %q after %v to %v", after, err, want, test.reason, from, to)
					}
					reasons := map[string]int64{}
					if test.rejected != "" {
						reasons[test.rejected] = 1
					}
					h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", reasons)
					record := h.told()["log"]
					if record["rpcscope.auth.rechecks_failed"] != test.failures || test.rejected != "" && record["rpcscope.rejected.reason"] != test.rejected {
						t.Errorf("the log has %v, want %v failures, reason %q", record, test.failures, test.rejected)
					}
					if got := strings.Join(said(), "\n"); strings.Contains(got, "the Authenticator panicked for /grpc.testing") != (test.name == "panics") {
						t.Errorf("OpenTelemetry's error handler was told %q", got)
					}
					if test.code == codes.OK && a.asked.Load() < 17 {
						t.Errorf("asked %d times in three hours", a.asked.Load())
					}
				})
			})
		}
	}
}

// The identity that the context of a stream has is the one that was last answered,
// also in contexts that were derived from it before: with it go the calls that the
// handler makes.
func TestRecheckRenewsTheIdentity(t *testing.T) {
	for _, kind := range kinds[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
					return propagation.Identity{UserID: "ada", Roles: []string{"admin"}, ExpiresAt: time.Now().Add(15 * time.Minute)}, nil
				})
				p := propagation.New()
				h := start(t, stubOf(func(s stream) error {
					begun, _ := propagation.IdentityFromContext(s)
					derived, cancel := context.WithCancel(context.WithValue(s, t, "value"))
					defer cancel()
					for range 3 {
						<-time.After(12 * time.Minute)
						for _, ctx := range []context.Context{s, derived} {
							id, _ := propagation.IdentityFromContext(ctx)
							if left := time.Until(id.ExpiresAt); !id.Verified() || left <= 0 || left > 15*time.Minute || !id.ExpiresAt.After(begun.ExpiresAt) || id.UserID != "ada" || len(id.Roles) != 1 {
								t.Errorf("the identity is %+v, verified: %v, with %v left, after a renewal", id, id.Verified(), left)
							}
							sent := otelpropagation.MapCarrier{}
							p.Inject(ctx, sent)
							if got, want := sent["baggage"], "user.id=ada"; got != want {
								t.Errorf("a call that the handler makes has the baggage %q, want %q", got, want)
							}
						}
					}
					if derived.Value(t) != "value" {
						t.Error("the context has lost a value")
					}
					return s.Err()
				}), onServer(interceptors.Authenticate(a, interceptors.Recheck(10*time.Minute))))
				if err := h.silent(context.Background(), kind); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// handled is what OpenTelemetry's error handler is told until the test ends.
func handled(t *testing.T) func() []string {
	var mu sync.Mutex
	var said []string
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, err.Error())
	}))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
}

// A check that is running when the stream ends is given up, and none comes after
// (synctest fails where a goroutine is left).
func TestRecheckEndsWithTheStream(t *testing.T) {
	for _, kind := range kinds[1:] {
		synctest.Test(t, func(t *testing.T) {
			running := make(chan struct{})
			var gone atomic.Bool
			a := &answers{each: []answer{{}, {err: errors.New("no answer"), do: func(ctx context.Context, _ *interceptors.Call) {
				close(running)
				<-ctx.Done()
				gone.Store(true)
			}}}}
			h := start(t, stubOf(func(stream) error { <-running; return nil }), onServer(interceptors.Authenticate(a, interceptors.Recheck(time.Minute)),
				func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) }))
			if err := h.silent(context.Background(), kind); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if !gone.Load() {
				t.Errorf("%s: the check outlived the stream", kind)
			}
			<-time.After(time.Hour)
			if n := a.asked.Load(); n != 2 {
				t.Errorf("%s: asked %d times, want 2", kind, n)
			}
		})
	}
}

// Interceptors further inside use the call while it is asked about (run with the
// race detector), and the Authenticator sees it as it began.
func TestRecheckSeesTheCall(t *testing.T) {
	asked := make(chan struct{}, 100)
	a := interceptors.AuthenticatorFunc(func(ctx context.Context, call *interceptors.Call) (propagation.Identity, error) {
		if got := call.Metadata().Get("authorization"); len(got) != 1 || call.FullMethod != bidiMethod || call.Kind != interceptors.BidiStream || call.Start().IsZero() {
			t.Errorf("the call is %s, %s, since %v, with %v", call.FullMethod, call.Kind, call.Start(), call.Metadata())
		}
		if _, ok := propagation.IdentityFromContext(ctx); ok {
			t.Error("the Authenticator finds its own answer")
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return propagation.Identity{UserID: "ada"}, nil
	})
	h := start(t, stubOf(func(stream) error { return nil }), onServer(interceptors.Authenticate(a, interceptors.Recheck(time.Microsecond)),
		func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			for range 50 {
				<-asked
				if id, ok := propagation.IdentityFromContext(ctx); !ok || id.UserID != "ada" {
					t.Errorf("the identity is %+v", id)
				}
				call.AddAttributes()
				call.OnSend(func(any) error { return nil })
				if err := next(context.WithValue(ctx, t, 1)); err != nil {
					return err
				}
			}
			return nil
		}))
	if err := h.silent(authorized(h.ctx(), "Bearer x"), interceptors.BidiStream); err != nil {
		t.Error(err)
	}
}
