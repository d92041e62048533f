package peers

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

const (
	middlewareName   = "go-grpc-middleware"
	middlewareModule = "github.com/grpc-ecosystem/go-grpc-middleware/v2"
)

// What handlers return, and who is told what. The clients are plain ones.
var serverDefects = []defect{
	{
		// Rule 10: Internal, a generic message, and nothing of the panic.
		name:  "HandlerPanics",
		what:  "A handler panics.",
		right: outcome{"caller: INTERNAL", "is told the panic's value: no", "its stack: no"},
		calm:  outcome{"caller: OK", "is told the panic's value: no", "its stack: no"},
		ours:  ours().serverOnly(),
		peers: []stack{
			middlewareRecovery(", by default"),
			middlewareRecovery(", with the handler of its example", recovery.WithRecoveryHandler(func(p any) error {
				return status.Errorf(codes.Internal, "%s", p)
			})),
		},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			const secret = "dsn postgres://users:hunter2@10.0.0.1/users"
			var with setup
			with.service.unary = func(context.Context) error {
				if trouble {
					panic(secret)
				}
				return nil
			}
			sc := s.stage(t, with)
			err := sc.call(sc.ctx())
			sc.settle()
			message := status.Convert(err).Message()
			return outcome{"caller: " + codeOf(err), "is told the panic's value: " + holds(message, secret), "its stack: " + holds(message, "server_test.go")}
		},
	},
	{
		// Rule 11: context errors are in the log what they are on the wire, wrapped ones too.
		name:  "HandlerRunsOutOfTime",
		what:  "A handler returns `context.DeadlineExceeded`, wrapped, when a time limit of its own has passed.",
		right: outcome{"caller: DEADLINE_EXCEEDED", "log: DEADLINE_EXCEEDED"},
		calm:  outcome{"caller: DEADLINE_EXCEEDED", "log: DEADLINE_EXCEEDED"}, // when it makes a status of it
		ours:  ours().serverOnly(),
		peers: []stack{middlewareLogging()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var with setup
			with.service.unary = func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				<-ctx.Done()
				if trouble {
					return fmt.Errorf("query users: %w", ctx.Err())
				}
				return status.FromContextError(ctx.Err()).Err()
			}
			sc := s.stage(t, with)
			err := sc.call(sc.ctx())
			sc.settle()
			return outcome{"caller: " + codeOf(err), "log: " + list(s.logged(sc.recording))}
		},
	},
	{
		// Rule 12: the text of a wrapper stays in the process.
		name:  "StatusWrapped",
		what:  "A handler returns a status, wrapped with `fmt.Errorf`.",
		right: outcome{"caller: NOT_FOUND", `message: "no such user"`},
		calm:  outcome{"caller: NOT_FOUND", `message: "no such user"`},
		ours:  ours().serverOnly(),
		peers: []stack{plain("grpc status.FromError")},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			return answered(t, s, func() error {
				err := status.Error(codes.NotFound, "no such user")
				if trouble {
					err = fmt.Errorf("db 10.0.0.1: %w", err)
				}
				return err
			}, func(st *status.Status) outcome {
				return outcome{"caller: " + codeName(st.Code()), fmt.Sprintf("message: %+q", st.Message())}
			})
		},
	},
	{
		// Rule 15: invalid UTF-8 becomes U+FFFD.
		name:  "InvalidUTF8",
		what:  "A handler returns a status with details and a byte that is not UTF-8 in its message.",
		right: outcome{"caller: INVALID_ARGUMENT", `message: "no user called Ren\ufffd"`, "details: 1"},
		calm:  outcome{"caller: INVALID_ARGUMENT", `message: "no user called Rene"`, "details: 1"},
		ours:  ours().serverOnly(),
		peers: []stack{plain("grpc status.FromError")},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			return answered(t, s, func() error {
				message := "no user called Rene"
				if trouble {
					message = "no user called Ren\xe9"
				}
				st, err := status.New(codes.InvalidArgument, message).WithDetails(&errdetails.ErrorInfo{Reason: "NAME", Domain: "example.com"})
				if err != nil {
					t.Error(err)
				}
				return st.Err()
			}, func(st *status.Status) outcome {
				return outcome{"caller: " + codeName(st.Code()), fmt.Sprintf("message: %+q", st.Message()), fmt.Sprintf("details: %d", len(st.Details()))}
			})
		},
	},
	{
		// Rule 9: a new stream wrapper per wrap.
		name:  "StreamWrappedTwice",
		what:  "Two interceptors of a stream derive contexts, the inner one with a cancel; when it is done the outer one looks at its own.",
		right: outcome{"handler's value: inner", "outer's value afterwards: outer", "its context: live"},
		calm:  outcome{"handler's value: outer", "outer's value afterwards: outer", "its context: live"}, // where the inner one does nothing
		ours:  nestedOurs(),
		peers: []stack{nestedMiddleware()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var (
				with         setup
				inHandler    any
				afterwards   any
				ofTheOuter   = "live"
				innerContext = func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} }
			)
			if trouble {
				innerContext = func(ctx context.Context) (context.Context, context.CancelFunc) {
					return context.WithCancel(context.WithValue(ctx, valueKey{}, "inner"))
				}
			}
			with.service.bidi = func(ss testpb.TestService_FullDuplexCallServer) error {
				inHandler = ss.Context().Value(valueKey{})
				return nil
			}
			with.server = s.nested(innerContext, func(ctx context.Context) {
				afterwards = ctx.Value(valueKey{})
				if ctx.Err() != nil {
					ofTheOuter = "cancelled"
				}
			})
			sc := s.stage(t, with)
			cs, err := sc.client.FullDuplexCall(sc.ctx())
			if err != nil {
				t.Fatal(err)
			}
			sc.drain(cs)
			sc.settle()
			return outcome{fmt.Sprintf("handler's value: %v", inHandler), fmt.Sprintf("outer's value afterwards: %v", afterwards), "its context: " + ofTheOuter}
		},
	},
}

func holds(text, part string) string {
	if strings.Contains(text, part) {
		return "yes"
	}
	return "no"
}

// answered is what a client makes of a handler's error.
func answered(t *testing.T, s stack, handler func() error, seen func(*status.Status) outcome) outcome {
	var with setup
	with.service.unary = func(context.Context) error { return handler() }
	sc := s.stage(t, with)
	err := sc.call(sc.ctx())
	sc.settle()
	return seen(status.Convert(err))
}

// serverOnly is s with a plain client.
func (s stack) serverOnly() stack {
	s.client = noDialOptions
	return s
}

// plain is grpc without anything.
func plain(name string) stack {
	return stack{name: name, module: "google.golang.org/grpc", server: noServerOptions, client: noDialOptions}
}

func middlewareRecovery(how string, opts ...recovery.Option) stack {
	return stack{
		name: middlewareName + " recovery", how: how, module: middlewareModule, client: noDialOptions,
		server: func(*recording) []grpc.ServerOption {
			return []grpc.ServerOption{grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(opts...))}
		},
	}
}

// middlewareLogging is go-grpc-middleware's logging with the adapter for slog of
// its examples.
func middlewareLogging() stack {
	return stack{
		name: middlewareName + " logging", module: middlewareModule, client: noDialOptions,
		server: func(r *recording) []grpc.ServerOption {
			logger := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
				r.logger.Log(ctx, slog.Level(level), msg, fields...)
			})
			return []grpc.ServerOption{grpc.ChainUnaryInterceptor(logging.UnaryServerInterceptor(logger))}
		},
		logged: func(r *recording) []string {
			var names []string
			for _, name := range r.logged("finished call", "grpc.code") {
				names = append(names, fromGoName(name))
			}
			return names
		},
	}
}

type valueKey struct{}

// nested is two interceptors of a server's streams. The outer one puts "outer"
// into the context, and calls after with its context when the call is over. The
// inner one goes on with the context that inner makes.
type nested func(inner func(context.Context) (context.Context, context.CancelFunc), after func(context.Context)) []grpc.ServerOption

func nestedOurs() stack {
	s := stack{name: "rpcscope", server: noServerOptions, client: noDialOptions}
	s.nested = func(inner func(context.Context) (context.Context, context.CancelFunc), after func(context.Context)) []grpc.ServerOption {
		return interceptors.ServerOptions(interceptors.WithoutLogging(),
			interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				ctx = context.WithValue(ctx, valueKey{}, "outer")
				defer func() { after(ctx) }()
				return next(ctx)
			}),
			interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				ctx, cancel := inner(ctx)
				defer cancel()
				return next(ctx)
			}))
	}
	return s
}

func nestedMiddleware() stack {
	s := stack{name: middlewareName + " WrapServerStream", module: middlewareModule, server: noServerOptions, client: noDialOptions}
	s.nested = func(inner func(context.Context) (context.Context, context.CancelFunc), after func(context.Context)) []grpc.ServerOption {
		return []grpc.ServerOption{grpc.ChainStreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				wrapped := middleware.WrapServerStream(ss)
				wrapped.WrappedContext = context.WithValue(ss.Context(), valueKey{}, "outer")
				defer func() { after(wrapped.Context()) }()
				return handler(srv, wrapped)
			},
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				wrapped := middleware.WrapServerStream(ss)
				ctx, cancel := inner(ss.Context())
				defer cancel()
				wrapped.WrappedContext = ctx
				return handler(srv, wrapped)
			})}
	}
	return s
}
