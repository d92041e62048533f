package interceptors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A caller whose deadline passes resets the stream. To the server that is a
// cancellation, which mostly comes just before its own timer; both sides say what it
// was (rules 2 and 11).
func TestRule11DeadlineOfTheCaller(t *testing.T) {
	wait := func(ctx context.Context, _ *interceptors.Call, _ interceptors.Next) error {
		<-ctx.Done()
		return ctx.Err()
	}
	const deadline = 5 * time.Second
	for _, test := range []struct {
		name   string
		cancel time.Duration
		want   string
	}{
		{"passes", time.Hour, "DEADLINE_EXCEEDED"},
		{"passes on the way", deadline - time.Millisecond, "DEADLINE_EXCEEDED"}, // the reset is ahead of the timer
		{"is far", deadline - 100*time.Millisecond, "CANCELLED"},
	} {
		everyKind(t, func(t *testing.T, kind interceptors.Kind) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, &stub{}, on(interceptors.ServerSide, wait))
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				defer cancel()
				defer time.AfterFunc(test.cancel, cancel).Stop()
				err := h.call(ctx, kind)
				if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Canceled {
					t.Errorf("%s: the caller got %v", test.name, err)
				}
				h.idle()
				if got := attrs(h.span(trace.SpanKindServer).Attributes())["rpc.response.status_code"]; got != test.want {
					t.Errorf("%s: the server's span has %v, want %s", test.name, got, test.want)
				}
				h.counted("rpc.server.call.duration", "rpc.response.status_code", map[string]int64{test.want: 1})
			})
		})
	}
}
