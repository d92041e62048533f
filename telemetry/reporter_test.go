package telemetry

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
		r.failed(signalTraces, 1, errors.New("connection refused"))
		if n := len(diag.Lines("")); n != seen+2 {
			t.Errorf("new trouble was reported with %d lines", n-seen-1)
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
		r.failed(signalTraces, 1, errors.New("connection refused"))
		if got := diag.Lines("level=WARN"); len(got) != 1 || r.unasked() {
			t.Errorf("once it has answered, trouble is reported as %q", got)
		}
	})
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
