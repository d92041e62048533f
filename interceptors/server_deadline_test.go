package interceptors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

var errSessionOver = errors.Define(codes.Unauthenticated, "session.example", "SESSION_OVER", "the session is over")

// Rule 8: a handler that waits for a message, or for room to send one, does not
// outlive the context that an interceptor derived for it.
func TestRule8ContextEndsBlockedStream(t *testing.T) {
	receive := func(ss grpc.ServerStream) error { return ss.RecvMsg(&testpb.StreamingOutputCallRequest{}) }
	send := func(ss grpc.ServerStream) error {
		for { // until flow control lets no more go out to a client that does not read
			if err := ss.SendMsg(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 1<<16)}}); err != nil {
				return err
			}
		}
	}
	ignore := func(block func(grpc.ServerStream) error) func(grpc.ServerStream) error {
		return func(ss grpc.ServerStream) error {
			if err := block(ss); err == nil {
				t.Error("the handler was not woken up with an error")
			}
			return nil
		}
	}
	limits := map[string]struct {
		derive  func(context.Context) (context.Context, context.CancelFunc)
		code    codes.Code
		message string
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, codes.DeadlineExceeded, "deadline exceeded"},
		"cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Minute, errSessionOver)
		}, codes.Unauthenticated, "the session is over"},
	}
	handlers := map[string]func(grpc.ServerStream) error{
		"receiving": receive, "sending": send, "receiving, ignored": ignore(receive), "sending, ignored": ignore(send),
	}
	for limit, l := range limits {
		for doing, handle := range handlers {
			t.Run(limit+"/"+doing, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var after error
					h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error { return handle(ss) }},
						on(interceptors.ServerSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
							ctx, cancel := l.derive(ctx)
							defer cancel()
							after = next(ctx)
							return after
						}))
					stream, err := h.client.FullDuplexCall(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					begun := time.Now()
					<-time.After(time.Minute) // without reading
					synctest.Wait()
					if got := errors.Code(after); got != l.code {
						t.Errorf("next returned %v, want %v", after, l.code)
					}
					err = drain(stream)
					if errors.Code(err) != l.code || errors.Message(err) != l.message {
						t.Errorf("the caller got %v, want %v, %q", err, l.code, l.message)
					}
					if d := time.Since(begun); d != time.Minute {
						t.Errorf("it took %v, want a minute", d)
					}
					if id := stream.Trailer().Get(propagation.RequestIDHeader); len(id) != 1 {
						t.Errorf("the trailer has the request ids %q, want one", id)
					}
					h.idle()
					want := canonical(l.code)
					if got := attrs(h.span(trace.SpanKindServer).Attributes())["rpc.response.status_code"]; got != want {
						t.Errorf("the server's span has code %v, want %v", got, want)
					}
				})
			})
		}
	}
}

// The code that a mapper is to find must not end the process when it panics:
// nobody's goroutine runs it.
func TestContextEndsStreamAndMapperPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			_, err := ss.Recv()
			return err
		}}, func(h *harness) {
			h.servers = append(h.servers,
				interceptors.WithErrorConverter(errors.NewConverter(errors.WithMapper(func(error) *errors.Error { panic("mapper") }))),
				interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("plain"))
					defer cancel()
					return next(ctx)
				}))
		})
		stream, err := h.client.FullDuplexCall(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := drain(stream); errors.Code(err) != codes.Internal {
			t.Errorf("the caller got %v, want Internal", err)
		}
		h.idle()
	})
}

// What the handler answers before the context's end is what counts; a context
// that ends at the same time changes nothing that was sent.
func TestContextEndsWithTheHandler(t *testing.T) {
	for range 50 {
		h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			ss.SetTrailer(metadata.Pairs("handler", "returned"))
			return nil
		}}, on(interceptors.ServerSide, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			ctx, cancel := context.WithCancelCause(ctx)
			go cancel(errSessionOver)
			return next(ctx)
		}))
		stream, err := h.client.FullDuplexCall(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		code := errors.Code(drain(stream))
		h.idle()
		if got, want := attrs(h.span(trace.SpanKindServer).Attributes())["rpc.response.status_code"], canonical(code); got != want {
			t.Fatalf("the caller got %v, the server's span says %v", want, got)
		}
	}
}
