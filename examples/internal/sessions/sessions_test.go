package sessions_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/propagation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	email  = "ada@example.com"
	secret = "correct horse battery"
)

// start returns the sessions of a database in which Ada has signed up.
func start(t *testing.T, path string, lifetime time.Duration) (*sessions.Sessions, *store.Store, store.User) {
	t.Helper()
	s, err := store.Open(t.Context(), database.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	all, err := sessions.New(s, sessions.Config{Lifetime: lifetime, Cost: 10})
	if err != nil {
		t.Fatal(err)
	}
	ada, err := all.SignUp(t.Context(), users.New{Name: "Ada", Email: email}, secret)
	if err != nil {
		t.Fatal(err)
	}
	return all, s, ada
}

func TestSession(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.db")
	all, s, ada := start(t, path, time.Hour)
	ctx := t.Context()
	token, session, err := all.LogIn(ctx, "ADA@example.com", secret)
	if err != nil {
		t.Fatal(err)
	}
	id, err := all.Identify(ctx, token)
	want := propagation.Identity{UserID: ada.ID, SessionID: session.ID, AuthMethod: "session", Roles: []string{"user"}, ExpiresAt: time.Now().Add(time.Hour)}
	if diff := cmp.Diff(want, id, cmpopts.EquateApproxTime(time.Minute), cmpopts.IgnoreUnexported(want)); diff != "" || err != nil {
		t.Errorf("identity (-want +got), error %v:\n%s", err, diff)
	}
	// Who has the file has neither tokens nor passwords.
	for _, file := range []string{path, path + "-wal"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(token)) || bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s has a token or a password in it", file)
		}
	}

	other, _, err := all.LogIn(ctx, email, secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(all.Close(ctx, session.ID), all.Close(ctx, "s-none")); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]error{token: users.ErrNoSession, other: nil, "": users.ErrNoSession, "made up": users.ErrNoSession} {
		if _, err := all.Identify(ctx, token); !errors.Is(err, want) {
			t.Errorf("after logging out, token %q: %v, want %v", token, err, want)
		}
	}
	// Who is deleted is logged out.
	if err := s.Delete(ctx, ada.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Identify(ctx, other); !errors.Is(err, users.ErrNoSession) {
		t.Errorf("the session of a user who was deleted: %v, want %v", err, users.ErrNoSession)
	}
}

func TestSessionExpires(t *testing.T) {
	all, s, ada := start(t, "", time.Nanosecond)
	token, _, err := all.Open(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.Identify(t.Context(), token); !errors.Is(err, users.ErrNoSession) {
		t.Errorf("a session that has expired: %v, want %v", err, users.ErrNoSession)
	}
	// The next one that is opened sweeps: its id is free again.
	hash := bytes.Repeat([]byte{1}, 32)
	for range 2 {
		if err := s.OpenSession(t.Context(), store.Session{ID: "s-1", User: ada}, hash); err != nil {
			t.Error(err)
		}
	}
}

func TestLogInFails(t *testing.T) {
	all, s, _ := start(t, "", time.Hour)
	if _, err := s.Create(t.Context(), users.New{Name: "Bob", Email: "bob@example.com"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ email, password string }{
		{email, "correct horse battery "}, {email, ""}, {"nobody@example.com", secret}, {"bob@example.com", ""}, {"bob@example.com", secret}, {"", ""},
	} {
		if token, _, err := all.LogIn(t.Context(), tt.email, tt.password); !errors.Is(err, users.ErrLoginFailed) || token != "" {
			t.Errorf("%q with %q: %v, want %v", tt.email, tt.password, err, users.ErrLoginFailed)
		}
	}
}

func violations(err error) int {
	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	return len(bad.GetFieldViolations())
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		user     users.New
		password string
		want     int // violations
	}{
		{users.New{Name: "Ada", Email: email}, "0123456789", 0},
		{users.New{Name: "Ada", Email: email}, "012345678", 1},
		{users.New{Name: "Ada", Email: email}, fmt.Sprintf("%0101d", 0), 1},
		{users.New{}, "", 3},
	} {
		err := sessions.Validate(tt.user, tt.password)
		if tt.want == 0 {
			if err != nil {
				t.Errorf("%v: %v, want no error", tt.user, err)
			}
			continue
		}
		if n := violations(err); n != tt.want || !errors.Is(err, users.ErrInvalid) {
			t.Errorf("%v with %q: %d violations, want %d: %v", tt.user, tt.password, n, tt.want, err)
		}
	}
}

func TestAdmin(t *testing.T) {
	all, _, ada := start(t, "", time.Hour)
	for range 2 { // the second time the admin is there already
		if err := all.EnsureAdmin(t.Context(), "root@example.com", secret); err != nil {
			t.Fatal(err)
		}
	}
	token, _, err := all.LogIn(t.Context(), "root@example.com", secret)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := all.Identify(t.Context(), token); err != nil || !cmp.Equal(id.Roles, []string{"admin"}) {
		t.Errorf("got roles %v, error %v, want admin", id.Roles, err)
	}
	// Nobody becomes an admin by having the address first.
	if err := all.EnsureAdmin(t.Context(), email, secret); err == nil {
		t.Errorf("user %s became an admin", ada.ID)
	}
	if err := all.EnsureAdmin(t.Context(), "other@example.com", "short"); !errors.Is(err, users.ErrInvalid) {
		t.Errorf("an admin with a short password: %v, want %v", err, users.ErrInvalid)
	}
}
