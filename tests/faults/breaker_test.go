package faults_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/tests/faults"
)

const openFor = time.Second

// guarded is a client that retries twice and has a breaker that opens with the third failure.
func guarded(call, attempt time.Duration) []interceptors.ClientOption {
	return append(hurried(call, attempt), interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 3, OpenFor: openFor}))
}

// A server that goes away and comes back: the attempts of one call open the breaker, the next
// call fails at once without an attempt that is sent, and when the server is back a call
// closes it. All of that is in the metrics, and in the traces of the calls that saw it.
func TestBreakerOnRefusal(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: guarded(2*time.Second, 0)})
		r.refuse()
		r.opens(kind, codes.Unavailable)
		if err := r.proxy.Accept(); err != nil {
			t.Fatal(err)
		}
		r.closes(kind)
	})
}

// A black hole is a failure to a breaker by the time limits, of attempts where a call can be made
// again and else of calls.
func TestBreakerOnBlackHole(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			r := start(t, setup{client: guarded(time.Second, 50*time.Millisecond)})
			r.proxy.Set(faults.BlackHole)
			if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
				for range 2 { // an attempt each
					if _, err := r.call(context.Background(), kind); errors.Code(err) != codes.DeadlineExceeded {
						t.Fatalf("the call ended with %v, want DeadlineExceeded", err)
					}
				}
				r.Reset()
			}
			r.opens(kind, codes.DeadlineExceeded)
			r.proxy.Set(faults.Weather{})
			r.closes(kind)
		})
	}
}

// opens makes the call that opens the breaker, and one that it refuses.
func (r *rig) opens(kind interceptors.Kind, code codes.Code) {
	r.t.Helper()
	if _, err := r.call(context.Background(), kind); errors.Code(err) != code {
		r.t.Fatalf("the call that opens the breaker ended with %v, want %v", err, code)
	}
	r.state(2)
	opened := r.Spans().Named(methods[kind]).Kind(trace.SpanKindClient).One()
	event := 0
	for _, span := range append(r.Spans().Named("Attempt."+opened.Name()).All(), opened) {
		event += len(span.Events())
	}
	if event != 1 {
		r.t.Errorf("%d events in the trace of the call that opened the breaker, want 1: of the transition", event)
	}
	r.Reset()

	sent := r.Metric("rpc.server.call.duration").HistogramCount()
	begun := time.Now()
	_, err := r.call(context.Background(), kind)
	after, _ := errors.RetryAfter(err)
	if took := time.Since(begun); !errors.Is(err, interceptors.ErrBreakerOpen) || after <= 0 || after > openFor || took > slack {
		r.t.Fatalf("after %v the call ended with %v, to be made again in %v; want ErrBreakerOpen at once, and at most %v", took, err, after, openFor)
	}
	r.idle()
	refused := r.Spans().Named(methods[kind]).Kind(trace.SpanKindClient).One()
	refused.Root().Has(attribute.String("error.reason", "BREAKER_OPEN"), attribute.String("rpcscope.breaker.state", "open"), attribute.String("rpcscope.rejected.reason", "breaker_open"))
	if n := r.Metric("rpcscope.client.rejected").Counter(attribute.String("rpcscope.rejected.reason", "breaker_open")); n < 1 {
		r.t.Errorf("%d refusals are counted, want them; %s", n, r.Metric("rpcscope.client.rejected"))
	}
	if n := r.Metric("rpc.server.call.duration").HistogramCount(); n != sent {
		r.t.Errorf("the server had %d calls while the breaker was open", n-sent)
	}
}

// closes waits until the breaker is half-open, and makes the call that closes it.
func (r *rig) closes(kind interceptors.Kind) {
	r.t.Helper()
	r.reaches(connectivity.Ready)
	r.eventually("the breaker's state", func() int64 { return int64(r.Metric("rpcscope.client.breaker.state").Gauge()) }, 1)
	patient := []grpc.CallOption{grpc.WaitForReady(true), interceptors.CallTimeout(10 * time.Second), interceptors.CallRetry(interceptors.RetryPolicy{})}
	if received, err := r.call(context.Background(), kind, patient...); err != nil || received != answers(kind) {
		r.t.Errorf("the probe got %d messages and %v, want %d and nil", received, err, answers(kind))
	}
	r.idle()
	r.state(0)
	if _, err := r.call(context.Background(), kind, patient...); err != nil {
		r.t.Errorf("when all was well again the call ended with %v", err)
	}
	for _, change := range [][2]string{{"closed", "open"}, {"open", "half_open"}, {"half_open", "closed"}} {
		if n := r.Metric("rpcscope.client.breaker.transitions").Counter(attribute.String("rpcscope.breaker.from", change[0]), attribute.String("rpcscope.breaker.to", change[1])); n != 1 {
			r.t.Errorf("%d changes from %s to %s are counted, want 1; %s", n, change[0], change[1], r.Metric("rpcscope.client.breaker.transitions"))
		}
	}
}

func (r *rig) state(want float64) {
	r.t.Helper()
	if got := r.Metric("rpcscope.client.breaker.state").Gauge(attribute.String("rpcscope.breaker.name", "grpc.testing.TestService")); got != want {
		r.t.Fatalf("the breaker's state is %v, want %v", got, want)
	}
}
