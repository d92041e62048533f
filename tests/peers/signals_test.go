package peers

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/interceptors"
)

// What spans and points hold.
var signalDefects = []defect{
	{
		// What is asked for is there.
		name:  "MessageEvents",
		what:  "A unary call, with `WithMessageEvents` for what is sent and received.",
		right: outcome{"events on the client's span: 2", "on the server's: 2"},
		calm:  outcome{"events on the client's span: 0", "on the server's: 0"}, // of a stream without messages
		ours:  ours(interceptors.WithMessageEvents()),
		peers: []stack{otelgrpcStack(otelgrpc.WithMessageEvents(otelgrpc.ReceivedEvents, otelgrpc.SentEvents))},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			if trouble {
				if err := sc.call(sc.ctx()); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
			} else {
				cs, err := sc.client.FullDuplexCall(sc.ctx())
				if err != nil {
					t.Fatal(err)
				}
				sc.drain(cs)
			}
			sc.settle()
			return outcome{fmt.Sprintf("events on the client's span: %d", sc.events(trace.SpanKindClient)),
				fmt.Sprintf("on the server's: %d", sc.events(trace.SpanKindServer))}
		},
	},
	{
		// An exemplar leads from a point to the span of the call.
		name:  "Exemplars",
		what:  "A sampled call, without a span of the application around it.",
		right: outcome{"exemplars of the client's duration: 1", "of the server's: 1"},
		calm:  outcome{"exemplars of the client's duration: 1", "of the server's: 1"}, // with one
		ours:  ours(),
		peers: []stack{grpcOwn()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			ctx := sc.ctx()
			if !trouble {
				var span trace.Span
				ctx, span = sc.tracer.Tracer("application").Start(ctx, "application")
				defer span.End()
			}
			if err := sc.call(ctx); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			sc.settle()
			return outcome{fmt.Sprintf("exemplars of the client's duration: %d", sc.exemplars(s.duration("client"))),
				fmt.Sprintf("of the server's: %d", sc.exemplars(s.duration("server")))}
		},
	},
}
