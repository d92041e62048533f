package telemetry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func newTestDelivery(diag *DiagLog) (d *delivery, beginShutdown, giveUp func()) {
	closing := make(chan struct{})
	abort, cancel := context.WithCancel(context.Background())
	return &delivery{signal: signalTraces, timeout: 10 * time.Second, report: newReporter(diag.diagnostics(), "http://c", false), closing: closing, abort: abort},
		func() { close(closing) }, cancel
}

func throttled(t *testing.T, code codes.Code, delay time.Duration) error {
	t.Helper()
	s, err := status.New(code, "later").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// Which errors are tried again, and when.
func TestDeliveryRetries(t *testing.T) {
	unavailable := status.Error(codes.Unavailable, "down")
	httpStatus := func(code int, after time.Duration) error {
		return &httpError{attemptReply: attemptReply{status: code, retryAfter: after}, err: errors.New(http.StatusText(code))}
	}
	tests := []struct {
		name  string
		errs  []error // of the attempts; then nil
		tries int
		took  time.Duration // at most, and half of it at least; that long where the back end names it
		ok    bool
	}{
		{"at once", nil, 1, 0, true},
		{"twice in vain", []error{unavailable, unavailable}, 3, 1500 * time.Millisecond, true},
		{"the back end names the time", []error{throttled(t, codes.ResourceExhausted, 4*time.Second)}, 2, 4 * time.Second, true},
		{"no time named", []error{status.Error(codes.ResourceExhausted, "full")}, 1, 0, false},
		{"never right", []error{status.Error(codes.InvalidArgument, "bad")}, 1, 0, false},
		{"too late anyway", []error{throttled(t, codes.Unavailable, time.Minute)}, 1, 0, false},
		{"HTTP 429", []error{httpStatus(429, 3*time.Second)}, 2, 3 * time.Second, true},
		{"HTTP 503", []error{httpStatus(503, 0)}, 2, 500 * time.Millisecond, true},
		{"HTTP 400", []error{httpStatus(400, 0)}, 1, 0, false},
		{"network", []error{errors.New("connection reset")}, 2, 500 * time.Millisecond, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var diag DiagLog
				d, _, _ := newTestDelivery(&diag)
				start, tries := time.Now(), 0
				err := d.send(t.Context(), 7, func(context.Context) error {
					tries++
					if tries <= len(tt.errs) {
						return tt.errs[tries-1]
					}
					return nil
				})
				took, least := time.Since(start), tt.took/2
				if _, named := retryable(append(tt.errs, nil)[0]); named > 0 {
					least = tt.took
				}
				if (err == nil) != tt.ok || tries != tt.tries || took < least || took > tt.took {
					t.Errorf("error %v, %d attempts, %s; want ok %t, %d, %s to %s", err, tries, took, tt.ok, tt.tries, least, tt.took)
				}
				exported, failed := d.counts.exported.Load(), d.counts.failed.Load()
				if tt.ok && exported != 7 || !tt.ok && failed != 7 || exported+failed != 7 {
					t.Errorf("%d exported, %d failed", exported, failed)
				}
			})
		})
	}
}

// A batch that nobody takes is given up after its time, also when attempts hang.
func TestDeliveryGivesUp(t *testing.T) { // rule 33
	for name, attempt := range map[string]func(context.Context) error{
		"refused": func(context.Context) error { return status.Error(codes.Unavailable, "refused") },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() },
	} {
		synctest.Test(t, func(t *testing.T) {
			var diag DiagLog
			d, _, _ := newTestDelivery(&diag)
			start := time.Now()
			if err := d.send(t.Context(), 1, attempt); err == nil {
				t.Errorf("%s: no error", name)
			}
			if took := time.Since(start); took > d.timeout || took < d.timeout/2 {
				t.Errorf("%s: given up after %s, want about %s", name, took, d.timeout)
			}
		})
	}
}

// Shutdown does not wait for a back end that is down, but for one that has only
// just failed; and not beyond its deadline for any.
func TestDeliveryWhileShuttingDown(t *testing.T) { // rule 34
	down := func(context.Context) error { return status.Error(codes.Unavailable, "down") }
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		d, beginShutdown, giveUp := newTestDelivery(&diag)
		beginShutdown()
		start := time.Now()
		_ = d.send(t.Context(), 1, down)
		if took := time.Since(start); took != 0 {
			t.Errorf("never up: waited %s", took)
		}
		d.succeeded()
		time.AfterFunc(3*time.Second, giveUp)
		start = time.Now()
		_ = d.send(t.Context(), 1, down)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("up until now: waited %s, want until Shutdown gave up", took)
		}
	})
}

// Once Shutdown has given up nothing is encoded any more; what is left is counted.
func TestDeliveryAfterGivingUp(t *testing.T) { // rule 34
	var diag DiagLog
	d, _, giveUp := newTestDelivery(&diag)
	giveUp()
	_ = d.send(t.Context(), 5, func(context.Context) error { t.Error("an attempt"); return nil })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d, _, _ = newTestDelivery(&diag)
	_ = d.send(ended, 5, func(context.Context) error { t.Error("an attempt"); return nil })
	if f, l := d.counts.failed.Load(), d.counts.lost.Load(); f != 5 || l != 5 {
		t.Errorf("%d failed, %d lost; want 5", f, l)
	}
}

// What the back end rejects of a batch counts as failed, and is said once.
func TestPartialSuccess(t *testing.T) {
	var diag DiagLog
	d, _, _ := newTestDelivery(&diag)
	for range 2 {
		if err := d.send(t.Context(), 10, func(context.Context) error {
			return errors.New("OTLP partial success: too old (4 spans rejected)")
		}); err != nil {
			t.Error(err)
		}
	}
	if e, f := d.counts.exported.Load(), d.counts.failed.Load(); e != 12 || f != 8 {
		t.Errorf("%d exported, %d failed; want 12, 8", e, f)
	}
	if got := diag.Lines("rejected some traces"); len(got) != 1 {
		t.Errorf("reported %q", diag.Lines(""))
	}
}

// A warning with which a batch is taken whole costs nothing.
// https://opentelemetry.io/docs/specs/otlp/#partial-success
func TestPartialSuccessWarning(t *testing.T) {
	var diag DiagLog
	d, _, _ := newTestDelivery(&diag)
	for range 2 {
		if err := d.send(t.Context(), 10, func(context.Context) error {
			return errors.New("OTLP partial success: use the new port (soon) (0 spans rejected)")
		}); err != nil {
			t.Error(err)
		}
	}
	if e, f := d.counts.exported.Load(), d.counts.failed.Load(); e != 20 || f != 0 {
		t.Errorf("%d exported, %d failed; want 20, 0", e, f)
	}
	if got := diag.Lines(""); len(got) != 1 || !strings.Contains(got[0], "took all traces with a warning") || !strings.Contains(got[0], "use the new port (soon)") {
		t.Errorf("reported %q", got)
	}
}

// A panic in an exporter of the user's is a failed batch.
func TestExporterPanics(t *testing.T) {
	var diag DiagLog
	d, _, _ := newTestDelivery(&diag)
	d.once = true
	if err := d.send(t.Context(), 2, func(context.Context) error { panic("boom") }); err == nil {
		t.Error("no error")
	}
	state, _, lastErr := d.current()
	if state != StateFailing || lastErr.Error() != "the exporter panicked: boom" || d.counts.failed.Load() != 2 {
		t.Errorf("state %s, last error %v, %d failed", state, lastErr, d.counts.failed.Load())
	}
}

// An unsupported signal rests for five minutes, then is tried once more.
func TestUnsupportedPauses(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		var diag DiagLog
		d, _, _ := newTestDelivery(&diag)
		tries := 0
		start := time.Now()
		for time.Since(start) < 12*time.Minute {
			_ = d.send(t.Context(), 1, func(context.Context) error { tries++; return status.Error(codes.Unimplemented, "unknown service") })
			advance(time.Second)
		}
		if tries != 3 || len(diag.Lines("")) != 1 || d.counts.lost.Load() != 0 {
			t.Errorf("%d attempts, %d lost, reported:\n%s", tries, d.counts.lost.Load(), &diag)
		}
		advance(5 * time.Minute)
		if err := d.send(t.Context(), 1, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if state, _, _ := d.current(); state != StateOK {
			t.Errorf("state is %s", state)
		}
	})
}

// Retries of many services must not come all at once.
func TestJitter(t *testing.T) {
	const wait = time.Second
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jittered(wait)
		if d < wait/2 || d > wait {
			t.Fatalf("jittered(%v) is %v, want half of it to all of it", wait, d)
		}
		seen[d] = true
	}
	if len(seen) < 90 {
		t.Errorf("100 waits have %d different lengths", len(seen))
	}
}
