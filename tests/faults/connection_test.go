package faults_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// A connection whose other end is gone without a word looks like a slow server. Attempts
// that time out are made again on it, in vain; a client's keepalive finds out, after which
// the attempts under way fail and what can be made again is, on a new connection. gRPC sends
// no such ping more often than every 10 seconds.
func TestHalfOpenWithKeepalive(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(time.Minute, 0), dial: []grpc.DialOption{
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}),
		}})
		r.proxy.LoseServer()
		want := story{received: answers(kind), attempts: []codes.Code{codes.Unavailable, codes.OK}, atLeast: 10 * time.Second, atMost: 11 * time.Second}
		if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
			want.code, want.received, want.attempts, want.stopped = codes.Unavailable, 0, want.attempts[:1], "committed"
		}
		r.tell(kind, want, nil)
	})
}

// Without keepalive time limits are all that ends a call, and the next one gets the same
// connection.
func TestHalfOpenWithoutKeepalive(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		r := start(t, setup{client: hurried(300*time.Millisecond, 0)})
		r.proxy.LoseServer()
		r.tell(kind, story{code: codes.DeadlineExceeded, attempts: []codes.Code{codes.DeadlineExceeded}, atLeast: 300 * time.Millisecond, atMost: 300 * time.Millisecond}, nil)
		if _, err := r.call(context.Background(), kind); err == nil {
			t.Error("the next call went well, on a connection that nothing comes from")
		}
		if n := r.proxy.Connections(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// A server learns by its own keepalive that a client is gone: what handlers wait for ends,
// and the calls with it.
func TestHalfOpenClient(t *testing.T) {
	each(t, func(t *testing.T, kind interceptors.Kind) {
		began, ended := make(chan struct{}), make(chan error, 1)
		r := start(t, setup{
			client: []interceptors.ClientOption{interceptors.Timeout(10 * time.Second)}, // which has not really gone
			server: []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Second})},
			service: service{before: func(ctx context.Context) error {
				close(began)
				<-ctx.Done()
				ended <- ctx.Err()
				return ctx.Err()
			}},
		})
		caller, leave := context.WithCancel(context.Background())
		answered := make(chan error, 1)
		go func() {
			_, err := r.call(caller, kind)
			answered <- err
		}()
		<-began
		r.proxy.LoseClient()
		begun := time.Now()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want it cancelled", err)
		}
		if took := time.Since(begun); took > 2*time.Second+slack {
			t.Errorf("the handler knew after %v, want 2s", took)
		}
		r.eventually("calls in flight on the server", func() int64 { return r.Metric("rpcscope.server.active_calls").Counter() }, 0)
		leave()
		if err := <-answered; err == nil {
			t.Error("the caller got an answer")
		}
		r.idle()
		r.Spans().Named(methods[kind]).Kind(trace.SpanKindServer).One().Has(attribute.String("rpc.response.status_code", "CANCELLED"))
	})
}
