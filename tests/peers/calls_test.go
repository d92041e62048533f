package peers

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// Calls that are not one request and one reply.
var callDefects = []defect{
	{
		// Rule 4: a call that fails before any attempt has a span and a point.
		name:  "ContextExpired",
		what:  "A call is made with a context that has expired.",
		right: outcome{"caller: DEADLINE_EXCEEDED", "span: error", "calls: 1 × DEADLINE_EXCEEDED"},
		calm:  outcome{"caller: OK", "span: OK", "calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{otelgrpcStack()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			ctx := sc.ctx()
			if trouble {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, time.Now())
				defer cancel()
			}
			return called(s, sc, sc.call(ctx))
		},
	},
	{
		// Rule 4.
		name:  "CompressorNotRegistered",
		what:  "A call asks for a compressor that is not registered.",
		right: outcome{"caller: INTERNAL", "span: error", "calls: 1 × INTERNAL"},
		calm:  outcome{"caller: OK", "span: OK", "calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{otelgrpcStack()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			var opts []grpc.CallOption
			if trouble {
				opts = append(opts, grpc.UseCompressor("zstd"))
			}
			return called(s, sc, sc.call(sc.ctx(), opts...))
		},
	},
	{
		// Rule 7: one call, one span of it, never a second root.
		name:  "Retried",
		what:  "gRPC makes three attempts of one call, the third of which succeeds.",
		right: outcome{"caller: OK", "traces: 1", "client's spans: OK", "calls: 1 × OK"},
		calm:  outcome{"caller: OK", "traces: 1", "client's spans: OK", "calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{otelgrpcStack()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var with setup
			with.client = append(with.client, grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy":
				{"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))
			attempts := 0
			with.service.unary = func(context.Context) error {
				if attempts++; trouble && attempts < 3 {
					return status.Error(codes.Unavailable, "try again")
				}
				return nil
			}
			sc := s.stage(t, with)
			err := sc.call(sc.ctx())
			sc.settle()
			if want := map[bool]int{true: 3, false: 1}[trouble]; attempts != want {
				t.Errorf("%s: %d attempts, want %d", s.name, attempts, want)
			}
			return outcome{"caller: " + codeOf(err), fmt.Sprintf("traces: %d", sc.traces()),
				"client's spans: " + sc.spans(trace.SpanKindClient), "calls: " + byCode(s.calls(sc.recording, "client"))}
		},
	},
	{
		// Rule 5: no Begin and no End; the span is ended all the same and the point recorded.
		name:  "UnknownMethod",
		what:  "A client calls a method that the server does not have.",
		right: outcome{"caller: UNIMPLEMENTED", "server's span: error", "server's calls: 1 × UNIMPLEMENTED"},
		calm:  outcome{"caller: OK", "server's span: OK", "server's calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{otelgrpcStack(), grpcOwn()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			method := testpb.TestService_UnaryCall_FullMethodName
			if trouble {
				method = "/grpc.testing.TestService/DoesNotExist"
			}
			err := sc.conn.Invoke(sc.ctx(), method, &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
			sc.settle()
			return outcome{"caller: " + codeOf(err), "server's span: " + sc.spans(trace.SpanKindServer), "server's calls: " + byCode(s.calls(sc.recording, "server"))}
		},
	},
	{
		// Rule 5: a server with grpc.UnknownServiceHandler keeps a bounded number of names.
		name:  "NamesMadeUp",
		what:  "Behind `grpc.UnknownServiceHandler`, as proxies have it, a client calls 1000 methods that it made up.",
		right: outcome{"server's series: 257"}, // 256 names and _OTHER
		calm:  outcome{"server's series: 1"},
		ours:  ours(),
		peers: []stack{otelgrpcStack()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			proxy := func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "no such backend") }
			sc := s.stage(t, setup{server: []grpc.ServerOption{grpc.UnknownServiceHandler(proxy)}})
			calls := map[bool]int{true: 1000, false: 10}[trouble]
			for i := range calls {
				method := "/backend.Service/Method"
				if trouble {
					method += fmt.Sprint(i)
				}
				if err := sc.conn.Invoke(sc.ctx(), method, &testpb.SimpleRequest{}, &testpb.SimpleResponse{}); status.Code(err) != codes.NotFound {
					t.Fatalf("%s: %v", s.name, err)
				}
			}
			sc.settle()
			return outcome{fmt.Sprintf("server's series: %d", sc.series(s.duration("server")))}
		},
	},
}

// called is what a client recorded of a call that ended with err.
func called(s stack, sc *scene, err error) outcome {
	sc.settle()
	return outcome{"caller: " + codeOf(err), "span: " + sc.spans(trace.SpanKindClient), "calls: " + byCode(s.calls(sc.recording, "client"))}
}
