package interceptorstest_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
	"github.com/rpcscope/rpcscope/propagation"
)

func noop(ctx context.Context, _ *call, next next) error { return next(ctx) }

// token lets calls happen that have it, on a server.
func token(ctx context.Context, c *call, next next) error {
	if got := c.Metadata().Get("authorization"); len(got) != 1 || got[0] != "Bearer secret" {
		return errors.Unauthenticated("a token is needed")
	}
	return next(propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "ada"}))
}

func timeout(d time.Duration) interceptors.Interceptor {
	return func(ctx context.Context, _ *call, next next) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return next(ctx)
	}
}

func logging(log *slog.Logger) interceptors.Interceptor {
	return func(ctx context.Context, c *call, next next) (err error) {
		defer func() {
			log.InfoContext(ctx, "call", "method", c.FullMethod, "kind", c.Kind, "error", err,
				"sent", c.Sent(), "received", c.Received(), "duration", time.Since(c.Start()))
		}()
		return next(ctx)
	}
}

func recovery(ctx context.Context, _ *call, next next) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.Unavailable("try another server")
		}
	}()
	return next(ctx)
}

// retry repeats calls that failed with Unavailable, up to three times.
func retry(ctx context.Context, _ *call, next next) error {
	for n := 1; ; n++ {
		err := next(ctx)
		if errors.Code(err) != codes.Unavailable || n == 3 {
			return err
		}
		backoff := time.NewTimer(rand.N(time.Millisecond))
		select {
		case <-ctx.Done():
			backoff.Stop()
			return ctx.Err()
		case <-backoff.C:
		}
	}
}

// cache answers unary calls that it has seen.
func cache() interceptors.Interceptor {
	var replies sync.Map
	return func(ctx context.Context, c *call, next next) error {
		if c.Kind != interceptors.Unary {
			return next(ctx)
		}
		key, err := proto.Marshal(c.Request.(proto.Message))
		if err != nil {
			return next(ctx)
		}
		if reply, ok := replies.Load(string(key)); ok {
			c.Response = proto.Clone(reply.(proto.Message))
			return nil
		}
		if err := next(ctx); err != nil {
			return err
		}
		replies.Store(string(key), proto.Clone(c.Response.(proto.Message)))
		return nil
	}
}

// limit sheds calls beyond max.
func limit(maximum int) interceptors.Interceptor {
	slots := make(chan struct{}, maximum)
	return func(ctx context.Context, _ *call, next next) error {
		select {
		case slots <- struct{}{}:
		default:
			return errors.ResourceExhausted("too many calls")
		}
		defer func() { <-slots }()
		return next(ctx)
	}
}

// watchdog has a goroutine for each call.
func watchdog(ctx context.Context, c *call, next next) error {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		slow := time.NewTimer(time.Minute)
		defer slow.Stop()
		select {
		case <-done:
		case <-slow.C:
			slog.Warn("slow call", "method", c.FullMethod)
		}
	}()
	defer func() { close(done); <-stopped }()
	return next(ctx)
}

// worker starts a goroutine when the first call comes.
func worker(stop <-chan struct{}) interceptors.Interceptor {
	var once sync.Once
	return func(ctx context.Context, _ *call, next next) error {
		once.Do(func() { go func() { <-stop }() })
		return next(ctx)
	}
}

func redact(ctx context.Context, c *call, next next) error {
	hook := func(m any) error {
		m.(*wrapperspb.StringValue).Value = "***"
		return nil
	}
	if c.Kind == interceptors.Unary && c.Side == interceptors.ClientSide {
		c.Request = proto.Clone(c.Request.(proto.Message))
	}
	c.OnSend(hook)
	c.OnReceive(hook)
	return next(ctx)
}

func tracing(tracer trace.Tracer) interceptors.Interceptor {
	return func(ctx context.Context, c *call, next next) error {
		trace.SpanFromContext(ctx).SetAttributes(attribute.String("app.team", "users"))
		ctx, span := tracer.Start(ctx, "inside "+c.Method())
		defer span.End()
		return next(ctx)
	}
}

func TestWellBehavedInterceptorsPass(t *testing.T) {
	type options = []interceptorstest.Option
	var (
		server = interceptorstest.Sides(interceptors.ServerSide)
		client = interceptorstest.Sides(interceptors.ClientSide)
	)
	withToken := interceptorstest.WithContext(func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer secret")
	})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	tests := []struct {
		name string
		i    interceptors.Interceptor
		opts options
	}{
		{name: "no-op", i: noop},
		{name: "token, which is there", i: token, opts: options{server, withToken}},
		{name: "token, which is missing", i: token, opts: options{server, interceptorstest.Rejects(codes.Unauthenticated)}},
		{name: "token, added by another interceptor", i: token, opts: options{server, interceptorstest.With(
			interceptors.Interceptor(func(ctx context.Context, c *call, next next) error {
				if c.Side == interceptors.ClientSide {
					ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer secret")
				}
				return next(ctx)
			}))}},
		{name: "refusal on both sides", opts: options{interceptorstest.Rejects(codes.FailedPrecondition)},
			i: func(context.Context, *call, next) error { return errors.FailedPrecondition("read-only") }},
		{name: "timeout", i: timeout(time.Minute)},
		{name: "logging", i: logging(slog.New(slog.DiscardHandler))},
		{name: "metadata", i: func(ctx context.Context, c *call, next next) error {
			if c.Side == interceptors.ClientSide {
				return next(metadata.AppendToOutgoingContext(ctx, "x-tenant", "acme"))
			}
			if err := c.SetHeader(metadata.Pairs("x-served-by", "test")); err != nil {
				return err
			}
			return next(ctx)
		}},
		{name: "recovery", i: recovery, opts: options{interceptorstest.Recovers(codes.Unavailable)}},
		{name: "panicking again", i: func(ctx context.Context, _ *call, next next) error {
			defer func() {
				if v := recover(); v != nil {
					panic(v)
				}
			}()
			return next(ctx)
		}},
		{name: "retry", i: retry, opts: options{interceptorstest.Retries()}},
		{name: "retry with a timeout and metadata for each attempt", opts: options{client, interceptorstest.Retries()},
			i: interceptors.Chain(retry, timeout(time.Minute), func(ctx context.Context, _ *call, next next) error {
				return next(metadata.AppendToOutgoingContext(ctx, "x-attempt", "1"))
			})},
		{name: "cache", i: cache(), opts: options{interceptorstest.MayAnswer()}},
		{name: "limit", i: limit(8)},
		{name: "watchdog", i: watchdog},
		{name: "worker", i: worker(stop), opts: options{interceptorstest.Patience(time.Second)}},
		{name: "redaction", i: redact, opts: options{interceptorstest.ChangesMessages()}},
		{name: "request counter", i: func(ctx context.Context, c *call, next next) error {
			var mu sync.Mutex
			var n int
			count := func(any) error {
				mu.Lock()
				defer mu.Unlock()
				n++
				return nil
			}
			c.OnSend(count)
			c.OnReceive(count)
			return next(ctx)
		}},
		{name: "masking", opts: options{interceptorstest.MapsErrors(func(codes.Code) codes.Code { return codes.Internal })},
			i: func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return status.Error(codes.Internal, "something went wrong")
				}
				return nil
			}},
		{name: "wrapping", i: func(ctx context.Context, c *call, next next) error {
			if err := next(ctx); err != nil {
				return errors.Join(err, nil)
			}
			return nil
		}},
		// A bare SDK: nothing is asserted about the spans.
		{name: "span of its own", i: tracing(sdktrace.NewTracerProvider().Tracer("test")),
			opts: options{interceptorstest.With(interceptors.WithTracerProvider(sdktrace.NewTracerProvider()))}},
		{name: "another method and other messages", i: func(ctx context.Context, c *call, next next) error {
			if c.FullMethod != "/users.v1.UserService/GetUser" {
				return errors.Internal(errors.New(c.FullMethod))
			}
			if c.Kind == interceptors.Unary {
				if _, ok := c.Request.(*wrapperspb.Int64Value); !ok {
					return errors.InvalidArgument("%T", c.Request)
				}
			}
			return next(ctx)
		}, opts: options{interceptorstest.WithMethod("/users.v1.UserService/GetUser"), interceptorstest.WithMessages(wrapperspb.Int64(7), &wrapperspb.BytesValue{})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			interceptorstest.Run(t, tt.i, tt.opts...)
		})
	}
}

// What the library itself makes interceptors of.
func TestOwnInterceptorsPass(t *testing.T) {
	mine := logging(slog.New(slog.DiscardHandler))
	refuse := func(context.Context, *call, next) error { return errors.PermissionDenied("no") }
	for name, i := range map[string]interceptors.Interceptor{
		"Chain of none":             interceptors.Chain(),
		"Chain of nil":              interceptors.Chain(nil, nil),
		"Chain of one":              interceptors.Chain(mine),
		"Chain of several":          interceptors.Chain(mine, nil, timeout(time.Minute), interceptors.Chain(watchdog, mine)),
		"For all":                   interceptors.For(nil, mine),
		"For the method":            interceptors.For(interceptors.Methods("/rpcscope.test.Conformance/Call"), mine, watchdog),
		"For the service":           interceptors.For(interceptors.Methods("/rpcscope.test.Conformance/*"), mine),
		"For another method":        interceptors.For(interceptors.Methods("/no.Such/Method"), refuse),
		"For all but the method":    interceptors.For(interceptors.Not(interceptors.Methods("/rpcscope.test.Conformance/*")), refuse),
		"For none":                  interceptors.For(interceptors.Not(nil), refuse),
		"Chain of For and of Chain": interceptors.Chain(interceptors.For(nil, mine), interceptors.Chain(timeout(time.Minute))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			interceptorstest.Run(t, i)
		})
	}
	t.Run("For that refuses", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.For(interceptors.Methods("*"), refuse), interceptorstest.Rejects(codes.PermissionDenied))
	})
}
