//go:build e2e

package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// TestLimitIsShared starts a real Redis and two users services that count the
// calls of users in it together: what a user may call is no more with two of them.
func TestLimitIsShared(t *testing.T) {
	redis, store := startRedis(t)
	defer store.Stop()
	db := filepath.Join(t.TempDir(), "users.db")
	var pages []string
	for range 2 {
		api := start(t, []string{"OTEL_SDK_DISABLED=true"}, "users-api", "-listen", "127.0.0.1:0", "-db", db, "-redis", redis, "-limit", "0.5")
		web := start(t, []string{"OTEL_SDK_DISABLED=true"}, "users-web", "-listen", "127.0.0.1:0", "-users", api.Find(`users service is serving.*address=(\S+)`))
		pages = append(pages, web.Find(`web app is serving.*url=(\S+)`))
		defer api.Stop()
		defer web.Stop()
	}
	var session struct{ Token string }
	answer := post(t, pages[0]+"users/me", "", `{"name":"Ada","email":"ada@example.com","password":"correct horse"}`, http.StatusCreated)
	if err := json.Unmarshal([]byte(answer), &session); err != nil {
		t.Fatal(err)
	}
	// One call at once, and one every two seconds: whichever service is asked.
	begin := time.Now()
	allowed := 0
	for i := range 20 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, pages[i%2]+"session", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+session.Token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		switch response.StatusCode {
		case http.StatusOK:
			allowed++
		case http.StatusTooManyRequests:
			if response.Header.Get("Retry-After") == "" {
				t.Error("a refusal does not tell when to come back")
			}
		default:
			t.Fatalf("got %s, want 200 or 429", response.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	most := 1 + int(time.Since(begin)/(2*time.Second)) + 1
	if allowed < 1 || allowed > most {
		t.Errorf("got %d of 20 calls in %v, want 1 to %d", allowed, time.Since(begin), most)
	}
}

// startRedis starts a redis-server that keeps nothing, and returns its address.
func startRedis(t *testing.T, args ...string) (string, *program.Program) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: this test needs a real Redis (Debian and Ubuntu: apt install redis-server)", err)
	}
	p := program.Start(t, nil, path, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...)
	p.Find(`(Ready to accept connections)`)
	return "127.0.0.1:" + port, p
}

// infoOf returns what a Redis tells of itself.
func infoOf(t *testing.T, address, section string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "redis-cli", "-e", "-p", port, "info", section).Output()
	if err != nil {
		t.Fatalf("redis-cli: %v", err)
	}
	return string(out)
}
