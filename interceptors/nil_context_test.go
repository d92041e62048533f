package interceptors_test

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Rule 10: an interceptor that gives next a nil context ends its call, and not
// the process.
func TestRule10NilContext(t *testing.T) {
	giveNil := interceptors.Interceptor(func(_ context.Context, _ *interceptors.Call, next interceptors.Next) error {
		return next(nil)
	})
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, on(side, giveNil))
		if err := h.call(h.ctx(), kind); status.Code(err) != codes.Internal {
			t.Errorf("the caller got %v, want Internal", err)
		}
		spanKind := map[interceptors.Side]trace.SpanKind{interceptors.ServerSide: trace.SpanKindServer, interceptors.ClientSide: trace.SpanKindClient}[side]
		if got := attrs(h.span(spanKind).Attributes())["rpc.response.status_code"]; got != "INTERNAL" {
			t.Errorf("%s span: %v, want INTERNAL", side, got)
		}
		h.idle()
		for _, r := range h.logs.records(t) {
			if text, _ := r["error.message"].(string); r["msg"] == side.String()+" call" && !strings.Contains(text, "an interceptor gave next a nil context") {
				t.Errorf("the record of the %s says %q", side, text)
			}
		}
	})
	t.Run("literal", func(t *testing.T) {
		pass := interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) })
		call := &interceptors.Call{FullMethod: unaryMethod}
		for _, i := range []interceptors.Interceptor{interceptors.Chain(giveNil, pass), interceptors.Chain(pass, giveNil)} {
			err := i(t.Context(), call, func(context.Context) error {
				t.Error("next was called")
				return nil
			})
			if errors.Code(err) != codes.Internal || !strings.Contains(err.Error(), unaryMethod+": an interceptor gave next a nil context") {
				t.Errorf("the chain returned %v", err)
			}
		}
	})
}
