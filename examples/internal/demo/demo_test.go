package demo

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

// bare is an environment in which nothing is exported.
func bare(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"} {
		t.Setenv(name, "")
	}
}

func TestRun(t *testing.T) {
	bare(t)
	var out bytes.Buffer
	if err := Run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	printed := regexp.MustCompile(`(?m)^trace [0-9a-f]{32}  request \S+`).FindAllString(out.String(), -1)
	if want := len(scenario) + 1; len(printed) != want { // the watch has one of another request inside
		t.Errorf("%d trees printed, want %d:\n%s", len(printed), want, &out)
	}
	slices.Sort(printed)
	if len(slices.Compact(printed)) != len(printed) {
		t.Errorf("a trace was printed twice:\n%s", &out)
	}
	for _, want := range []string{"ALREADY_EXISTS USER_EMAIL_TAKEN", "NOT_FOUND USER_NOT_FOUND", "INTERNAL", "DEADLINE_EXCEEDED", "make run"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing printed of %s:\n%s", want, &out)
		}
	}
}

// A demo that could not fail would show nothing.
func TestCheckFails(t *testing.T) {
	bare(t)
	s, err := start(io.Discard, "localhost:0", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.shutdown(); err != nil {
			t.Error(err)
		}
	}()
	right := scenario[0]
	got := right.run(t.Context(), s)
	if err := s.check(right, got); err != nil {
		t.Fatalf("what is right: %v", err)
	}
	tests := []struct {
		name   string
		change func(*step, *outcome)
		want   string
	}{
		{"another code", func(_ *step, o *outcome) { o.code = "INTERNAL" }, "got INTERNAL, want OK, 1 user"},
		{"another number of users", func(_ *step, o *outcome) { o.users = 2 }, "got OK, 2 users, want OK, 1 user"},
		{"another request id", func(_ *step, o *outcome) { o.request = "x" }, `request ids in spans and logs`},
		{"another parent", func(s *step, _ *outcome) {
			s.tree = strings.Replace(s.tree, "      users-api  SELECT users", "    users-api  SELECT users", 1)
		}, "want\n"},
		{"a log record less", func(s *step, _ *outcome) { s.logs-- }, "3 log records, want 2"},
		{"a panic without stack", func(s *step, o *outcome) { s.want, o.code = "INTERNAL", "INTERNAL" }, "the stack on the span"},
		{"another trace", func(s *step, o *outcome) { s.logs, o.trace = 0, strings.Repeat("0", 32) }, "has 0 spans"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wrong, seen := right, got
			test.change(&wrong, &seen)
			if err := s.check(wrong, seen); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one with %q", err, test.want)
			}
		})
	}
	methods, err := s.methods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	methods[0].codes["OK"]++
	if err := checkCodes(methods); err == nil || !strings.Contains(err.Error(), "metrics of users.v1.SessionService/SignUp: OK 2, want OK 1") || !strings.Contains(err.Error(), "metrics of 1 methods, want 7") {
		t.Errorf("codes: %v, want the ones that are missing", err)
	}
}

func TestServe(t *testing.T) {
	bare(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := newLines()
	ended := make(chan error, 1)
	go func() {
		defer close(out)
		ended <- Serve(ctx, out)
	}()
	url := out.find(t, `The page +(http://\S+)/`)
	token := out.find(t, `Authorization: Bearer (\w+)`)
	if o := get("/users/")(t.Context(), &system{web: url, token: token}); o.String() != "OK, 4 users" {
		t.Errorf("users: %v, want OK, 4 users", o)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// lines is a writer in which one can wait for a line.
type lines chan string

func newLines() lines { return make(lines, 1000) }

func (l lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l <- line
	}
	return len(p), nil
}

func (l lines) find(t *testing.T, pattern string) string {
	t.Helper()
	for re := regexp.MustCompile(pattern); ; {
		select {
		case line, ok := <-l:
			if !ok {
				t.Fatalf("it ended, and printed nothing like %s", pattern)
			}
			if found := re.FindStringSubmatch(line); found != nil {
				return found[1]
			}
		case <-t.Context().Done():
			t.Fatalf("nothing printed like %s", pattern)
		}
	}
}
