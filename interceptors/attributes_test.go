package interceptors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// keys are those of a record, as often as it has them.
func keys(t *testing.T, record string) (all map[string]int) {
	t.Helper()
	d, all := json.NewDecoder(strings.NewReader(record)), map[string]int{}
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '}' {
				return all
			}
			depth++
		case string:
			all[token]++
			var value json.RawMessage
			if err := d.Decode(&value); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Of several attributes with the same key the last one counts, and no record has a
// key twice.
func TestLastAttributeOfAKeyCounts(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		outer := interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.AddAttributes(attribute.Int("rpcscope.retry.attempts", 1), attribute.Int("kind", 1), attribute.Int("after", 1), attribute.String("rpc.kind", "mine"),
				attribute.String("rpc.method", "mine"), attribute.Int("rpc.messages_sent", 7), attribute.String("error.reason", "MINE"))
			err := next(ctx)
			call.AddAttributes(attribute.Int("rpcscope.retry.attempts", 3))
			return err
		})
		inner := interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.AddAttributes(attribute.Int("rpcscope.retry.attempts", 2))
			_ = next(ctx)
			return errors.NotFound("no such thing").WithReason("example.com", "NO_SUCH_THING")
		})
		h := start(t, &stub{}, func(h *harness) {
			on(side, outer, inner)(h)
			if o := interceptors.WithAttributes(func(context.Context, *interceptors.Call) []attribute.KeyValue {
				return []attribute.KeyValue{attribute.Int("after", 2), attribute.String("duration_us", "mine")}
			}); side == interceptors.ServerSide {
				h.servers = append(h.servers, o)
			} else {
				h.clients = append(h.clients, o)
			}
		})
		if err := h.call(h.ctx(), kind); err == nil {
			t.Fatal("no error")
		}
		h.ended(2)
		spanKind := map[interceptors.Side]trace.SpanKind{interceptors.ServerSide: trace.SpanKindServer, interceptors.ClientSide: trace.SpanKindClient}[side]
		want := map[string]any{"rpcscope.retry.attempts": int64(3), "kind": int64(1), "after": int64(2), "error.reason": "MINE", "duration_us": "mine"}
		span := attrs(h.span(spanKind).Attributes())
		for k, v := range want {
			if span[k] != v {
				t.Errorf("the span has %s=%v, want %v", k, span[k], v)
			}
		}
		lines := strings.Split(strings.TrimSpace(h.logs.String()), "\n")
		for i, r := range h.logs.records(t) {
			for k, n := range keys(t, lines[i]) {
				if n != 1 {
					t.Errorf("%s is in the record %d times: %s", k, n, lines[i])
				}
			}
			if r["msg"] != side.String()+" call" {
				continue
			}
			for k, v := range want {
				if fmt.Sprint(r[k]) != fmt.Sprint(v) {
					t.Errorf("the record has %s=%v, want %v", k, r[k], v)
				}
			}
			if got := []any{r["rpc.kind"], r["rpc.method"] == "mine", r["rpc.messages_sent"] == 7.0}; !cmp.Equal(got, []any{kind.String(), false, false}) {
				t.Errorf("the record has another kind, method or count: %s", lines[i])
			}
		}
	})
}
