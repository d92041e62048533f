package faults_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/tests/faults"
)

// hurried is a client that has a limit for the call and one for each attempt.
func hurried(call, attempt time.Duration) []interceptors.ClientOption {
	return []interceptors.ClientOption{
		interceptors.Timeout(call),
		interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: attempt, InitialBackoff: 20 * time.Millisecond}),
	}
}

// each runs a test for all kinds of calls at the same time.
func each(t *testing.T, f func(*testing.T, interceptors.Kind)) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			f(t, kind)
		})
	}
}

// answers is how many messages a call of the kind receives.
func answers(kind interceptors.Kind) int {
	if kind == interceptors.Unary || kind == interceptors.ClientStream {
		return 1
	}
	return messages
}

// What does not fail is not made again, and takes what the network takes.
func TestDelay(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(time.Minute, 30*time.Second)})
		r.proxy.Set(faults.Weather{Delay: 100 * time.Millisecond})
		want := story{received: answers(kind), attempts: []codes.Code{codes.OK}, atLeast: 200 * time.Millisecond, atMost: 2 * time.Second}
		if kind == interceptors.BidiStream {
			want.atLeast *= messages
		}
		r.tell(kind, want, nil)
	})
}

// Where the network takes longer than the call has, the call ends when its time is up.
func TestDelayBeyondTimeout(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(300*time.Millisecond, 0)})
		r.proxy.Set(faults.Weather{Delay: 5 * time.Second})
		r.tell(kind, story{code: codes.DeadlineExceeded, attempts: []codes.Code{codes.DeadlineExceeded},
			atLeast: 300 * time.Millisecond, atMost: 300 * time.Millisecond}, func() { r.proxy.Reset() })
	})
}

// A black hole fails no call: time limits do. What can be made again is, in vain, for the
// connection is the same.
func TestBlackHole(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(3*time.Second, 200*time.Millisecond)})
		r.proxy.Set(faults.BlackHole)
		want := story{code: codes.DeadlineExceeded, attempts: []codes.Code{codes.DeadlineExceeded}, atLeast: 3 * time.Second, atMost: 3 * time.Second}
		if kind == interceptors.Unary || kind == interceptors.ServerStream {
			want.attempts = []codes.Code{codes.DeadlineExceeded, codes.DeadlineExceeded, codes.DeadlineExceeded}
			want.stopped = "attempts"
			want.atLeast, want.atMost = 600*time.Millisecond, 660*time.Millisecond
		}
		r.tell(kind, want, func() { r.proxy.Set(faults.Weather{}) })
	})
}

// A network that forgets answers only lets the server do the work, which is told when the
// caller has left.
func TestAnswersStall(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(3*time.Second, 200*time.Millisecond), service: service{before: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}})
		r.proxy.Set(faults.Weather{StallAnswers: true})
		want := story{code: codes.DeadlineExceeded, attempts: []codes.Code{codes.DeadlineExceeded}, atLeast: 3 * time.Second, atMost: 3 * time.Second}
		if kind == interceptors.Unary || kind == interceptors.ServerStream {
			want.attempts = []codes.Code{codes.DeadlineExceeded, codes.DeadlineExceeded, codes.DeadlineExceeded}
			want.stopped = "attempts"
			want.atLeast, want.atMost = 600*time.Millisecond, 660*time.Millisecond
		}
		r.tell(kind, want, nil)
	})
}

// A connection that is cut in the middle of the first answer is replaced, and the call made
// again where the caller had nothing of it, and had not sent a stream.
func TestCutInFirstMessage(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(10*time.Second, 5*time.Second)})
		n := answerLen / 2
		if kind == interceptors.ClientStream {
			n = 10 // of the headers: its answer is small
		}
		r.proxy.CutAfter(n)
		want := story{received: answers(kind), attempts: []codes.Code{codes.Unavailable, codes.OK}, atMost: time.Second}
		if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
			want = story{code: codes.Unavailable, attempts: []codes.Code{codes.Unavailable}, stopped: "committed", atMost: time.Second}
		}
		r.tell(kind, want, nil)
	})
}

// After the first message nothing is made again: the caller would get it twice.
func TestCutInSecondMessage(t *testing.T) {
	t.Parallel()
	for _, kind := range []interceptors.Kind{interceptors.ServerStream, interceptors.BidiStream} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			r := start(t, setup{client: hurried(10*time.Second, 5*time.Second)})
			r.proxy.CutAfter(answerLen + answerLen/2)
			r.tell(kind, story{code: codes.Unavailable, received: 1, attempts: []codes.Code{codes.Unavailable}, stopped: "committed", atMost: time.Second}, nil)
		})
	}
}

// A connection that is reset under a call that waits for its answer.
func TestReset(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		working := make(chan struct{}, 1)
		working <- struct{}{}
		var r *rig
		r = start(t, setup{client: hurried(10*time.Second, 5*time.Second), service: service{before: func(ctx context.Context) error {
			select {
			case <-working:
				r.proxy.Reset()
				<-ctx.Done()
				return ctx.Err()
			default:
				return nil
			}
		}}})
		want := story{received: answers(kind), attempts: []codes.Code{codes.Unavailable, codes.OK}, atMost: time.Second}
		if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
			want = story{code: codes.Unavailable, attempts: []codes.Code{codes.Unavailable}, stopped: "committed", atMost: time.Second}
		}
		r.tell(kind, want, nil)
	})
}

// A server that is not there refuses calls at once, also streams of requests: those were not
// opened, and are made again as the others are.
func TestRefuse(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(10*time.Second, 5*time.Second)})
		r.refuse()
		r.tell(kind, story{code: codes.Unavailable, attempts: []codes.Code{codes.Unavailable, codes.Unavailable, codes.Unavailable},
			stopped: "attempts", atMost: 60 * time.Millisecond}, nil)
	})
}

// A link that is too slow for the answer: the call ends when its time is up, an attempt at a
// server stream has its time until the first message only.
func TestThrottle(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(30*time.Second, 2*time.Second)})
		if kind == interceptors.ClientStream {
			r.proxy.Set(faults.Weather{BytesPerSecond: 100}) // its messages are small
		} else {
			r.proxy.Set(faults.Weather{BytesPerSecond: 64 << 10})
		}
		want := story{received: answers(kind), attempts: []codes.Code{codes.OK}, atLeast: time.Second, atMost: 6 * time.Second}
		if answers(kind) > 1 {
			want.atLeast *= messages
		}
		r.tell(kind, want, nil)
	})
}

func TestThrottleBeyondTimeout(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(3*time.Second, 500*time.Millisecond)})
		bytes := 16 << 10
		if kind == interceptors.ClientStream {
			bytes = 15
		}
		r.proxy.Set(faults.Weather{BytesPerSecond: bytes})
		want := story{code: codes.DeadlineExceeded, attempts: []codes.Code{codes.DeadlineExceeded}, atLeast: 3 * time.Second, atMost: 3 * time.Second}
		if kind == interceptors.Unary { // of a stream the headers come in time
			want.attempts = []codes.Code{codes.DeadlineExceeded, codes.DeadlineExceeded, codes.DeadlineExceeded}
			want.stopped = "attempts"
			want.atLeast, want.atMost = 1500*time.Millisecond, 1560*time.Millisecond
		}
		r.tell(kind, want, func() { r.proxy.Set(faults.Weather{}) })
	})
}
