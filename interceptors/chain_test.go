package interceptors_test

import (
	"context"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// on puts interceptors on one side.
func on(side interceptors.Side, chain ...interceptors.Interceptor) func(*harness) {
	return func(h *harness) {
		for _, i := range chain {
			if side == interceptors.ServerSide {
				h.servers = append(h.servers, i)
			} else {
				h.clients = append(h.clients, i)
			}
		}
	}
}

// everywhere runs a test for the eight combinations that an interceptor must be
// right for.
func everywhere(t *testing.T, test func(t *testing.T, kind interceptors.Kind, side interceptors.Side)) {
	for _, side := range []interceptors.Side{interceptors.ServerSide, interceptors.ClientSide} {
		for _, kind := range kinds {
			t.Run(side.String()+"/"+kind.String(), func(t *testing.T) { test(t, kind, side) })
		}
	}
}

func TestNextReturnsAtTheEnd(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		var sent, received, before atomic.Int64
		var seen interceptors.Call
		h := start(t, &stub{}, on(side, nil, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			before.Store(call.Sent() + call.Received())
			err := next(ctx)
			sent.Store(call.Sent())
			received.Store(call.Received())
			seen.FullMethod, seen.Kind, seen.Side = call.FullMethod, call.Kind, call.Side
			if call.Start().IsZero() {
				t.Error("no start time")
			}
			if want := map[interceptors.Side]string{interceptors.ClientSide: "passthrough:///bufconn"}[side]; call.Target() != want {
				t.Errorf("target %q, want %q", call.Target(), want)
			}
			return err
		}))
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		h.ended(2)
		h.idle()
		want := [2]int64{int64(messages[kind][0]), int64(messages[kind][1])}
		if side == interceptors.ServerSide {
			want[0], want[1] = want[1], want[0]
		}
		if got := [2]int64{sent.Load(), received.Load()}; got[1] != want[1] || (got[0] != want[0] && !(side == interceptors.ServerSide && kind == interceptors.Unary)) {
			t.Errorf("at the end %v messages were sent and received, want %v", got, want)
		}
		if seen.Kind != kind || seen.Side != side || seen.Service() != "grpc.testing.TestService" || seen.Method() == "" || strings.Contains(seen.Method(), "/") {
			t.Errorf("the call was %s %s %q %q", seen.Side, seen.Kind, seen.Service(), seen.Method())
		}
	})
}

func TestOrderIsThatOfTheOptions(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		var mu sync.Mutex
		var got []string
		note := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s)
		}
		mark := func(name string) interceptors.Interceptor {
			return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				note(name)
				defer note("-" + name)
				return next(ctx)
			}
		}
		h := start(t, &stub{}, on(side, mark("a"), nil, interceptors.Chain(mark("b"), nil, mark("c")),
			interceptors.For(interceptors.Methods("/no.Such/*"), mark("never")), interceptors.For(nil, mark("d"))))
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		h.ended(2)
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]string{"a", "b", "c", "d", "-d", "-c", "-b", "-a"}, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestRefusalWithoutNext(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, on(side, func(context.Context, *interceptors.Call, interceptors.Next) error {
			return errors.PermissionDenied("not you")
		}))
		err := h.call(h.ctx(), kind)
		if status.Code(err) != codes.PermissionDenied || errors.Message(err) != "not you" {
			t.Errorf("the caller got %v, want PermissionDenied: not you", err)
		}
		span := h.span(map[interceptors.Side]trace.SpanKind{interceptors.ServerSide: trace.SpanKindServer, interceptors.ClientSide: trace.SpanKindClient}[side])
		if got := attrs(span.Attributes())["rpc.response.status_code"]; got != "PERMISSION_DENIED" {
			t.Errorf("%s span: %v", side, got)
		}
		h.idle()
	})
}

func TestNilWithoutNextIsAMistake(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, on(side, func(context.Context, *interceptors.Call, interceptors.Next) error { return nil }))
		if err := h.call(h.ctx(), kind); status.Code(err) != codes.Internal {
			t.Errorf("the caller got %v, want Internal", err)
		}
		h.idle()
		if got := h.logs.String(); !strings.Contains(got, "an interceptor returned nil without calling next") {
			t.Errorf("logged %s", got)
		}
	})
}

func TestErrorOfTheChainIsTheCallers(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, on(side, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			if err := next(ctx); err != nil {
				t.Errorf("next returned %v", err)
			}
			return errors.Aborted("on second thoughts")
		}))
		if err := h.call(h.ctx(), kind); status.Code(err) != codes.Aborted || errors.Message(err) != "on second thoughts" {
			t.Errorf("the caller got %v, want Aborted", err)
		}
		h.ended(2)
		if got := h.counts("rpc."+side.String()+".call.duration", "rpc.response.status_code"); got["ABORTED"] != 1 || len(got) != 1 {
			t.Errorf("calls by code: %v, want one ABORTED", got)
		}
	})
}

func TestInterceptorSeesTypedErrors(t *testing.T) {
	gone := errors.Define(codes.NotFound, "example.com", "GONE", "gone")
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		var matched atomic.Bool
		h := start(t, &stub{
			unary:        func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, gone },
			clientStream: func(testpb.TestService_StreamingInputCallServer) error { return gone },
			serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
				if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
					return err
				}
				return gone
			},
			bidi: func(testpb.TestService_FullDuplexCallServer) error { return gone },
		}, on(side, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			err := next(ctx)
			matched.Store(errors.Is(err, gone))
			return err
		}))
		if err := h.call(h.ctx(), kind); !errors.Is(err, gone) {
			t.Errorf("the caller got %v, want %v", err, gone)
		}
		if !matched.Load() {
			t.Error("the interceptor did not recognise the error")
		}
	})
}

func TestContextOfTheChainReachesTheHandlerAndTheWire(t *testing.T) {
	type key struct{}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			var value atomic.Value
			var header atomic.Value
			note := func(ctx context.Context) {
				value.Store(ctx.Value(key{}))
				header.Store(metadata.ValueFromIncomingContext(ctx, "x-added"))
			}
			h := start(t, &stub{
				unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					note(ctx)
					return &testpb.SimpleResponse{}, nil
				},
				clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
					note(ss.Context())
					return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
				},
				serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
					note(ss.Context())
					return nil
				},
				bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
					note(ss.Context())
					return nil
				},
			}, func(h *harness) {
				h.servers = append(h.servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					if got := call.Metadata().Get("x-added"); !slices.Equal(got, []string{"by the client"}) {
						t.Errorf("Metadata on the server: %v", got)
					}
					return next(context.WithValue(ctx, key{}, "from the chain"))
				}))
				h.clients = append(h.clients, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					return next(metadata.AppendToOutgoingContext(ctx, "x-added", "by the client"))
				}), interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					if got := call.Metadata().Get("x-added"); !slices.Equal(got, []string{"by the client"}) {
						t.Errorf("Metadata on the client: %v", got)
					}
					return next(ctx)
				}))
			})
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			if value.Load() != "from the chain" {
				t.Errorf("the handler's context has %v", value.Load())
			}
			if got, _ := header.Load().([]string); !slices.Equal(got, []string{"by the client"}) {
				t.Errorf("the header arrived as %v", got)
			}
		})
	}
}

func TestHooksSeeEveryMessage(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		var sent, received atomic.Int64
		h := start(t, &stub{}, on(side, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.OnSend(nil)
			call.OnSend(func(any) error { sent.Add(1); return nil })
			call.OnReceive(func(m any) error {
				if reflect.ValueOf(m).IsNil() {
					t.Error("a nil message")
				}
				received.Add(1)
				return nil
			})
			return next(ctx)
		}))
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		want := [2]int64{int64(messages[kind][0]), int64(messages[kind][1])}
		if side == interceptors.ServerSide {
			want[0], want[1] = want[1], want[0]
		}
		if got := [2]int64{sent.Load(), received.Load()}; got != want {
			t.Errorf("the hooks saw %v messages sent and received, want %v", got, want)
		}
	})
}

func TestErrorOfAHookEndsTheCall(t *testing.T) {
	for _, sending := range []bool{true, false} {
		t.Run(map[bool]string{true: "send", false: "receive"}[sending], func(t *testing.T) {
			everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
				h := start(t, &stub{}, on(side, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					hook := func(any) error { return errors.InvalidArgument("not this message") }
					if sending {
						call.OnSend(hook)
					} else {
						call.OnReceive(hook)
					}
					return next(ctx)
				}))
				if err := h.call(h.ctx(), kind); status.Code(err) != codes.InvalidArgument || errors.Message(err) != "not this message" {
					t.Errorf("the caller got %v, want InvalidArgument: not this message", err)
				}
				h.idle()
				if got := h.counts("rpc."+side.String()+".call.duration", "rpc.response.status_code"); got["INVALID_ARGUMENT"] != 1 || len(got) != 1 {
					t.Errorf("calls by code: %v, want one INVALID_ARGUMENT", got)
				}
			})
		})
	}
}

func TestUnaryRequestAndResponseMayBeReplaced(t *testing.T) {
	for _, side := range []interceptors.Side{interceptors.ServerSide, interceptors.ClientSide} {
		t.Run(side.String(), func(t *testing.T) {
			h := start(t, &stub{unary: func(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				return &testpb.SimpleResponse{Username: "handler got " + string(in.GetPayload().GetBody())}, nil
			}}, on(side, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				call.Request = &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("the replacement")}}
				if err := next(ctx); err != nil {
					return err
				}
				call.Response = &testpb.SimpleResponse{Username: call.Response.(*testpb.SimpleResponse).GetUsername() + ", and back"}
				return nil
			}))
			resp, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{})
			if err != nil || resp.GetUsername() != "handler got the replacement, and back" {
				t.Errorf("the caller got %v, %v", resp, err)
			}
		})
		t.Run(side.String()+" without next", func(t *testing.T) {
			h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				t.Error("the handler was called")
				return nil, nil
			}}, on(side, func(_ context.Context, call *interceptors.Call, _ interceptors.Next) error {
				call.Response = &testpb.SimpleResponse{Username: "from the cache"}
				return nil
			}))
			resp, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{})
			if err != nil || resp.GetUsername() != "from the cache" {
				t.Errorf("the caller got %v, %v", resp, err)
			}
		})
	}
	t.Run("wrong type", func(t *testing.T) {
		h := start(t, &stub{}, on(interceptors.ClientSide, func(_ context.Context, call *interceptors.Call, _ interceptors.Next) error {
			call.Response = &testpb.SimpleRequest{}
			return nil
		}))
		if _, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{}); status.Code(err) != codes.Internal {
			t.Errorf("the caller got %v, want Internal", err)
		}
	})
}

// On a server next cannot be called again once messages went by: no reply is
// sent twice, and the first failure stays the call's.
func TestNextAgainOnServer(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			var calls atomic.Int64
			fail := func() error { return errors.Unavailable("failure %d", calls.Add(1)) }
			h := start(t, &stub{
				unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, fail() },
				clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
					if _, err := ss.Recv(); err != nil {
						return err
					}
					return fail()
				},
				serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
					return fail()
				},
				bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
					if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
						return err
					}
					return fail()
				},
			}, on(interceptors.ServerSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				if err := next(ctx); err == nil {
					return nil
				}
				return next(ctx)
			}))
			want := [2]any{"failure 1", int64(1)}
			if kind == interceptors.Unary {
				want = [2]any{"failure 2", int64(2)} // the request is at hand, nothing was sent
			}
			err := h.call(h.ctx(), kind)
			if got := [2]any{errors.Message(err), calls.Load()}; got != want {
				t.Errorf("the caller got %q after %d runs of the handler, want %q after %d", got[0], got[1], want[0], want[1])
			}
		})
	}
}

// next may be called again after it failed, as long as no message has reached
// the caller.
func TestNextAgain(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			var calls, hooks atomic.Int64
			flaky := func() error {
				if calls.Add(1) < 3 {
					return errors.Unavailable("not yet")
				}
				return nil
			}
			h := start(t, &stub{
				unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					return &testpb.SimpleResponse{}, flaky()
				},
				clientStream: func(testpb.TestService_StreamingInputCallServer) error { return flaky() },
				serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
					if err := flaky(); err != nil {
						return err
					}
					return ss.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()})
				},
				bidi: func(testpb.TestService_FullDuplexCallServer) error { return flaky() },
			}, on(interceptors.ClientSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				err := next(ctx)
				for i := 0; i < 5 && err != nil; i++ {
					err = next(ctx)
				}
				return err
			}, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				// Registered anew for every attempt, and called once all the same.
				call.OnReceive(func(any) error { hooks.Add(1); return nil })
				return next(ctx)
			}))
			err := h.call(h.ctx(), kind)
			switch kind {
			case interceptors.Unary, interceptors.ServerStream:
				if err != nil || calls.Load() != 3 || hooks.Load() != 1 {
					t.Errorf("the caller got %v after %d calls and %d hooks, want OK after 3 and 1", err, calls.Load(), hooks.Load())
				}
			default: // what was sent is gone
				if status.Code(err) != codes.Unavailable || calls.Load() != 1 {
					t.Errorf("the caller got %v after %d calls, want Unavailable after 1", err, calls.Load())
				}
			}
			h.idle()
			if got := h.counts("rpc.client.call.duration", "rpc.system.name")["grpc"]; got != 1 {
				t.Errorf("%d calls were counted, want 1", got)
			}
			// One trace: every server span is a child of the one client span.
			client := h.span(trace.SpanKindClient)
			for _, s := range h.spans.Ended() {
				if s.SpanKind() == trace.SpanKindServer && s.Parent().SpanID() != client.SpanContext().SpanID() {
					t.Errorf("a server span has parent %v", s.Parent().SpanID())
				}
			}
		})
	}
}

// Rule 26: never after a message has reached the caller.
func TestRule26NoNextAfterAMessage(t *testing.T) {
	var calls atomic.Int64
	h := start(t, &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
		calls.Add(1)
		if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
		return errors.Unavailable("half-way")
	}}, on(interceptors.ClientSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		if err := next(ctx); err != nil {
			return next(ctx)
		}
		return nil
	}))
	cs, err := h.client.StreamingOutputCall(h.ctx(), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cs.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := cs.Recv(); status.Code(err) != codes.Unavailable || calls.Load() != 1 {
		t.Errorf("Recv: %v after %d calls, want Unavailable after 1", err, calls.Load())
	}
}

func TestHeadersAndTrailers(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			var header, trailer atomic.Value
			h := start(t, &stub{}, func(h *harness) {
				h.servers = append(h.servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					if err := call.SetHeader(metadata.Pairs("x-h", "1")); err != nil {
						t.Error(err)
					}
					err := next(ctx)
					if err := call.SetTrailer(metadata.Pairs("x-t", "2")); err != nil {
						t.Error(err)
					}
					return err
				}))
				h.clients = append(h.clients, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
					if err := call.SetHeader(metadata.Pairs("x", "y")); err == nil || !strings.Contains(err.Error(), "client") {
						t.Errorf("SetHeader on a client: %v", err)
					}
					err := next(ctx)
					header.Store(call.Header().Get("x-h"))
					trailer.Store(call.Trailer().Get("x-t"))
					return err
				}))
			})
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			if got, _ := header.Load().([]string); !slices.Equal(got, []string{"1"}) {
				t.Errorf("header: %v", got)
			}
			if got, _ := trailer.Load().([]string); !slices.Equal(got, []string{"2"}) {
				t.Errorf("trailer: %v", got)
			}
		})
	}
}

func TestAddCallOptions(t *testing.T) {
	for _, kind := range kinds {
		var finished atomic.Int64
		h := start(t, &stub{}, on(interceptors.ClientSide, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.AddCallOptions(nil, grpc.OnFinish(func(error) { finished.Add(1) }))
			return next(ctx)
		}))
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		if finished.Load() == 0 {
			t.Errorf("%s: the call option was not used", kind)
		}
	}
}

// What authentication learns inside the chain shows on the engine's span and
// log, also when the call is refused further in.
func TestIdentityFromTheChain(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		h := start(t, &stub{}, func(h *harness) {
			h.servers = append(h.servers, interceptors.WithPropagator(propagation.New(propagation.WithRawUserID())),
				interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					return next(propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "ada", TenantID: "acme"}))
				}), interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					if refuse {
						return errors.PermissionDenied("not you")
					}
					return next(ctx)
				}))
		})
		_ = h.call(h.ctx(), interceptors.Unary)
		got := attrs(h.span(trace.SpanKindServer).Attributes())
		if got["user.id"] != "ada" || got["tenant.id"] != "acme" {
			t.Errorf("server span: %v", got)
		}
		h.ended(2)
		for _, r := range h.logs.records(t) {
			if r["msg"] == "server call" && (r["user.id"] != "ada" || r["tenant.id"] != "acme") {
				t.Errorf("access log: %v", r)
			}
		}
	}
}

// Rule 10: a panic in a client's interceptor surfaces to the caller.
func TestRule10PanicInClientInterceptor(t *testing.T) {
	for _, before := range []bool{true, false} {
		for _, kind := range kinds {
			t.Run(kind.String()+map[bool]string{true: "/before", false: "/after"}[before], func(t *testing.T) {
				h := start(t, &stub{}, on(interceptors.ClientSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					if before {
						panic("interceptor")
					}
					_ = next(ctx)
					panic("interceptor")
				}))
				func() {
					defer func() {
						if v := recover(); v != "interceptor" {
							t.Errorf("the caller recovered %v, want the interceptor's panic", v)
						}
					}()
					_ = h.call(h.ctx(), kind)
				}()
				span := h.span(trace.SpanKindClient)
				if got := attrs(span.Attributes())["rpc.response.status_code"]; got != "INTERNAL" {
					t.Errorf("client span: %v, want INTERNAL", got)
				}
				h.idle()
				if got := h.counts("rpcscope.client.panics", "rpc.system.name")["grpc"]; got != 1 {
					t.Errorf("panics: %d, want 1", got)
				}
			})
		}
	}
}

// A panic nobody waits for must not kill the process.
func TestRule10PanicAfterAbandonedStream(t *testing.T) {
	h := start(t, blockingStub(), on(interceptors.ClientSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		_ = next(ctx)
		panic("interceptor")
	}))
	ctx, cancel := context.WithCancel(h.ctx())
	defer cancel()
	if err := h.open(ctx, interceptors.BidiStream); err != nil {
		t.Fatal(err)
	}
	cancel()
	h.ended(2)
	h.idle()
}

// runtime.Goexit in a handler is let go on, and recorded.
func TestRule10Goexit(t *testing.T) {
	var exited atomic.Bool
	h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		defer func() { exited.Store(recover() == nil) }()
		runtime.Goexit()
		return nil, nil
	}}, nil)
	ctx, cancel := context.WithCancel(h.ctx())
	done := make(chan error, 1)
	go func() { done <- h.call(ctx, interceptors.Unary) }()
	span := h.span(trace.SpanKindServer)
	if got := attrs(span.Attributes())["rpc.response.status_code"]; got != "INTERNAL" || !exited.Load() {
		t.Errorf("server span: %v, want INTERNAL; exited: %v", got, exited.Load())
	}
	cancel()
	if err := <-done; err == io.EOF {
		t.Error(err)
	}
	h.idle()
}
