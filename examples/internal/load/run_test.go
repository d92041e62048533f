package load

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// took returns how calls that take d end.
func took(d time.Duration) func(context.Context, int64) Outcome {
	return func(context.Context, int64) Outcome {
		<-time.After(d) // in a bubble
		return Outcome{Operation: "op", Wanted: true}
	}
}

func TestRunIsOpen(t *testing.T) {
	type want struct {
		calls, late, missed int64
		atOnce              int
		elapsed, max        time.Duration
	}
	tests := []struct {
		name string
		plan Plan
		each time.Duration
		want want
	}{
		{"quick calls", Plan{Even(10), 10 * time.Second, 0, 4}, time.Millisecond, want{100, 0, 0, 1, 9901 * time.Millisecond, time.Millisecond}},
		{"slow calls are at once", Plan{Even(10), 10 * time.Second, 0, 40}, 950 * time.Millisecond, want{100, 0, 0, 10, 10850 * time.Millisecond, 950 * time.Millisecond}},
		// The caller makes one call a second of the two that are due: the fourth begins at 3 s, due at 1.5 s, and takes 1 s.
		{"a caller that is busy delays the next", Plan{Even(2), 10 * time.Second, 4, 1}, time.Second, want{4, 3, 0, 1, 4 * time.Second, 2500 * time.Millisecond}},
		// Those that it cannot make in time are told, too.
		{"what never began", Plan{Even(2), 3500 * time.Millisecond, 0, 1}, time.Second, want{4, 3, 3, 1, 4 * time.Second, 2500 * time.Millisecond}},
		{"a number of calls", Plan{Even(10), time.Hour, 7, 4}, time.Millisecond, want{7, 0, 0, 1, 601 * time.Millisecond, time.Millisecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tally := NewTally()
				tt.plan.Run(t.Context(), tally, took(tt.each))
				c := tally.Counts()
				got := want{c.Calls, c.Late, c.Missed, c.MostAtOnce, c.Elapsed, c.Latencies.Max()}
				if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
					t.Errorf("run (-want +got):\n%s", diff)
				}
				if c.AtOnce != 0 {
					t.Errorf("got %d calls under way after the end, want none", c.AtOnce)
				}
			})
		})
	}
}

// Who interrupts a run gets what was counted until then: nothing begins any more, and what is under way ends.
func TestRunInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2050*time.Millisecond)
		defer cancel()
		var cancelled atomic.Int64
		tally := NewTally()
		Plan{Even(10), time.Hour, 0, 50}.Run(ctx, tally, func(ctx context.Context, i int64) Outcome {
			outcome := took(time.Second)(ctx, i)
			if ctx.Err() != nil {
				cancelled.Add(1)
			}
			return outcome
		})
		if c := tally.Counts(); c.Calls != 21 || c.Missed != 0 || c.Elapsed != 3*time.Second {
			t.Errorf("got %d calls, %d missed, in %v, want 21, 0 and 3s", c.Calls, c.Missed, c.Elapsed)
		}
		if n := cancelled.Load(); n != 0 {
			t.Errorf("got %d calls cancelled, want none", n)
		}
	})
}

func TestPaces(t *testing.T) {
	// 10 a second for 4 s, 50 in the fifth, and again.
	bursts := Bursts(10)
	for i, want := range map[int64]time.Duration{
		0: 0, 1: 100 * time.Millisecond, 39: 3900 * time.Millisecond, 40: 4 * time.Second, 41: 4020 * time.Millisecond,
		89: 4980 * time.Millisecond, 90: 5 * time.Second, 91: 5100 * time.Millisecond, 180: 10 * time.Second,
	} {
		if got := bursts(i).Round(time.Microsecond); got != want {
			t.Errorf("call %d of bursts: got %v, want %v", i, got, want)
		}
	}
	last := time.Duration(-1)
	for i := range int64(10_000) {
		if d := bursts(i); d < last {
			t.Fatalf("call %d of bursts: got %v, before %v of the one before it", i, d, last)
		} else {
			last = d
		}
	}
	for _, tt := range []struct {
		pace  Pace
		of    time.Duration
		limit int64
		want  int64
	}{
		{Even(10), time.Second, 1000, 10}, {Even(10), time.Second, 7, 7}, {Even(10), 0, 1000, 0},
		{Even(10), 1001 * time.Millisecond, 1000, 11}, {bursts, 10 * time.Second, 1 << 62, 180},
	} {
		if got := tt.pace.due(tt.of, tt.limit); got != tt.want {
			t.Errorf("due in %v, at most %d: got %d, want %d", tt.of, tt.limit, got, tt.want)
		}
	}
}

func TestLatencies(t *testing.T) {
	var none Latencies
	if got := none.Quantile(0.99); got != 0 {
		t.Errorf("p99 of nothing: got %v, want 0", got)
	}
	var l, low, high Latencies
	for i := range 10_000 {
		d := time.Duration(i+1) * 100 * time.Microsecond // to a second
		l.Add(d)
		if i < 5000 {
			low.Add(d)
		} else {
			high.Add(d)
		}
	}
	for _, q := range []float64{0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := time.Duration(q * float64(time.Second))
		if got := l.Quantile(q); got < exact || got > exact+exact/32+time.Microsecond {
			t.Errorf("quantile %v: got %v, want %v to 1/32 more", q, got, exact)
		}
	}
	low.Merge(&high)
	if diff := cmp.Diff(l, low, cmp.AllowUnexported(Latencies{})); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Microsecond, 31 * time.Microsecond, 32 * time.Microsecond, 63 * time.Microsecond, 64 * time.Microsecond, time.Hour} {
		i := bucketOf(d)
		if below := d > 0 && i > 0 && boundOf(i-1) > d; below || boundOf(i) <= d {
			t.Errorf("%v is in the bucket from %v to %v", d, boundOf(max(0, i-1)), boundOf(i))
		}
	}
	l.Add(1000 * time.Hour)
	if got := l.Quantile(1); got > 1000*time.Hour || l.Max() != 1000*time.Hour {
		t.Errorf("got quantile %v and max %v after %v", got, l.Max(), 1000*time.Hour)
	}
}
