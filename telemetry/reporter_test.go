package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A configured endpoint: a WARN at once, after 1, 5, 15 minutes and every 15
// from there, with counts; one line on recovery, and then from the start again.
func TestReporterSchedule(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		r := newReporter(diag.diagnostics(), "http://c:4317", false)
		r.succeeded(signalTraces)
		start, seen := time.Now(), 0
		var at []time.Duration
		for time.Since(start) <= time.Hour {
			r.failed(signalTraces, 10, errors.New("connection refused"))
			r.failed(signalLogs, 1, errors.New("connection refused"))
			if n := len(diag.Lines("")); n > seen {
				at, seen = append(at, time.Since(start)), n
			}
			advance(10 * time.Second)
		}
		want := []int{0, 1, 5, 15, 30, 45, 60} // minutes
		if len(at) != len(want) {
			t.Fatalf("reported at %s, want %d lines:\n%s", at, len(want), &diag)
		}
		for i := range want {
			if got := at[i].Minutes(); got != float64(want[i]) {
				t.Errorf("line %d came after %v minutes, want %d", i, got, want[i])
			}
		}
		lines := diag.Lines("")
		if want := `level=WARN msg="cannot deliver telemetry to http://c:4317" signal=traces error="connection refused" for=1m0s lost.traces=70 lost.logs=6`; lines[1] != want {
			t.Errorf("got  %s\nwant %s", lines[1], want)
		}
		r.succeeded(signalTraces)
		r.succeeded(signalLogs)
		if got := diag.Lines("level=INFO msg=\"telemetry is delivered again to http://c:4317\" after=1h0m10s lost.traces=3610 lost.logs=361"); len(got) != 1 {
			t.Errorf("recovery was reported as %q", diag.Lines("INFO"))
		}
		advance(calmAfter)
		r.failed(signalTraces, 1, errors.New("connection refused"))
		if got := diag.Lines("")[seen+1:]; len(got) != 1 || !strings.HasSuffix(got[0], `error="connection refused" lost.traces=1`) {
			t.Errorf("new trouble was reported as %q", got)
		}
	})
}

// The default endpoint that never answered: one line, however long.
func TestReporterDefaultEndpoint(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		r := newReporter(diag.diagnostics(), "http://localhost:4317", true)
		for range 1000 {
			r.trying(signalTraces, errors.New("connection refused"))
			r.failed(signalMetrics, 1, errors.New("connection refused"))
			advance(time.Minute)
		}
		if got := diag.Lines(""); len(got) != 1 || !strings.HasPrefix(got[0], "level=INFO") {
			t.Errorf("reported %q", got)
		}
		if !r.unasked() {
			t.Error("someone waits for the data")
		}
		r.succeeded(signalTraces)
		advance(calmAfter)
		r.failed(signalTraces, 1, errors.New("connection refused"))
		if got := diag.Lines("level=WARN"); len(got) != 1 || r.unasked() {
			t.Errorf("once it has answered, trouble is reported as %q", got)
		}
	})
}

// An endpoint that comes and goes: the lines become rare, and count everything.
func TestReporterFlapping(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		r := newReporter(diag.diagnostics(), "http://c:4317", false)
		const rounds = 180 // of 20 seconds: an hour
		for range rounds {
			r.failed(signalTraces, 10, errors.New("connection refused"))
			advance(10 * time.Second)
			r.succeeded(signalTraces)
			advance(10 * time.Second)
		}
		warned, recovered, lost := diag.Lines("level=WARN"), diag.Lines("level=INFO"), 0
		for _, line := range recovered {
			var n int
			_, after, _ := strings.Cut(line, "lost.traces=")
			if _, err := fmt.Sscan(after, &n); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			lost += n
		}
		if len(warned) != 4 || len(recovered) != 4 { // at once, then every quarter of an hour
			t.Errorf("reported:\n%s", &diag)
		}
		if want := 10 * rounds; lost+r.lost[signalTraces] != want {
			t.Errorf("counted %d and %d still to be said, want %d", lost, r.lost[signalTraces], want)
		}
	})
}

// What relapses for good is not left unsaid for long.
func TestReporterRelapse(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		r := newReporter(diag.diagnostics(), "http://c:4317", false)
		for range 61 {
			r.failed(signalTraces, 1, errors.New("connection refused"))
			advance(time.Minute)
		}
		r.succeeded(signalTraces)
		seen, start := len(diag.Lines("")), time.Now()
		for len(diag.Lines("")) == seen {
			advance(10 * time.Second)
			r.failed(signalTraces, 1, errors.New("connection refused"))
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("a relapse was said after %s, want a minute", took)
		}
	})
}

// A back end that takes one signal and refuses another, for want of a right or
// because a batch is too large, is no back end that comes and goes.
func TestReporterOneSignalRefused(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		r := newReporter(diag.diagnostics(), "http://c:4317", false)
		denied := status.Error(codes.PermissionDenied, "no logs for you")
		for range 100 {
			r.succeeded(signalTraces)
			r.failed(signalLogs, 1, denied)
			if !r.reached() {
				t.Fatal("the endpoint is taken for dead")
			}
			advance(time.Second)
		}
		if got := diag.Lines(""); len(got) != 2 || len(diag.Lines("level=WARN")) != 2 || !strings.Contains(got[1], "for=1m0s lost.logs=61") {
			t.Errorf("reported %q, want a warning and one after a minute", got)
		}
		r.succeeded(signalLogs)
		if got := diag.Lines("delivered again"); len(got) != 1 {
			t.Errorf("recovery was reported as %q", got)
		}
	})
}

// What was refused as unsupported may be taken later, by a newer back end.
func TestReporterTakesSignalAgain(t *testing.T) { // rule 33
	var diag DiagLog
	r := newReporter(diag.diagnostics(), "http://c:4317", false)
	for range 3 {
		r.unsupported(signalLogs, errors.New("unknown service"))
	}
	r.succeeded(signalTraces)
	r.succeeded(signalLogs)
	r.succeeded(signalLogs)
	if got := diag.Lines(""); len(got) != 2 || !strings.Contains(got[0], "does not take logs") || got[1] != `level=INFO msg="http://c:4317 takes logs now"` {
		t.Errorf("reported %q", got)
	}
}

func TestCause(t *testing.T) {
	tests := map[string]string{
		`traces export: rpc error: code = Unavailable desc = connection error: desc = "transport: refused"`: `connection error: desc = "transport: refused`,
		"failed to upload metrics: context deadline exceeded":                                               "context deadline exceeded",
		"\nsecond": "second",
	}
	for in, want := range tests {
		if got := cause(errors.New(in)); got != want {
			t.Errorf("cause(%q) = %q, want %q", in, got, want)
		}
	}
}
