package web_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

const secret = "correct horse battery"

// guarded starts a system in which one has to log in, with an admin and an audit service.
func guarded(t *testing.T) *system {
	t.Helper()
	r := observe.Through(telemetrytest.New(t).Telemetry(), nil)
	events, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return audit.Serve(ctx, l, audit.Config{Observe: r}) })
	return startWith(t, service.Config{
		Admin: "root@example.com", AdminPassword: secret, Sessions: sessions.Config{Cost: 10}, Audit: events, Observe: r,
	}, r, web.Config{})
}

// answer is what the web app may answer, in one type.
type answer struct {
	Token string
	User  struct {
		ID, Email string
		Admin     bool
	}
	Error struct {
		Code, Reason string
		Fields       []struct{ Field string }
	}
}

// ask sends a request with the cookie and returns status, answer and the cookie that was set.
func (s *system) ask(method, path, body, cookie string) (int, answer, *http.Cookie) {
	s.t.Helper()
	var header []string
	if cookie != "" {
		header = []string{"Cookie", "session=" + cookie}
	}
	response := s.do(method, path, body, header...)
	var a answer
	if response.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
			s.t.Fatalf("%s %s: %s: %v", method, path, response.Status, err)
		}
	}
	for _, c := range (&http.Response{Header: response.Header}).Cookies() {
		if c.Name == "session" {
			return response.StatusCode, a, c
		}
	}
	return response.StatusCode, a, nil
}

func TestSession(t *testing.T) {
	s := guarded(t)
	ada := `{"name":"Ada","email":"ada@example.com","password":"` + secret + `"}`
	status, got, cookie := s.ask("POST", "/users/me", ada, "")
	if status != 201 || got.User.Email != "ada@example.com" || got.User.Admin || cookie == nil || cookie.Value != got.Token {
		t.Fatalf("signing up: %d %+v, cookie %v, want 201, Ada and a cookie", status, got, cookie)
	}
	// No script sees the cookie, and no other site makes the browser send it.
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Expires.IsZero() {
		t.Errorf("got cookie %v, want it HttpOnly, SameSite=Strict, for / and with an end", cookie)
	}
	if status, who, _ := s.ask("GET", "/session", "", cookie.Value); status != 200 || who.User != got.User || who.Token != "" {
		t.Errorf("the session: %d %+v, want 200 and Ada, without the token", status, who)
	}
	if response := s.do("GET", "/session", "", "Authorization", "Bearer "+got.Token); response.StatusCode != 200 {
		t.Errorf("with the token as programs send it: %s, want 200", response.Status)
	}
	if status, refused, _ := s.ask("GET", "/users/", "", cookie.Value); status != 403 || refused.Error.Code != "PERMISSION_DENIED" {
		t.Errorf("a user lists everybody: %d %+v, want 403", status, refused)
	}
	if status, _, gone := s.ask("DELETE", "/session", "", cookie.Value); status != 204 || gone == nil || gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("logging out: %d, cookie %v, want 204 and no cookie", status, gone)
	}
	response := s.do("GET", "/session", "", "Cookie", "session="+cookie.Value)
	if response.StatusCode != 401 || response.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("after logging out: %s, WWW-Authenticate %q, want 401 and Bearer", response.Status, response.Header.Get("WWW-Authenticate"))
	}
	if status, _, again := s.ask("POST", "/session", `{"email":"ada@example.com","password":"`+secret+`"}`, ""); status != 200 || again == nil {
		t.Errorf("logging in: %d, cookie %v, want 200 and a cookie", status, again)
	}
}

func TestSessionRefused(t *testing.T) {
	s := guarded(t)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		reason                   string
		fields                   []string
	}{
		{"bad fields", "POST", "/users/me", `{"name":"","email":"x","password":"short"}`, 400, "USER_INVALID", []string{"user.name", "user.email", "password"}},
		{"taken", "POST", "/users/me", `{"name":"Root","email":"ROOT@example.com","password":"` + secret + `"}`, 409, "USER_EMAIL_TAKEN", nil},
		{"no JSON", "POST", "/users/me", `x`, 400, "", nil},
		{"unknown key", "POST", "/session", `{"user":"root"}`, 400, "", nil},
		{"wrong password", "POST", "/session", `{"email":"root@example.com","password":"guess"}`, 401, "LOGIN_FAILED", nil},
		{"nobody's session", "GET", "/session", "", 401, "NO_CREDENTIALS", nil},
		{"nobody logs out", "DELETE", "/session", "", 401, "NO_CREDENTIALS", nil},
		{"nobody follows", "GET", "/users/events", "", 401, "NO_CREDENTIALS", nil},
		{"nobody deletes", "DELETE", "/users/u-1", "", 401, "NO_CREDENTIALS", nil},
		{"nobody reads", "GET", "/users/u-1/history", "", 401, "NO_CREDENTIALS", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, got, cookie := s.ask(tt.method, tt.path, tt.body, "")
			var fields []string
			for _, f := range got.Error.Fields {
				fields = append(fields, f.Field)
			}
			if status != tt.status || got.Error.Reason != tt.reason || cookie != nil || !cmp.Equal(tt.fields, fields) {
				t.Errorf("got %d %s %q, cookie %v, want %d %s %q and none", status, got.Error.Reason, fields, cookie, tt.status, tt.reason, tt.fields)
			}
		})
	}
}

func TestAdmin(t *testing.T) {
	s := guarded(t)
	_, ada, _ := s.ask("POST", "/users/me", `{"name":"Ada","email":"ada@example.com","password":"`+secret+`"}`, "")
	status, root, cookie := s.ask("POST", "/session", `{"email":"root@example.com","password":"`+secret+`"}`, "")
	if status != 200 || !root.User.Admin {
		t.Fatalf("the admin logs in: %d %+v", status, root)
	}
	list := func(path string) []map[string]any {
		t.Helper()
		return lines(t, s.do("GET", path, "", "Cookie", "session="+cookie.Value))
	}
	if got := list("/users/"); len(got) != 2 {
		t.Errorf("got users %v, want two", got)
	}
	if status, got, _ := s.ask("DELETE", "/users/"+ada.User.ID, "", cookie.Value); status != 204 {
		t.Errorf("deleting Ada: %d %+v, want 204", status, got)
	}
	if status, got, _ := s.ask("DELETE", "/users/"+ada.User.ID, "", cookie.Value); status != 404 {
		t.Errorf("deleting Ada again: %d %+v, want 404", status, got)
	}
	history := list("/users/" + ada.User.ID + "/history")
	if len(history) != 3 || history[0]["action"] != "user.sign_up" || history[1]["action"] != "user.delete" || history[1]["actor"] != root.User.ID {
		t.Errorf("got history %v, want that she signed up, and was deleted twice by the admin", history)
	}
	if got := list("/users/"); len(got) != 1 {
		t.Errorf("got users %v, want the admin alone", got)
	}
	if status, got, _ := s.ask("GET", "/users/u-0/history", "", cookie.Value); status != 404 || got.Error.Reason != "NO_EVENTS" {
		t.Errorf("the history of nobody: %d %+v, want 404 NO_EVENTS", status, got)
	}
}
