package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// system is the users service and the web app, each a server on a port of its own.
type system struct {
	t       *testing.T
	url     string
	client  *http.Client
	stopAPI func() // returns when the users service has stopped
	stopWeb func()
}

func start(t *testing.T, api, app observe.By, cfg web.Config) *system {
	t.Helper()
	return startWith(t, service.Config{Open: true, Faults: true, Observe: api}, app, cfg)
}

func startWith(t *testing.T, users service.Config, app observe.By, cfg web.Config) *system {
	t.Helper()
	s := &system{t: t, client: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}}
	calls, stopAPI := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, users) })
	cfg.Observe = app
	pages, stopWeb := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return web.Serve(ctx, l, calls, cfg) })
	t.Cleanup(s.client.CloseIdleConnections)
	s.url, s.stopAPI, s.stopWeb = "http://"+pages, stopAPI, stopWeb
	if response := s.do("GET", "/readyz", ""); response.StatusCode != 200 {
		t.Fatalf("not ready: %s", response.Status)
	}
	return s
}

// recorded starts a system observed by one recorder.
func recorded(t *testing.T, cfg web.Config) (*system, *telemetrytest.Recorder) {
	t.Helper()
	r := telemetrytest.New(t)
	return start(t, observe.Through(r.Telemetry(), nil), observe.Through(r.Telemetry(), nil), cfg), r
}

// reply is a response whose body the end of the test closes.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
	Body       io.Reader
}

func (s *system) do(method, path, body string, header ...string) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return reply{response.StatusCode, response.Status, response.Header, response.Body}
}

// lines returns the lines of a response, decoded.
func lines(t *testing.T, response reply) []map[string]any {
	t.Helper()
	var list []map[string]any
	for in := json.NewDecoder(response.Body); ; {
		var line map[string]any
		if err := in.Decode(&line); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
}

func (s *system) create(name string) (id string) {
	s.t.Helper()
	response := s.do("POST", "/users/", fmt.Sprintf(`{"name":%q,"email":"%s@example.com"}`, name, strings.ToLower(name)))
	if response.StatusCode != http.StatusCreated {
		s.t.Fatalf("create %s: %s", name, response.Status)
	}
	return lines(s.t, response)[0]["id"].(string)
}

func TestCreateAndList(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	ada, bob := s.create("Ada"), s.create("Bob")
	tests := []struct {
		path string
		want []string
	}{
		{"/users/", []string{"Ada ada@example.com", "Bob bob@example.com"}},
		{"/users/?id=" + bob + "&id=" + ada, []string{"Bob bob@example.com", "Ada ada@example.com"}},
	}
	for _, test := range tests {
		response := s.do("GET", test.path, "")
		if got := response.Header.Get("Content-Type"); got != "application/x-ndjson" || response.StatusCode != 200 {
			t.Errorf("%s: %s %s, want 200 application/x-ndjson", test.path, response.Status, got)
		}
		var got []string
		for _, line := range lines(t, response) {
			got = append(got, fmt.Sprint(line["name"], " ", line["email"]))
			if _, err := time.Parse(time.RFC3339, line["created"].(string)); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.path, diff)
		}
	}
}

func TestErrors(t *testing.T) {
	s, _ := recorded(t, web.Config{Faults: true, Timeout: 300 * time.Millisecond})
	s.create("Ada")
	body := `{"name":"Eve","email":"eve@example.com"}`
	tests := []struct {
		name               string
		method, path, body string
		header             []string
		wantStatus         int
		wantCode           string
		wantReason         any
	}{
		{"taken", "POST", "/users/", `{"name":"A","email":"ada@example.com"}`, nil, 409, "ALREADY_EXISTS", "USER_EMAIL_TAKEN"},
		{"invalid", "POST", "/users/", `{"name":"","email":"x"}`, nil, 400, "INVALID_ARGUMENT", "USER_INVALID"},
		{"unknown", "GET", "/users/?id=u-0", "", nil, 404, "NOT_FOUND", "USER_NOT_FOUND"},
		{"no JSON", "POST", "/users/", `name=Ada`, nil, 400, "INVALID_ARGUMENT", nil},
		{"unknown field", "POST", "/users/", `{"nick":"A"}`, nil, 400, "INVALID_ARGUMENT", nil},
		{"too large", "POST", "/users/", `{"name":"` + strings.Repeat("x", 65<<10) + `"}`, nil, 400, "INVALID_ARGUMENT", nil},
		{"a form", "POST", "/users/", body, []string{"Content-Type", "text/plain"}, 400, "INVALID_ARGUMENT", nil},
		{"panic", "POST", "/users/", body, []string{"X-Fault", "panic"}, 500, "INTERNAL", nil},
		{"private error", "POST", "/users/", body, []string{"X-Fault", "error"}, 500, "UNKNOWN", nil},
		{"too slow", "GET", "/users/", "", []string{"X-Fault", "delay=1h"}, 504, "DEADLINE_EXCEEDED", nil},
		{"too slow to create", "POST", "/users/", body, []string{"X-Fault", "delay=1h"}, 504, "DEADLINE_EXCEEDED", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			response := s.do(test.method, test.path, test.body, test.header...)
			if response.StatusCode != test.wantStatus {
				t.Errorf("status = %d, want %d", response.StatusCode, test.wantStatus)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Error map[string]any }
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			want := map[string]any{
				"code": test.wantCode, "reason": test.wantReason,
				"requestId": response.Header.Get("X-Request-Id"), "traceId": response.Header.Get("X-Trace-Id"),
			}
			for key, value := range want {
				if got.Error[key] != value || value == "" {
					t.Errorf("%s = %v, want %v", key, got.Error[key], value)
				}
			}
			if strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "10.0.0.1") {
				t.Errorf("the answer tells what is private: %s", text)
			}
		})
	}
	t.Run("violations", func(t *testing.T) {
		response := s.do("POST", "/users/", `{"name":"","email":"x"}`)
		fields := lines(t, response)[0]["error"].(map[string]any)["fields"].([]any)
		want := []any{
			map[string]any{"field": "user.name", "reason": "NAME_INVALID", "description": "is empty, want a name"},
			map[string]any{"field": "user.email", "reason": "EMAIL_INVALID", "description": "is no address such as ada@example.com"},
		}
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A list that fails half-way has begun with 200: its last line is the error.
func TestListFailsHalfway(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	ada := s.create("Ada")
	response := s.do("GET", "/users/?id="+ada+"&id=u-0", "")
	got := lines(t, response)
	if response.StatusCode != 200 || len(got) != 2 || got[0]["id"] != ada {
		t.Fatalf("%s: %v, want 200, Ada and an error", response.Status, got)
	}
	if e := got[1]["error"].(map[string]any); e["code"] != "NOT_FOUND" || e["message"] != "user u-0 not found" {
		t.Errorf("last line = %v, want NOT_FOUND", e)
	}
}

// events returns a function that returns the next event of a stream and its data.
func events(t *testing.T, response reply) func() (string, map[string]any) {
	t.Helper()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("Content-Type = %s %q, want text/event-stream", response.Status, got)
	}
	in := bufio.NewScanner(response.Body)
	return func() (event string, data map[string]any) {
		t.Helper()
		for in.Scan() {
			switch name, value, _ := strings.Cut(in.Text(), ": "); name {
			case "event":
				event = value
			case "data":
				if err := json.Unmarshal([]byte(value), &data); err != nil {
					t.Fatal(err)
				}
				return event, data
			}
		}
		return "end", nil
	}
}

func TestFollow(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	s.create("Before")
	response := s.do("GET", "/users/events?domain=example.com", "")
	next := events(t, response)
	event, data := next()
	want := map[string]any{"requestId": response.Header.Get("X-Request-Id"), "traceId": response.Header.Get("X-Trace-Id")}
	if diff := cmp.Diff(want, data); event != "subscribed" || diff != "" {
		t.Fatalf("event %q (-want +got):\n%s", event, diff)
	}
	if r := s.do("POST", "/users/", `{"name":"Other","email":"x@example.org"}`); r.StatusCode != 201 {
		t.Fatal(r.Status)
	}
	for i := range 2 * 64 { // more than may be sent without acknowledgement
		name := fmt.Sprintf("P%d", i)
		id := s.create(name)
		if event, data := next(); event != "created" || data["id"] != id || data["name"] != name {
			t.Fatalf("event %q %v, want created %s", event, data, id)
		}
	}
	s.stopAPI()
	event, data = next()
	if e, _ := data["error"].(map[string]any); event != "failed" || e["reason"] != "SERVER_STOPPING" || e["code"] != "UNAVAILABLE" {
		t.Errorf("event %q %v, want failed SERVER_STOPPING", event, data)
	}
	if event, data := next(); event != "end" {
		t.Errorf("event %q %v after the failure, want the end", event, data)
	}
}

// The web app stops although somebody follows.
func TestStopEndsFollow(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	next := events(t, s.do("GET", "/users/events", ""))
	if event, _ := next(); event != "subscribed" {
		t.Fatalf("event %q, want subscribed", event)
	}
	s.stopWeb()
	if event, data := next(); event != "end" {
		t.Errorf("event %q %v, want the end", event, data)
	}
}

func TestFollowWithoutService(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	s.stopAPI()
	if response := s.do("GET", "/users/events", ""); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status = %s, want 503", response.Status)
	}
}

func TestHealth(t *testing.T) {
	s, r := recorded(t, web.Config{})
	check := func(path string, want int) {
		t.Helper()
		if response := s.do("GET", path, ""); response.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, response.Status, want)
		}
	}
	check("/healthz", 200)
	check("/readyz", 200)
	s.stopAPI()
	check("/healthz", 200)
	check("/readyz", 503)
	if n := len(r.Spans().All()); n != 0 {
		t.Errorf("%d spans of health checks, want none", n)
	}
}

func TestPage(t *testing.T) {
	s, _ := recorded(t, web.Config{Traces: `http://jaeger:16686/"><script>`})
	response := s.do("GET", "/", "")
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `data-traces="http://jaeger:16686/&#34;&gt;&lt;script&gt;"`) {
		t.Errorf("the URL of Jaeger is not in the page, or not escaped:\n%s", text)
	}
	if strings.Contains(string(text), `id="fault"`) {
		t.Error("the page offers faults that are switched off")
	}
	if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'self'") {
		t.Errorf("Content-Security-Policy = %q", policy)
	}
	// What the page loads is there, and is from here.
	loaded := regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`).FindAllStringSubmatch(string(text), -1)
	if len(loaded) < 3 {
		t.Errorf("the page loads %v, want its style, script and icon", loaded)
	}
	for _, found := range loaded {
		if !strings.HasPrefix(found[1], "/assets/") {
			t.Errorf("the page loads %s, want its own assets only", found[1])
		} else if asset := s.do("GET", found[1], ""); asset.StatusCode != 200 {
			t.Errorf("%s: %s", found[1], asset.Status)
		}
	}
}

func TestRoutes(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	tests := []struct {
		method, path string
		header       []string
		want         int
	}{
		{"GET", "/nothing", nil, 404},
		{"GET", "/users/nobody", nil, 404},
		{"POST", "/users/u-0", nil, 404},
		{"DELETE", "/users/", nil, 405},
		{"GET", "/assets/nothing.js", nil, 404},
		{"POST", "/users/", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	}
	for _, test := range tests {
		response := s.do(test.method, test.path, "", test.header...)
		if response.StatusCode != test.want {
			t.Errorf("%s %s: %s, want %d", test.method, test.path, response.Status, test.want)
		}
		if response.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s has no request id", test.method, test.path)
		}
	}
}

// Faults that are switched off in the web app do not reach the users service, where they are on.
func TestFaultsSwitchedOff(t *testing.T) {
	s, _ := recorded(t, web.Config{})
	for _, header := range []string{"X-Fault", "Grpc-Metadata-X-Fault"} {
		if response := s.do("GET", "/users/", "", header, "panic"); response.StatusCode != 200 {
			t.Errorf("%s: %s, want 200", header, response.Status)
		}
	}
}

func TestServeFails(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := web.Serve(t.Context(), l, "localhost:1", web.Config{Observe: observe.By{Logger: slog.New(slog.DiscardHandler)}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error = %v, want %v", err, net.ErrClosed)
	}
}
