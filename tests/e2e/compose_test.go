//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/internal/compose"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// TestComposeServices starts the services that compose builds with the very
// commands, environments and health checks of the compose file, addresses
// apart, and follows a request through all of them to an OTLP endpoint. Stopped,
// they deliver what they still have.
func TestComposeServices(t *testing.T) {
	project, err := compose.Load(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	collector := telemetrytest.NewCollector(t, telemetrytest.OK)
	redis, store := startRedis(t, project.Services["redis"].Command[1:]...)
	here := map[string]string{
		"redis:6379":         redis,
		"http://jaeger:4317": collector.Endpoint(),
		"/data/users.db":     filepath.Join(t.TempDir(), "users.db"),
		"/data/audit.db":     filepath.Join(t.TempDir(), "audit.db"),
		":50051":             "127.0.0.1:0",
		":50052":             "127.0.0.1:0",
		":8080":              "127.0.0.1:0",
	}
	audit := startService(t, project.Services["users-audit"], here)
	here["users-audit:50052"] = audit.Find(`audit service is serving.*address=(\S+)`)
	checkHealth(t, project.Services["users-audit"], map[string]string{"localhost:50052": here["users-audit:50052"]})
	api := startService(t, project.Services["users-api"], here)
	here["users-api:50051"] = api.Find(`users service is serving.*address=(\S+)`)
	checkHealth(t, project.Services["users-api"], map[string]string{"localhost:50051": here["users-api:50051"]})
	web := startService(t, project.Services["users-web"], here)
	page := web.Find(`web app is serving.*url=(\S+)`)
	checkHealth(t, project.Services["users-web"], map[string]string{"localhost:8080": strings.Trim(strings.TrimPrefix(page, "http://"), "/")})

	var session struct{ Token string }
	password := *project.Services["users-api"].Environment["USERS_ADMIN_PASSWORD"]
	answer := post(t, page+"session", "", `{"email":"admin@example.com","password":"`+password+`"}`, http.StatusOK)
	if err := json.Unmarshal([]byte(answer), &session); err != nil {
		t.Fatal(err)
	}
	post(t, page+"users/", "", `{"name":"Ada","email":"ada@example.com"}`, http.StatusUnauthorized)
	post(t, page+"users/", session.Token, `{"name":"Ada","email":"ada@example.com"}`, http.StatusCreated)
	here[":8090"] = free(t)
	load := startService(t, project.Services["users-load"], here)
	awaitHealth(t, project.Services["users-load"], map[string]string{"http://localhost:8090/": "http://" + here[":8090"] + "/"})
	if got := infoOf(t, redis, "commandstats"); !strings.Contains(got, "cmdstat_evalsha:calls=") {
		t.Errorf("Redis was asked for no decision:\n%s", got)
	}
	load.Stop() // with exit code 0: every call has ended as it should
	web.Stop()
	api.Stop()
	store.Stop()
	audit.Stop()

	// Everything has arrived, or it never will: all processes have ended.
	commit := slices.IndexFunc(collector.Spans(), func(s telemetrytest.OTLPSpan) bool { return s.GetName() == "INSERT users" })
	if commit < 0 {
		t.Fatalf("got %d spans, want one named INSERT users", len(collector.Spans()))
	}
	trace := collector.Spans()[commit].GetTraceId()
	got := map[string]int{}
	for _, s := range collector.Spans() {
		if string(s.GetTraceId()) == string(trace) {
			got[s.Service()+" "+s.GetName()]++
		}
	}
	want := map[string]int{
		"users-web POST /users/": 1, "users-web users.v1.UserService/CreateUser": 1, "users-api users.v1.UserService/CreateUser": 1,
		"users-api audit.v1.AuditService/Record": 1, "users-api Attempt.audit.v1.AuditService/Record": 1, "users-audit audit.v1.AuditService/Record": 1, "users-audit INSERT events": 1,
		"users-api SELECT sessions": 1, "users-api BEGIN": 1, "users-api SELECT users": 1, "users-api INSERT users": 1, "users-api COMMIT": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans of the trace (-want +got):\n%s", diff)
	}
	for _, name := range []string{"rpc.server.call.duration", "rpc.client.call.duration", "rpcscope.server.active_calls", "go.goroutine.count",
		"rpcscope.server.request.size", "rpcscope.client.attempts", "rpcscope.client.breaker.state"} {
		if !slices.ContainsFunc(collector.Metrics(), func(m telemetrytest.OTLPMetric) bool { return m.GetName() == name }) {
			t.Errorf("metric %s has not arrived", name)
		}
	}
	if n := len(collector.Logs()); n != 0 {
		t.Errorf("got %d log records, want none: compose keeps them on stdout", n)
	}
}

// post posts JSON and returns the body of the answer, whose status must be want.
func post(t *testing.T, url, token, body string, want int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return do(t, request, want)
}

// startService starts a service of the compose file with the words of here exchanged.
func startService(t *testing.T, s types.ServiceConfig, here map[string]string) *program.Program {
	t.Helper()
	var env []string
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		if value := s.Environment[name]; value != nil {
			env = append(env, name+"="+exchange(*value, here))
		}
	}
	args := exchangeAll(s.Command, here)
	return start(t, env, args[0], args[1:]...)
}

// checkHealth runs the health check of a service, which must say that it is healthy.
func checkHealth(t *testing.T, s types.ServiceConfig, here map[string]string) {
	t.Helper()
	test := exchangeAll(s.HealthCheck.Test, here)
	if test[0] != "CMD" {
		t.Fatalf("%s: got health check %q, want one that needs no shell", s.Name, test)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, test[1]), test[2:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: health check %q: %v\n%s", s.Name, test, err, out)
	}
	// And it can fail: nothing listens on port 1.
	for here := range here {
		test = exchangeAll(s.HealthCheck.Test, map[string]string{here: "127.0.0.1:1"})
	}
	if err := exec.CommandContext(t.Context(), filepath.Join(bin, test[1]), test[2:]...).Run(); err == nil {
		t.Errorf("%s: health check %q: got success, want a failure", s.Name, test)
	}
}

func exchangeAll(words []string, here map[string]string) []string {
	exchanged := slices.Clone(words)
	for i, w := range exchanged {
		exchanged[i] = exchange(w, here)
	}
	return exchanged
}

func exchange(word string, here map[string]string) string {
	if w, ok := here[word]; ok {
		return w
	}
	return word
}
