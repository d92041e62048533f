package interceptors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Rule 29: a token is in no span, metric, log record or error, whether it came
// as metadata or is quoted by what a handler failed with.
func TestRule29Secrets(t *testing.T) {
	const secret = "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG"
	const quoted = "verify Bearer " + secret + ": expired"
	endings := map[string]func() error{
		"OK":     func() error { return nil },
		"typed":  func() error { return errors.Unauthenticated("%s", quoted).WithCause(errors.New(quoted)) },
		"fault":  func() error { return errors.Internal(errors.New(quoted)) },
		"plain":  func() error { return fmt.Errorf("auth: %w", errors.New(quoted)) },
		"status": func() error { return status.Error(codes.Unauthenticated, quoted) },
		"panic":  func() error { panic(quoted) },
	}
	engines := map[string][]interceptors.Option{
		"ours":     {interceptors.WithMessageEvents(), interceptors.WithMessageMetrics()},
		"otelgrpc": {interceptors.WithOTelGRPC()},
	}
	for engine, options := range engines {
		for ending, end := range endings {
			t.Run(engine+"/"+ending, func(t *testing.T) {
				h := start(t, &stub{}, func(h *harness) {
					h.clients = append(h.clients, interceptors.WithAttempts())
					for _, o := range options {
						h.servers, h.clients = append(h.servers, o), append(h.clients, o)
					}
					// All kinds: what the handler would have done is done in its place.
					h.servers = append(h.servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						if got := call.Metadata().Get("authorization"); len(got) != 1 || got[0] != "Bearer "+secret {
							t.Errorf("the server got authorization %q", got)
						}
						if err := end(); err != nil {
							return err
						}
						return next(ctx)
					}))
				})
				ctx := metadata.AppendToOutgoingContext(h.ctx(), "authorization", "Bearer "+secret, "cookie", "session="+secret, "x-api-key", secret)
				var told strings.Builder
				for _, kind := range kinds {
					if err := h.call(ctx, kind); err != nil {
						fmt.Fprintf(&told, "%v %+v %v\n", err, err, errors.Message(err))
					} else if ending != "OK" {
						t.Errorf("%s: the call succeeded", kind)
					}
				}
				h.idle()
				h.eventually("spans to end", func() bool { return len(h.spans.Ended()) == len(h.spans.Started()) })
				points := h.rec.Collect()
				recorded, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(h.spans.Ended()))
				if err != nil {
					t.Fatal(err)
				}
				for where, text := range map[string]string{
					"a span": string(recorded), "a metric": fmt.Sprintf("%+v", points), "the log": h.logs.String(), "an error": told.String(),
				} {
					if at := strings.Index(text, secret); at >= 0 {
						t.Errorf("%s holds the secret: %s", where, text[max(at-300, 0):at])
					}
					if text == "" && (where != "an error" || ending != "OK") {
						t.Errorf("%s: nothing recorded", where)
					}
				}
				if ending != "OK" && ending != "status" && !strings.Contains(h.logs.String(), "[redacted]") {
					t.Errorf("the log does not say that something is missing: %s", h.logs)
				}
			})
		}
	}
}
