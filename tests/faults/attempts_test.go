package faults_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/faults"
)

// gRPC's own retries make a call again on a new connection too, streams of requests
// among them, which it has a copy of. It is one call with its attempts all the same.
func TestServiceConfigOnReset(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		var made atomic.Int64
		var r *rig
		r = start(t, setup{
			client: []interceptors.ClientOption{interceptors.WithAttempts()},
			dial:   []grpc.DialOption{grpc.WithDefaultServiceConfig(interceptors.RetryServiceConfig(interceptors.RetryPolicy{}))},
			service: service{before: func(ctx context.Context) error {
				if made.Add(1) > 1 {
					return nil
				}
				r.proxy.Reset()
				<-ctx.Done()
				return ctx.Err()
			}},
		})
		if received, err := r.call(context.Background(), kind); err != nil || received != answers(kind) {
			t.Errorf("the caller got %d messages and %v, want %d", received, err, answers(kind))
		}
		r.idle()
		call := r.Spans().Named(methods[kind]).Kind(trace.SpanKindClient).One().Root()
		r.attempts(call, "OK", "UNAVAILABLE")
		r.counted(map[string]int64{"initial": 1, "retry": 1})
	})
}

// A call that hangs in the server has its answer from another attempt, and the one that hung
// is cancelled there.
func TestHedgeOnHandlerThatHangs(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	r := start(t, setup{
		client: []interceptors.ClientOption{interceptors.Timeout(10 * time.Second), interceptors.Hedge(interceptors.HedgePolicy{Delay: 100 * time.Millisecond})},
		service: service{before: func(ctx context.Context) error {
			if made.Add(1) > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}},
	})
	begun := time.Now()
	if _, err := r.call(context.Background(), interceptors.Unary); err != nil {
		t.Errorf("the caller got %v", err)
	}
	if took := time.Since(begun); took < 100*time.Millisecond || took > 100*time.Millisecond+slack {
		t.Errorf("it took %v, want 100ms", took)
	}
	r.idle()
	call := r.Spans().Named(methods[interceptors.Unary]).Kind(trace.SpanKindClient).One().Root()
	r.attempts(call, "CANCELLED", "OK")
	r.counted(map[string]int64{"initial": 1, "hedge": 1})
	r.Spans().Named(methods[interceptors.Unary]).Kind(trace.SpanKindServer).With(attribute.String("rpc.response.status_code", "CANCELLED")).One()
}

// Hedges go to the same connection as long as there is one: a black hole takes them all, and
// the call ends when its time is up.
func TestHedgeOnBlackHole(t *testing.T) {
	t.Parallel()
	r := start(t, setup{client: []interceptors.ClientOption{interceptors.Timeout(time.Second),
		interceptors.Hedge(interceptors.HedgePolicy{Delay: 100 * time.Millisecond, MaxAttempts: 3})}})
	r.proxy.Set(faults.BlackHole)
	begun := time.Now()
	_, err := r.call(context.Background(), interceptors.Unary)
	if took := time.Since(begun); !errors.Is(err, interceptors.ErrTimeout) || took < time.Second || took > time.Second+slack {
		t.Errorf("after %v the caller got %v, want ErrTimeout after a second", took, err)
	}
	r.proxy.Set(faults.Weather{})
	r.idle()
	r.attempts(r.Spans().Named(methods[interceptors.Unary]).Kind(trace.SpanKindClient).One().Root(), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
	r.counted(map[string]int64{"initial": 1, "hedge": 2})
}

// A call that waits for the connection is not refused when there is none: it is made when the
// server is back, or ends when its time is up.
func TestRefuseWaitForReady(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(10*time.Second, 0)})
		r.refuse()
		if _, err := r.call(context.Background(), kind, grpc.WaitForReady(true), interceptors.CallTimeout(200*time.Millisecond)); errors.Code(err) != codes.DeadlineExceeded {
			t.Errorf("without a server the call ended with %v, want DeadlineExceeded", err)
		}
		timer := time.AfterFunc(200*time.Millisecond, func() {
			if err := r.proxy.Accept(); err != nil {
				t.Error(err)
			}
		})
		defer timer.Stop()
		begun := time.Now()
		if received, err := r.call(context.Background(), kind, grpc.WaitForReady(true)); err != nil || received != answers(kind) {
			t.Errorf("when the server came back the caller got %d messages and %v, want %d", received, err, answers(kind))
		}
		if took := time.Since(begun); took < 200*time.Millisecond || took > 500*time.Millisecond+slack {
			t.Errorf("it took %v, want 200ms to 500ms", took)
		}
		r.idle()
		r.counted(map[string]int64{"initial": 2})
	})
}

// attempts checks how those of a call ended, in any order.
func (r *rig) attempts(call telemetrytest.Span, want ...string) {
	r.t.Helper()
	var got []string
	for _, span := range r.Spans().Named("Attempt." + call.Name()).All() {
		got = append(got, span.ChildOf(call).Attr("rpc.response.status_code").AsString())
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("how the attempts ended (-want +got):\n%s", diff)
	}
}

// counted checks what rpcscope.client.attempts says.
func (r *rig) counted(want map[string]int64) {
	r.t.Helper()
	metric := r.Metric("rpcscope.client.attempts")
	all := int64(0)
	for kind, n := range want {
		all += n
		if got := metric.Counter(attribute.String("rpcscope.attempt", kind)); got != n {
			r.t.Errorf("%d attempts are %s, want %d", got, kind, n)
		}
	}
	if got := metric.Counter(); got != all {
		r.t.Errorf("%d attempts, want %d; %s", got, all, metric)
	}
}
