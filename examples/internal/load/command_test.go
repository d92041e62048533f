package load

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns the address of a users service that has an audit service, and what records it.
func start(t *testing.T, cfg service.Config) (string, *telemetrytest.Recorder) {
	t.Helper()
	t.Setenv("OTEL_SDK_DISABLED", "true") // of the callers
	r := telemetrytest.New(t)
	cfg.Observe, cfg.Sessions.Cost = observe.Through(r.Telemetry(), nil), 10
	auditing := observe.Through(telemetrytest.New(t).Telemetry(), nil)
	cfg.Audit, _ = servetest.Start(t, func(ctx context.Context, l net.Listener) error {
		return audit.Serve(ctx, l, audit.Config{Faults: fault.FromMetadata, Observe: auditing})
	})
	address, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, cfg) })
	return address, r
}

type result struct {
	code        int
	out, errOut string
}

func run(ctx context.Context, args ...string) result {
	var out, errOut bytes.Buffer
	code := Main(ctx, args, Output{Out: &out, Err: &errOut})
	return result{code, out.String(), errOut.String()}
}

// Every scenario goes as it says, on a real server, and does all of its operations.
func TestScenarios(t *testing.T) {
	for _, s := range Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			address, recorder := start(t, service.Config{Faults: true})
			r := run(t.Context(), s.Name, "-addr", address, "-rate", "400", "-calls", "400", "-duration", "1m", "-users", "19")
			if r.code != 0 {
				t.Errorf("got exit code %d, want 0\n%s%s", r.code, r.out, r.errOut)
			}
			for _, op := range s.Operations {
				if !regexp.MustCompile(`(?m)^` + op.name + ` +[1-9]`).MatchString(r.out) {
					t.Errorf("no call of %q:\n%s", op.name, r.out)
				}
			}
			if got := recorder.Metric("rpc.server.call.duration").HistogramCount(); got < 300 {
				t.Errorf("the server counted %d calls, want about 400", got)
			}
		})
	}
}

// What is rejected is counted by reason; and whatever a client makes up, metrics know the methods that exist, and one name
// for all others.
func TestHostile(t *testing.T) {
	address, recorder := start(t, service.Config{})
	if r := run(t.Context(), "hostile", "-addr", address, "-rate", "400", "-calls", "300", "-users", "19"); r.code != 0 {
		t.Fatalf("got exit code %d, want 0\n%s%s", r.code, r.out, r.errOut)
	}
	methods := map[string]bool{}
	for _, set := range recorder.Metric("rpc.server.call.duration").Attributes() {
		method, _ := set.Value("rpc.method")
		methods[method.AsString()] = true
	}
	rejected := recorder.Metric("rpcscope.server.rejected")
	for _, reason := range []string{"unauthenticated", "permission_denied", "rate_limited", "invalid"} {
		if n := rejected.Counter(attribute.String("rpcscope.rejected.reason", reason)); n == 0 {
			t.Errorf("no call was rejected with the reason %s", reason)
		}
	}
	want := map[string]bool{"_OTHER": true, "users.v1.UserService/CreateUser": true, "users.v1.UserService/GetUsers": true,
		"users.v1.UserService/ImportUsers": true, "users.v1.UserService/WatchUsers": true, "users.v1.UserService/DeleteUser": true,
		"users.v1.SessionService/SignUp": true, "users.v1.SessionService/LogIn": true}
	if diff := cmp.Diff(want, methods); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
}

// A breaker spares a service that is away most of what stubborn callers send it.
func TestStorm(t *testing.T) {
	attempts := map[string]uint64{}
	for _, name := range []string{"storm", "breaker"} {
		address, recorder := start(t, service.Config{Faults: true, Limit: 1e6})
		r := run(t.Context(), name, "-addr", address, "-rate", "50", "-duration", "4s", "-users", "5")
		if r.code != 0 || !strings.Contains(r.out, "UNAVAILABLE") {
			t.Fatalf("%s: got exit code %d, want 0, and calls that end UNAVAILABLE\n%s%s", name, r.code, r.out, r.errOut)
		}
		attempts[name] = recorder.Metric("rpc.server.call.duration").HistogramCount(attribute.String("rpc.response.status_code", "UNAVAILABLE"))
	}
	// 100 calls fall into the 2 s, and each is made 5 times; with a breaker about 5, and 1 each 500 ms.
	if attempts["storm"] < 400 || attempts["breaker"] > 50 || attempts["breaker"] < 5 {
		t.Errorf("calls that the service refused: got %v, want about 500 in the storm and about 10 with a breaker", attempts)
	}
}

// A generator that could not fail would show nothing.
func TestExitCodes(t *testing.T) {
	address, _ := start(t, service.Config{})
	open, _ := start(t, service.Config{Open: true})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		args []string
		code int
		out  string
	}{
		{"nobody listens", t.Context(), []string{"-addr", "localhost:1", "-calls", "5"}, 1, "signing up: "},
		{"no faults", t.Context(), []string{"failing", "-users", "2", "-addr", address, "-calls", "20"}, 1, "of 20 calls did not end as scenario failing wants"},
		{"no faults, tolerated", t.Context(), []string{"failing", "-users", "2", "-addr", address, "-calls", "20", "-tolerate", "1"}, 0, "unexpected: create, audit away OK"},
		{"no sessions", t.Context(), []string{"hostile", "-addr", open}, 1, "scenario hostile wants a service with sessions"},
		{"no sessions wanted", t.Context(), []string{"steady", "-addr", open, "-calls", "20"}, 0, "steady: 20 calls"},
		{"too slow", t.Context(), []string{"-addr", address, "-calls", "5", "-users", "1", "-max-p99", "1ns"}, 1, "want at most 1ns"},
		{"not too slow", t.Context(), []string{"-addr", address, "-calls", "5", "-users", "1", "-max-p99", "1m"}, 0, "0 never began"},
		{"interrupted at once", ended, []string{"-addr", address}, 1, "context canceled"},
		{"help", t.Context(), []string{"-help"}, 0, "hostile"},
		{"no such scenario", t.Context(), []string{"stady"}, 2, `scenario "stady", want steady, burst`},
		{"two scenarios", t.Context(), []string{"steady", "burst"}, 2, `"burst" after scenario "steady"`},
		{"rate", t.Context(), []string{"-rate", "0"}, 2, "-rate 0, want more than 0"},
		{"no rate", t.Context(), []string{"-rate", "NaN"}, 2, "-rate NaN, want more than 0"},
		{"duration", t.Context(), []string{"-duration", "-1s"}, 2, "-duration -1s, want more than 0"},
		{"calls", t.Context(), []string{"-calls", "-1"}, 2, "-calls -1, want 0 or more"},
		{"concurrency", t.Context(), []string{"-concurrency", "0"}, 2, "-concurrency 0, want 1 to 10000"},
		{"timeout", t.Context(), []string{"-timeout", "0s"}, 2, "-timeout 0s, want more than 0"},
		{"users", t.Context(), []string{"-users", "0"}, 2, "-users 0, want 1 to 1000"},
		{"tolerate", t.Context(), []string{"-tolerate", "2"}, 2, "-tolerate 2, want 0 to 1"},
		{"p99", t.Context(), []string{"-max-p99", "-1s"}, 2, "-max-p99 -1s, want 0 or more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(tt.ctx, tt.args...)
			if r.code != tt.code || !strings.Contains(r.out+r.errOut, tt.out) {
				t.Errorf("got exit code %d, want %d and %q\n%s%s", r.code, tt.code, tt.out, r.out, r.errOut)
			}
		})
	}
}

// Elsewhere than on a terminal there is a line every 5 s.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tally := NewTally()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tell(ctx, &out, false, "steady", 12*time.Second, tally)
		}()
		pace := func(i int64) time.Duration { return Even(2)(i) + 250*time.Millisecond }
		Plan{pace, 12 * time.Second, 0, 4}.Run(t.Context(), tally, func(ctx context.Context, i int64) Outcome {
			outcome := took(100*time.Millisecond)(ctx, i)
			if i >= 6 && i < 17 {
				outcome.Err, outcome.Wanted = errors.NotFound("nobody"), false
			}
			return outcome
		})
		cancel()
		<-ended
		const want = "steady 5s/12s  2/s  at once 0  p50 100 ms  p99 100 ms  OK 6, NOT_FOUND 4  unexpected 4\n" +
			"steady 10s/12s  2/s  at once 0  p50 100 ms  p99 100 ms  NOT_FOUND 11, OK 9  unexpected 11\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	})
}

// On a terminal there is one line, written over, and nothing of it is left.
func TestProgressOnTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tally := NewTally()
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		tally.begin(time.Now())
		tell(ctx, &out, true, "burst", time.Minute, tally)
		const line = "\r\x1b[Kburst 1s/1m0s  0/s  at once 0  p50 0.0 ms  p99 0.0 ms  "
		if diff := cmp.Diff(line+line+"\r\x1b[K", out.String()); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	})
}

func TestSummary(t *testing.T) {
	tally := NewTally()
	tally.begin(time.Now())
	for i := range 100 {
		tally.started(time.Duration(i) * time.Millisecond)
		o := Outcome{Operation: "get", Wanted: true}
		if i == 99 {
			o = Outcome{Operation: "create", Err: errors.Coded(codes.Unavailable, "away")}
		}
		tally.ended(o, time.Duration(i+1)*time.Millisecond)
	}
	counts := tally.Counts()
	counts.Elapsed, counts.Missed = 2*time.Second, 3
	var out bytes.Buffer
	if err := summarize(&out, "steady", counts); err != nil {
		t.Fatal(err)
	}
	const want = `steady: 100 calls in 2s, 50.0/s, at most 1 at once

operation   calls   p50      p90      p99      max      codes
create      1       100 ms   100 ms   100 ms   100 ms   UNAVAILABLE 1
get         99      50 ms    90 ms    99 ms    99 ms    OK 99
all         100     50 ms    90 ms    100 ms   100 ms   OK 99, UNAVAILABLE 1

Latencies count from when a call was due. 89 calls began more than 10ms late, 3 never began.
unexpected: create UNAVAILABLE 1, the first: away
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}
