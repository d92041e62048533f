package service_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

const (
	adminEmail = "root@example.com"
	secret     = "correct horse battery"
)

// guarded is a users service as it is in production, with an admin.
type guarded struct {
	users    usersv1.UserServiceClient
	sessions usersv1.SessionServiceClient
	recorder *telemetrytest.Recorder
}

func startGuarded(t *testing.T, cfg service.Config) *guarded {
	t.Helper()
	r := telemetrytest.New(t)
	cfg.Observe = observe.Through(r.Telemetry(), nil)
	cfg.Admin, cfg.AdminPassword, cfg.Sessions.Cost = adminEmail, secret, 10
	address, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, cfg) })
	// The client has typed errors of the suite, and no telemetry: what is recorded is the server's.
	conn, err := grpc.NewClient(address, append(interceptors.DialOptions(interceptors.WithoutTracing(), interceptors.WithoutMetrics(), interceptors.WithoutLogging()),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := service.Check(timeout(t), address); err != nil { // without a token
		t.Fatal(err)
	}
	return &guarded{usersv1.NewUserServiceClient(conn), usersv1.NewSessionServiceClient(conn), r}
}

// as returns the context of calls with a token.
func as(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+token)
}

func (g *guarded) signUp(t *testing.T, name string) *usersv1.Session {
	t.Helper()
	reply, err := g.sessions.SignUp(timeout(t), &usersv1.SignUpRequest{User: newUser(name), Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetSession()
}

func (g *guarded) logIn(t *testing.T, email string) *usersv1.Session {
	t.Helper()
	reply, err := g.sessions.LogIn(timeout(t), &usersv1.LogInRequest{Email: email, Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetSession()
}

// Who may call what: every method of both services.
func TestGuard(t *testing.T) {
	g := startGuarded(t, service.Config{})
	ada := g.signUp(t, "Ada")
	calls := map[string]func(context.Context) error{
		"SessionService/SignUp": func(ctx context.Context) error {
			_, err := g.sessions.SignUp(ctx, &usersv1.SignUpRequest{})
			return err
		},
		"SessionService/LogIn": func(ctx context.Context) error {
			_, err := g.sessions.LogIn(ctx, &usersv1.LogInRequest{Email: "ada@example.com", Password: secret})
			return err
		},
		"SessionService/GetSession": func(ctx context.Context) error {
			_, err := g.sessions.GetSession(ctx, &usersv1.GetSessionRequest{})
			return err
		},
		"SessionService/LogOut": func(ctx context.Context) error {
			return nil // see TestSessions
		},
		"UserService/CreateUser": func(ctx context.Context) error {
			_, err := g.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")})
			return err
		},
		"UserService/GetUsers": func(ctx context.Context) error {
			stream, err := g.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: []string{ada.GetUser().GetId()}})
			return firstOf(t, stream, err)
		},
		"UserService/ListUsers": func(ctx context.Context) error {
			stream, err := g.users.ListUsers(ctx, &usersv1.ListUsersRequest{})
			return firstOf(t, stream, err)
		},
		"UserService/DeleteUser": func(ctx context.Context) error {
			_, err := g.users.DeleteUser(ctx, &usersv1.DeleteUserRequest{Id: "u-0"})
			return err
		},
		"UserService/ListEvents": func(ctx context.Context) error {
			stream, err := g.users.ListEvents(ctx, &usersv1.ListEventsRequest{Id: "u-0"})
			return firstOf(t, stream, err)
		},
		"UserService/ImportUsers": func(ctx context.Context) error {
			stream, err := g.users.ImportUsers(ctx)
			if err == nil {
				_, err = stream.CloseAndRecv()
			}
			return err
		},
		"UserService/WatchUsers": func(ctx context.Context) error {
			stream, err := g.users.WatchUsers(ctx)
			if err == nil {
				err = stream.Send(subscribe("", 0))
			}
			if err == nil || err == io.EOF {
				_, err = stream.Recv()
			}
			return err
		},
	}
	var methods int
	for _, desc := range []grpc.ServiceDesc{usersv1.UserService_ServiceDesc, usersv1.SessionService_ServiceDesc} {
		methods += len(desc.Methods) + len(desc.Streams)
	}
	if len(calls) != methods {
		t.Fatalf("got %d methods here, want all %d", len(calls), methods)
	}
	const (
		unauthenticated = "Unauthenticated NO_CREDENTIALS"
		over            = "Unauthenticated NO_SESSION"
		denied          = "PermissionDenied PERMISSION_DENIED"
		invalid         = "InvalidArgument USER_INVALID"
		taken           = "AlreadyExists USER_EMAIL_TAKEN"
		nobody          = "NotFound USER_NOT_FOUND"
		noEvents        = "NotFound NO_EVENTS"
	)
	want := map[string]map[string]string{
		"nobody": {"SessionService/SignUp": invalid, "SessionService/GetSession": unauthenticated, "UserService/CreateUser": unauthenticated, "UserService/GetUsers": unauthenticated,
			"UserService/ListUsers": unauthenticated, "UserService/DeleteUser": unauthenticated, "UserService/ListEvents": unauthenticated,
			"UserService/ImportUsers": unauthenticated, "UserService/WatchUsers": unauthenticated},
		"a stranger": {"SessionService/SignUp": invalid, "SessionService/GetSession": over, "UserService/CreateUser": over, "UserService/GetUsers": over,
			"UserService/ListUsers": over, "UserService/DeleteUser": over, "UserService/ListEvents": over, "UserService/ImportUsers": over, "UserService/WatchUsers": over},
		"a user": {"SessionService/SignUp": invalid, "UserService/CreateUser": taken, "UserService/ListUsers": denied, "UserService/DeleteUser": denied, "UserService/ListEvents": denied},
		"admin":  {"SessionService/SignUp": invalid, "UserService/CreateUser": taken, "UserService/DeleteUser": nobody, "UserService/ListEvents": noEvents},
	}
	for who, ctx := range map[string]context.Context{
		"nobody": timeout(t), "a stranger": as(t, "made-up"), "a user": as(t, ada.GetToken()), "admin": as(t, g.logIn(t, adminEmail).GetToken()),
	} {
		got := map[string]string{}
		for method, call := range calls {
			if err := call(ctx); err != nil {
				_, reason := errors.Reason(err)
				got[method] = strings.TrimSpace(errors.Code(err).String() + " " + reason)
			}
		}
		if diff := cmp.Diff(want[who], got); diff != "" {
			t.Errorf("what %s is refused (-want +got):\n%s", who, diff)
		}
	}
	rejected := g.recorder.Metric("rpcscope.server.rejected")
	for reason, want := range map[string]int64{"unauthenticated": 16, "permission_denied": 3} {
		if got := rejected.Counter(attribute.String("rpcscope.rejected.reason", reason)); got != want {
			t.Errorf("rejected, %s: got %v, want %v", reason, got, want)
		}
	}
}

func firstOf[M any](t *testing.T, stream interface{ Recv() (M, error) }, err error) error {
	t.Helper()
	if err != nil {
		return err
	}
	if _, err = stream.Recv(); err == io.EOF {
		return nil
	}
	return err
}

func TestSessions(t *testing.T) {
	g := startGuarded(t, service.Config{})
	ada := g.signUp(t, "Ada")
	got, err := g.sessions.GetSession(as(t, ada.GetToken()), &usersv1.GetSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s := got.GetSession(); s.GetToken() != "" || s.GetUser().GetId() != ada.GetUser().GetId() || !s.GetExpireTime().AsTime().Equal(ada.GetExpireTime().AsTime()) {
		t.Errorf("got session %v, want that of %v, without its token", s, ada)
	}
	if left := time.Until(ada.GetExpireTime().AsTime()); left > 12*time.Hour || left < 11*time.Hour {
		t.Errorf("the session ends in %v, want 12 h", left)
	}
	if _, err := g.sessions.LogOut(as(t, ada.GetToken()), &usersv1.LogOutRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.sessions.GetSession(as(t, ada.GetToken()), &usersv1.GetSessionRequest{}); !errors.Is(err, users.ErrNoSession) {
		t.Errorf("after logging out: %v, want %v", err, users.ErrNoSession)
	}
	if again := g.logIn(t, "ada@example.com"); again.GetToken() == ada.GetToken() || again.GetUser().GetRole() != usersv1.Role_ROLE_USER {
		t.Errorf("got session %v, want another one of a user", again)
	}
	_, err = g.sessions.LogIn(timeout(t), &usersv1.LogInRequest{Email: "ada@example.com", Password: "guess"})
	if !errors.Is(err, users.ErrLoginFailed) {
		t.Errorf("with a wrong password: %v, want %v", err, users.ErrLoginFailed)
	}
	err = errOf(g.sessions.SignUp(timeout(t), &usersv1.SignUpRequest{User: &usersv1.NewUser{Name: "Eve"}, Password: "short"}))
	if diff := cmp.Diff([]string{"user.email EMAIL_INVALID", "password PASSWORD_INVALID"}, fields(err)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	// Rule 29: telemetry has nothing that could be used.
	text := g.recorder.Tree()
	for _, s := range g.recorder.Spans().All() {
		text += fmt.Sprintln(s.Attributes())
	}
	for _, l := range g.recorder.Logs().All() {
		text += fmt.Sprintln(l.Attributes())
	}
	if !strings.Contains(text, "SessionService/LogIn") {
		t.Errorf("telemetry tells nothing of the log-ins:\n%s", text)
	}
	for _, hidden := range []string{ada.GetToken(), secret} {
		if strings.Contains(text, hidden) {
			t.Errorf("telemetry has %q in it", hidden)
		}
	}
}

func errOf[M any](_ M, err error) error { return err }

// A stream that is open when its session expires ends then.
func TestSessionExpiresWhileFollowing(t *testing.T) {
	g := startGuarded(t, service.Config{Sessions: sessions.Config{Lifetime: 500 * time.Millisecond}})
	ada := g.signUp(t, "Ada")
	stream, err := g.users.WatchUsers(as(t, ada.GetToken()))
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, subscribe("", 0))
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, interceptors.ErrIdentityExpired) {
		t.Errorf("following ended with %v, want %v", err, interceptors.ErrIdentityExpired)
	}
}

// Each user has a limit, and one who is over it costs the others nothing.
func TestLimitPerUser(t *testing.T) {
	g := startGuarded(t, service.Config{Limiter: interceptors.NewTokenBucket(0.001, 5)})
	ada, bob := g.signUp(t, "Ada"), g.signUp(t, "Bob")
	call := func(s *usersv1.Session) error {
		return errOf(g.sessions.GetSession(as(t, s.GetToken()), &usersv1.GetSessionRequest{}))
	}
	for i := range 8 {
		want := codes.OK
		if i >= 5 {
			want = codes.ResourceExhausted
		}
		if err := call(ada); errors.Code(err) != want {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if err := call(bob); err != nil {
		t.Errorf("the other user: %v, want no error", err)
	}
	err := call(ada)
	if after, ok := errors.RetryAfter(err); !ok || after < time.Minute {
		t.Errorf("got retry after %v, want minutes: %v", after, err)
	}
	if got := g.recorder.Metric("rpcscope.server.rejected").Counter(attribute.String("rpcscope.rejected.reason", "rate_limited")); got != 4 {
		t.Errorf("rejected: got %v, want 4", got)
	}
}

// Rule 25: with its Redis away a limit lets calls happen, and says so.
func TestLimitWithoutItsRedis(t *testing.T) {
	g := startGuarded(t, service.Config{Limit: 1, Redis: "localhost:1"})
	ada := g.signUp(t, "Ada")
	for range 10 {
		if err := errOf(g.sessions.GetSession(as(t, ada.GetToken()), &usersv1.GetSessionRequest{})); err != nil {
			t.Errorf("error = %v, want none", err)
		}
	}
	failures := g.recorder.Metric("rpcscope.server.limiter.failures").Counter(
		attribute.String("rpcscope.ratelimit.policy", "users"), attribute.String("rpcscope.ratelimit.outcome", "allowed"))
	if failures != 11 {
		t.Errorf("got %d failures of the limiter, want 11, one for each call", failures)
	}
}

// Passwords are guessed no faster than the limit of logins allows.
func TestLimitOfLogins(t *testing.T) {
	g := startGuarded(t, service.Config{})
	limited := 0
	for range 30 {
		switch err := errOf(g.sessions.LogIn(timeout(t), &usersv1.LogInRequest{Email: adminEmail, Password: "guess"})); {
		case errors.Is(err, interceptors.ErrRateLimited):
			limited++
		case !errors.Is(err, users.ErrLoginFailed):
			t.Fatalf("error = %v, want %v or %v", err, users.ErrLoginFailed, interceptors.ErrRateLimited)
		}
	}
	if limited < 5 {
		t.Errorf("%d of 30 attempts were limited, want about 10", limited)
	}
}

// The session is looked up in the database beneath the span of the call.
func TestGuardIsTraced(t *testing.T) {
	g := startGuarded(t, service.Config{})
	ada := g.signUp(t, "Ada")
	g.recorder.Reset()
	if err := errOf(g.sessions.GetSession(as(t, ada.GetToken()), &usersv1.GetSessionRequest{})); err != nil {
		t.Fatal(err)
	}
	call := g.recorder.Spans().Named("users.v1.SessionService/GetSession").Kind(trace.SpanKindServer).One()
	g.recorder.Spans().Named("SELECT sessions").One().ChildOf(call)
}
