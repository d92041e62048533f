package peers

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Where the end of a stream is, and how often.
var streamDefects = []defect{
	{
		// Rule 2: io.EOF from SendMsg is not the status of the call.
		name:  "RejectedWhileSending",
		what:  "A server rejects a stream while the client is still sending.",
		right: outcome{"caller: PERMISSION_DENIED", "span: error", "calls: 1 × PERMISSION_DENIED"},
		calm:  outcome{"caller: OK", "span: OK", "calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{otelgrpcStack()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc, err := rejectedWhileSending(t, s, trouble)
			return outcome{"caller: " + codeOf(err), "span: " + sc.spans(trace.SpanKindClient), "calls: " + byCode(s.calls(sc.recording, "client"))}
		},
	},
	{
		// Rules 2 and 7: the last attempt's status is the call's.
		name:  "AttemptRejectedWhileSending",
		what:  "The same, where each attempt has a span and is counted.",
		right: outcome{"caller: PERMISSION_DENIED", "span of the call: error", "of the attempt: error", "attempts: 1 × PERMISSION_DENIED"},
		calm:  outcome{"caller: OK", "span of the call: OK", "of the attempt: OK", "attempts: 1 × OK"},
		ours:  ours(interceptors.WithAttempts()),
		peers: []stack{grpcOwn()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc, err := rejectedWhileSending(t, s, trouble)
			return outcome{"caller: " + codeOf(err), "span of the call: " + sc.spans(trace.SpanKindClient),
				"of the attempt: " + sc.spans(trace.SpanKindInternal), "attempts: " + byCode(s.attempts(sc.recording))}
		},
	},
	{
		// Rule 1: a stream that is cancelled and never read again ends too.
		name:  "CancelledAndNeverRead",
		what:  "A client cancels a stream and does not read from it again.",
		right: outcome{"calls: 1 × CANCELLED", "in flight afterwards: 0"},
		calm:  outcome{"calls: 1 × OK", "in flight afterwards: 0"},
		ours:  ours(),
		peers: []stack{middlewarePrometheus()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			ctx, cancel := context.WithCancel(sc.ctx())
			defer cancel()
			cs := sc.echo(ctx)
			if trouble {
				cancel()
			} else {
				sc.drain(cs)
			}
			sc.settle()
			return counted(s, sc)
		},
	},
	{
		// Rule 3: RecvMsg after the end records nothing again.
		name:  "ReadAfterTheEnd",
		what:  "A client reads from a stream three times after its end.",
		right: outcome{"calls: 1 × OK", "in flight afterwards: 0"},
		calm:  outcome{"calls: 1 × OK", "in flight afterwards: 0"},
		ours:  ours(),
		peers: []stack{middlewarePrometheus()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sc := s.stage(t, setup{})
			cs := sc.echo(sc.ctx())
			sc.drain(cs)
			if trouble {
				for range 3 {
					if _, err := cs.Recv(); err != io.EOF {
						t.Errorf("%s: reading after the end: %v, want EOF", s.name, err)
					}
				}
			}
			sc.settle()
			return counted(s, sc)
		},
	},
	{
		// Rules 1 and 4: opening failed, and that is an end like any other.
		name:  "InnerInterceptorRejects",
		what:  "An interceptor of the client's own refuses a stream.",
		right: outcome{"caller: PERMISSION_DENIED", "span: error", "calls: 1 × PERMISSION_DENIED"},
		calm:  outcome{"caller: OK", "span: OK", "calls: 1 × OK"},
		ours:  ours(),
		peers: []stack{grpcOwn()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			refuse := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				if trouble {
					return nil, status.Error(codes.PermissionDenied, "not you")
				}
				return streamer(ctx, desc, cc, method, opts...)
			}
			sc := s.stage(t, setup{client: []grpc.DialOption{grpc.WithChainStreamInterceptor(refuse)}})
			cs, err := sc.client.FullDuplexCall(sc.ctx())
			if err == nil {
				sc.drain(cs)
			}
			sc.settle()
			return outcome{"caller: " + codeOf(err), "span: " + sc.spans(trace.SpanKindClient), "calls: " + byCode(s.calls(sc.recording, "client"))}
		},
	},
	{
		// Rule 10: a panic of a client's interceptor surfaces to the caller, and is counted.
		name:  "ClientInterceptorPanics",
		what:  "An interceptor of the client's own panics; the application recovers.",
		right: outcome{"calls: 1 × INTERNAL", "in flight afterwards: 0"},
		calm:  outcome{"calls: 1 × OK", "in flight afterwards: 0"},
		ours:  ours(),
		peers: []stack{middlewarePrometheus()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			sign := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if trouble {
					panic("no key")
				}
				return invoker(ctx, method, req, reply, cc, opts...)
			}
			sc := s.stage(t, setup{client: []grpc.DialOption{grpc.WithChainUnaryInterceptor(sign)}})
			func() {
				defer func() {
					if v := recover(); (v != nil) != trouble {
						t.Errorf("%s: the application recovered %v", s.name, v)
					}
				}()
				if err := sc.call(sc.ctx()); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
			}()
			sc.settle()
			return counted(s, sc)
		},
	},
}

// rejectedWhileSending is a stream whose client sends once more when the server
// has rejected it already, and what the caller gets.
func rejectedWhileSending(t *testing.T, s stack, trouble bool) (*scene, error) {
	t.Helper()
	var with setup
	if trouble {
		with.service.clientStream = func(testpb.TestService_StreamingInputCallServer) error {
			return status.Error(codes.PermissionDenied, "not you")
		}
	}
	sc := s.stage(t, with)
	cs, err := sc.client.StreamingInputCall(sc.ctx())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait() // until the server's answer is here, if there is one
	switch err := cs.Send(&testpb.StreamingInputCallRequest{}); {
	case trouble && err != io.EOF:
		t.Errorf("%s: Send: %v, want EOF", s.name, err)
	case !trouble && err != nil:
		t.Errorf("%s: Send: %v", s.name, err)
	}
	_, err = cs.CloseAndRecv()
	sc.settle()
	return sc, err
}

type echoStream = testpb.TestService_FullDuplexCallClient

// echo opens a stream of both directions and waits for its first answer.
func (sc *scene) echo(ctx context.Context) echoStream {
	sc.t.Helper()
	cs, err := sc.client.FullDuplexCall(ctx)
	if err != nil {
		sc.t.Fatal(err)
	}
	if err := cs.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
		sc.t.Fatal(err)
	}
	if _, err := cs.Recv(); err != nil {
		sc.t.Fatal(err)
	}
	return cs
}

// drain reads cs to its end.
func (sc *scene) drain(cs echoStream) {
	sc.t.Helper()
	if err := cs.CloseSend(); err != nil {
		sc.t.Error(err)
	}
	for {
		if _, err := cs.Recv(); err == io.EOF {
			return
		} else if err != nil {
			sc.t.Fatal(err)
		}
	}
}

// counted is what the metrics of the client say.
func counted(s stack, sc *scene) outcome {
	return outcome{"calls: " + byCode(s.calls(sc.recording, "client")), fmt.Sprintf("in flight afterwards: %d", s.inFlight(sc.recording, "client"))}
}
