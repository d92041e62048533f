//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// tree is the first trace of the demo, names only: the request of the page in
// the web app, the call in client and server, the call to the audit service,
// and the transactions in both databases.
const tree = `└─ users-web  POST /users/me
   └─ users-web  → users.v1.SessionService/SignUp
      └─ users-api  users.v1.SessionService/SignUp
         ├─ users-api  → audit.v1.AuditService/Record
         │  └─ users-audit  audit.v1.AuditService/Record
         │     └─ users-audit  → INSERT events
         ├─ users-api  → BEGIN
         ├─ users-api  → SELECT users
         ├─ users-api  → INSERT users
         ├─ users-api  → COMMIT
         ├─ users-api  → BEGIN
         ├─ users-api  → DELETE sessions
         ├─ users-api  → INSERT sessions
         └─ users-api  → COMMIT
`

// TestDemo runs the demo, which compares all that it shows with what it should
// be and fails otherwise, and reads what a user sees first.
func TestDemo(t *testing.T) {
	out := start(t, nil, "demo").Wait()

	heads := regexp.MustCompile(`(?m)^trace ([0-9a-f]{32})  request ([0-9a-f-]{36}) `).FindAllStringSubmatch(out, -1)
	seen := map[string]bool{}
	for _, head := range heads {
		for _, id := range head[1:] {
			if seen[id] {
				t.Errorf("id %s was printed for two traces", id)
			}
			seen[id] = true
		}
	}
	if len(heads) < 13 {
		t.Errorf("got %d traces, want at least one for each of the 13 steps", len(heads))
	}
	_, first, _ := strings.Cut(out, "spans\n")
	first, _, _ = strings.Cut(first, "\n\n")
	// After its name a span has a bar, its duration and its outcome.
	if got := regexp.MustCompile(`(?m) +[·━].*$`).ReplaceAllString(first, "") + "\n"; got != tree {
		t.Errorf("got first trace\n%s\nwant\n%s", got, tree)
	}
	for _, want := range []string{
		"ALREADY_EXISTS USER_EMAIL_TAKEN", "NOT_FOUND USER_NOT_FOUND", "INTERNAL", "DEADLINE_EXCEEDED", "PERMISSION_DENIED", "UNAUTHENTICATED",
		"users.v1.UserService/CreateUser    5 ", "make run",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo prints nothing of %q", want)
		}
	}
}

// TestRun starts what make run starts, opens its page and stops it.
func TestRun(t *testing.T) {
	p := start(t, nil, "demo", "-serve")
	page := p.Find(`^The page +(http://\S+)$`)
	body := get(t, page)
	if want := "<!doctype html>"; !strings.HasPrefix(strings.ToLower(body), want) {
		t.Errorf("got page %.80q, want it to begin with %q", body, want)
	}
	p.Stop()
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, request, http.StatusOK)
}

// do returns the body of the response, whose status must be want.
func do(t *testing.T, request *http.Request, want int) string {
	t.Helper()
	client := &http.Client{Timeout: program.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != want {
		t.Fatalf("got %s %s, want status %d", response.Status, body, want)
	}
	return string(body)
}
