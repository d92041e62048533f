package interceptorstest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	rpcerrors "github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

type (
	call = interceptors.Call
	next = interceptors.Next
)

// violations takes apart what Check returned.
func violations(t *testing.T, err error) (found []*interceptorstest.Violation) {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Check returned %v, want joined errors", err)
	}
	for _, err := range joined.Unwrap() {
		var v *interceptorstest.Violation
		if !errors.As(err, &v) {
			t.Fatalf("Check found %v, want violations only", err)
		}
		found = append(found, v)
	}
	return found
}

// detached has the values of one context and the end of another.
type detached struct {
	context.Context
	values context.Context
}

func (d detached) Value(key any) any { return d.values.Value(key) }

// endless is a context that keeps its deadline to itself.
type endless struct{ context.Context }

func (endless) Deadline() (time.Time, bool) { return time.Time{}, false }

// pass makes a table's entry of an interceptor without state.
func pass(i interceptors.Interceptor) func() interceptors.Interceptor {
	return func() interceptors.Interceptor { return i }
}

func TestBrokenInterceptorsAreFound(t *testing.T) {
	type options = []interceptorstest.Option
	var (
		server = interceptorstest.Sides(interceptors.ServerSide)
		client = interceptorstest.Sides(interceptors.ClientSide)
		unary  = interceptorstest.Kinds(interceptors.Unary)
		soon   = interceptorstest.Patience(time.Second)
	)
	every := []string{"ok", "error", "error-once", "error-mid-stream", "panic", "cancel", "abandon", "deadline", "expired", "together"}
	tests := []struct {
		name string
		make func() interceptors.Interceptor // with what it keeps between calls
		opts options
		want string   // the one obligation that it does not meet
		in   []string // the endings in which that shows, on every side and for every kind that has them
		also string   // another one that it may miss as well
	}{
		{
			name: "forgets the call", want: "calls-next",
			make: pass(func(context.Context, *call, next) error { return nil }),
			in:   every,
		},
		{
			name: "refuses, which was not declared", want: "calls-next",
			make: pass(func(context.Context, *call, next) error { return status.Error(codes.PermissionDenied, "no") }),
			in:   every,
		},
		{
			name: "answers, which was not declared", want: "calls-next", opts: options{unary},
			make: pass(func(_ context.Context, c *call, _ next) error {
				c.Response = wrapperspb.String("reply")
				return nil
			}),
			in: []string{"ok", "error", "panic", "cancel", "deadline", "expired", "together"},
		},
		{
			name: "retries, which was not declared", want: "next-once",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				if status.Code(err) == codes.Unavailable {
					err = next(ctx)
				}
				return err
			}),
			in: []string{"error", "error-mid-stream"},
		},
		{
			name: "hedges", want: "next-once", also: "waits-for-next", opts: options{client, unary, interceptorstest.Retries()},
			make: pass(func(ctx context.Context, c *call, next next) error {
				running, second := make(chan struct{}), make(chan struct{})
				c.OnSend(func(any) error {
					close(running)
					<-second
					return nil
				})
				first := make(chan error)
				go func() { first <- next(ctx) }()
				<-running
				err := next(ctx)
				close(second)
				if err := <-first; err != nil {
					return err
				}
				return err
			}),
			in: every,
		},
		{
			name: "repeats what succeeded", want: "next-again", opts: options{interceptorstest.Retries()},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return err
				}
				return next(ctx)
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "retries what the caller has given up", want: "next-again", opts: options{interceptorstest.Retries()},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				for n := 0; err != nil && n < 2; n++ {
					err = next(ctx)
				}
				return err
			}),
			in: []string{"cancel", "abandon", "deadline", "expired"},
		},
		{
			name: "leaves the handler behind at the deadline", want: "waits-for-next",
			opts: options{interceptorstest.Endings("ok", "error", "panic", "cancel", "abandon", "deadline")},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				done := make(chan error, 1)
				go func() { done <- next(ctx) }()
				select {
				case err := <-done:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}),
			in: []string{"panic", "cancel", "abandon", "deadline"},
		},
		{
			name: "swallows errors", want: "returns-error",
			make: pass(func(ctx context.Context, c *call, next next) error {
				if err := next(ctx); err != nil && c.Kind == interceptors.Unary {
					c.Response = wrapperspb.String("sorry")
				}
				return nil
			}),
			in: []string{"error", "error-mid-stream", "cancel", "abandon", "deadline", "expired", "together"},
		},
		{
			name: "makes all errors Internal", want: "returns-error",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return status.Error(codes.Internal, "something went wrong")
				}
				return nil
			}),
			in: []string{"error", "error-mid-stream", "cancel", "abandon", "deadline", "expired", "together"},
		},
		{
			name: "makes new errors of the texts of errors", want: "returns-error",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return status.Error(rpcerrors.Code(err), "handling "+err.Error())
				}
				return nil
			}),
			in: []string{"error", "error-mid-stream", "together"},
		},
		{
			name: "ignores one code", want: "returns-error",
			make: pass(func(ctx context.Context, c *call, next next) error {
				err := next(ctx)
				if status.Code(err) == codes.NotFound && c.Kind == interceptors.Unary {
					c.Response = wrapperspb.String("")
				}
				if status.Code(err) == codes.NotFound {
					return nil
				}
				return err
			}),
			in: []string{"error", "together"},
		},
		{
			name: "fails what succeeded", want: "returns-error",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return err
				}
				return errors.New("the audit log is full")
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "maps errors otherwise than declared", want: "returns-error",
			opts: options{interceptorstest.MapsErrors(func(codes.Code) codes.Code { return codes.Internal })},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				if err := next(ctx); err != nil {
					return status.Error(codes.Unknown, "masked")
				}
				return nil
			}),
			in: []string{"error", "error-mid-stream", "cancel", "abandon", "deadline", "expired", "together"},
		},
		{
			name: "does not reject", want: "rejects", opts: options{interceptorstest.Rejects(codes.Unauthenticated)},
			make: pass(func(ctx context.Context, _ *call, next next) error { return next(ctx) }),
			in:   []string{"ok", "together"},
		},
		{
			name: "rejects with another code", want: "rejects", opts: options{interceptorstest.Rejects(codes.Unauthenticated)},
			make: pass(func(context.Context, *call, next) error { return errors.New("no token") }),
			in:   []string{"ok", "together"},
		},
		{
			name: "rejects after the call", want: "rejects", opts: options{interceptorstest.Rejects(codes.Unauthenticated)},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				_ = next(ctx)
				return status.Error(codes.Unauthenticated, "no token")
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "begins a new context", want: "derives-context",
			make: pass(func(_ context.Context, _ *call, next next) error { return next(context.Background()) }),
			in:   every,
		},
		{
			name: "gives no context", want: "derives-context",
			make: pass(func(_ context.Context, _ *call, next next) error {
				var none context.Context
				return next(none)
			}),
			in: every,
		},
		{
			name: "cuts cancellation off", want: "derives-context",
			make: pass(func(ctx context.Context, _ *call, next next) error { return next(context.WithoutCancel(ctx)) }),
			in:   every,
		},
		{
			name: "puts a deadline of its own in the place of the caller's", want: "derives-context", opts: options{soon, interceptorstest.Kinds(interceptors.ServerStream), interceptorstest.Endings("ok", "cancel", "deadline")},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				own, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
				defer cancel()
				return next(detached{own, ctx})
			}),
			in: []string{"cancel", "deadline"},
		},
		{
			name: "hides the deadline", want: "derives-context",
			make: pass(func(ctx context.Context, _ *call, next next) error { return next(endless{ctx}) }),
			in:   []string{"deadline", "expired"},
		},
		{
			name: "never cancels its timeout", want: "releases-context",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				_ = cancel // the mistake
				return next(ctx)
			}),
			in: []string{"ok", "error", "error-mid-stream", "panic", "together"},
		},
		{
			name: "replaces the metadata", want: "keeps-metadata",
			make: pass(func(ctx context.Context, c *call, next next) error {
				md := metadata.Pairs("x-tenant", "acme")
				if c.Side == interceptors.ServerSide {
					return next(metadata.NewIncomingContext(ctx, md))
				}
				return next(metadata.NewOutgoingContext(ctx, md))
			}),
			in: every,
		},
		{
			name: "adds the token again for each attempt", want: "keeps-metadata",
			opts: options{interceptorstest.Retries(), client},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				for n := 0; ; n++ {
					ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer x")
					if err := next(ctx); status.Code(err) != codes.Unavailable || n == 2 {
						return err
					}
				}
			}),
			in: []string{"error", "error-once", "error-mid-stream"},
		},
		{
			name: "renames the method", want: "keeps-call",
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.FullMethod = strings.TrimPrefix(c.FullMethod, "/")
				return next(ctx)
			}),
			in: every,
		},
		{
			name: "renames the method in the end", want: "keeps-call",
			make: pass(func(ctx context.Context, c *call, next next) error {
				defer func() { c.FullMethod = "done" }()
				return next(ctx)
			}),
			in: every,
		},
		{
			name: "sets the request of a stream", want: "keeps-call",
			opts: options{interceptorstest.Kinds(interceptors.ClientStream, interceptors.ServerStream, interceptors.BidiStream)},
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.Request = wrapperspb.String("mine")
				return next(ctx)
			}),
			in: every,
		},
		{
			name: "replaces the request", want: "keeps-messages", opts: options{unary},
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.Request = wrapperspb.String("mine")
				return next(ctx)
			}),
			in: []string{"ok", "error-mid-stream", "panic", "cancel", "abandon", "deadline", "together"},
		},
		{
			name: "replaces the request by something else", want: "keeps-messages", opts: options{unary, server},
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.Request = "mine"
				return next(ctx)
			}),
			in: []string{"ok", "error-mid-stream", "panic", "cancel", "abandon", "deadline", "together"},
		},
		{
			name: "replaces the reply", want: "keeps-messages", opts: options{unary},
			make: pass(func(ctx context.Context, c *call, next next) error {
				err := next(ctx)
				if err == nil {
					c.Response = wrapperspb.String("mine")
				}
				return err
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "changes what is received", want: "keeps-messages", opts: options{interceptorstest.Endings("ok", "together")},
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.OnReceive(func(m any) error {
					m.(*wrapperspb.StringValue).Value = "redacted"
					return nil
				})
				return next(ctx)
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "changes the caller's message", want: "keeps-request",
			opts: options{unary, client, interceptorstest.ChangesMessages()},
			make: pass(func(ctx context.Context, c *call, next next) error {
				c.Request.(*wrapperspb.StringValue).Value = "stamped"
				return next(ctx)
			}),
			in: []string{"ok", "error", "panic", "cancel", "deadline", "expired", "together"},
		},
		{
			name: "refuses the second message", want: "returns-error",
			opts: options{interceptorstest.Kinds(interceptors.ServerStream, interceptors.BidiStream)},
			make: pass(func(ctx context.Context, c *call, next next) error {
				var n int
				if c.Side == interceptors.ServerSide {
					c.OnSend(func(any) error {
						if n++; n == 2 {
							return status.Error(codes.ResourceExhausted, "enough")
						}
						return nil
					})
				} else {
					c.OnReceive(func(any) error {
						if n++; n == 2 {
							return status.Error(codes.ResourceExhausted, "enough")
						}
						return nil
					})
				}
				return next(ctx)
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "keeps the reply and hands it out again", want: "keeps-messages",
			opts: options{unary, client, interceptorstest.MayAnswer()},
			make: func() interceptors.Interceptor {
				var mu sync.Mutex
				var kept any
				return func(ctx context.Context, c *call, next next) error {
					mu.Lock()
					if c.Response = kept; kept != nil {
						defer mu.Unlock()
						return nil
					}
					mu.Unlock()
					err := next(ctx)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						kept = c.Response
					}
					return err
				}
			},
			in: []string{"error", "panic", "cancel", "deadline", "together"},
		},
		{
			name: "waits without regard to the context", want: "ends", opts: options{soon, unary, interceptorstest.Endings("ok", "cancel", "expired")},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				if ctx.Err() != nil {
					timer := time.NewTimer(3 * time.Second)
					<-timer.C
				}
				return err
			}),
			in: []string{"cancel", "expired"},
		},
		{
			name: "waits for what never comes", want: "ends", opts: options{soon, server, unary, interceptorstest.Endings("ok", "cancel")},
			make: func() interceptors.Interceptor {
				over := make(chan struct{})
				t.Cleanup(func() { close(over) })
				return func(ctx context.Context, _ *call, next next) error {
					<-over
					return next(ctx)
				}
			},
			in: []string{"ok", "cancel"},
		},
		{
			name: "swallows panics", want: "passes-panics",
			make: pass(func(ctx context.Context, _ *call, next next) (err error) {
				defer func() {
					if v := recover(); v != nil {
						err = status.Error(codes.Internal, "oops")
					}
				}()
				return next(ctx)
			}),
			in: []string{"panic"},
		},
		{
			name: "recovers with another code than declared", want: "recovers", opts: options{interceptorstest.Recovers(codes.Internal)},
			make: pass(func(ctx context.Context, _ *call, next next) (err error) {
				defer func() {
					if v := recover(); v != nil {
						err = status.Error(codes.Unknown, "oops")
					}
				}()
				return next(ctx)
			}),
			in: []string{"panic"},
		},
		{
			name: "does not recover", want: "recovers", opts: options{interceptorstest.Recovers(codes.Internal)},
			make: pass(func(ctx context.Context, _ *call, next next) error { return next(ctx) }),
			in:   []string{"panic"},
		},
		{
			name: "panics", want: "does-not-panic",
			make: pass(func(ctx context.Context, c *call, next next) error {
				if err := next(ctx); err != nil {
					return err
				}
				panic("nobody has tested this: " + c.FullMethod)
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "leaves with Goexit", want: "does-not-panic", opts: options{soon, unary, server, interceptorstest.Endings("ok")},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				if err == nil {
					runtime.Goexit()
				}
				return err
			}),
			in: []string{"ok"},
		},
		{
			name: "ends the call's span", want: "leaves-span",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				defer trace.SpanFromContext(ctx).End()
				return next(ctx)
			}),
			in: every,
		},
		{
			name: "makes the span Ok", want: "leaves-span",
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				if err == nil {
					trace.SpanFromContext(ctx).SetStatus(otelcodes.Ok, "")
				}
				return err
			}),
			in: []string{"ok", "together"},
		},
		{
			name: "makes every failure an error of the server's (rule 18)", want: "leaves-span", opts: options{server},
			make: pass(func(ctx context.Context, _ *call, next next) error {
				err := next(ctx)
				if err != nil {
					trace.SpanFromContext(ctx).SetStatus(otelcodes.Error, err.Error())
				}
				return err
			}),
			in: []string{"error", "cancel", "abandon", "deadline", "together"},
		},
		{
			name: "leaves a goroutine", want: "leaves-no-goroutine", opts: options{soon, server, unary, interceptorstest.Endings("ok", "panic", "cancel")},
			make: func() interceptors.Interceptor {
				over := make(chan struct{})
				t.Cleanup(func() { close(over) })
				return func(ctx context.Context, _ *call, next next) error {
					go func() { <-over }()
					return next(ctx)
				}
			},
			in: []string{"ok", "panic", "cancel"},
		},
		{
			name: "leaves a goroutine after a panic", want: "leaves-no-goroutine", opts: options{soon, unary, server, interceptorstest.Endings("ok", "panic")},
			make: func() interceptors.Interceptor {
				over := make(chan struct{})
				t.Cleanup(func() { close(over) })
				return func(ctx context.Context, _ *call, next next) error {
					done := make(chan struct{})
					go func() {
						select {
						case <-done:
						case <-over:
						}
					}()
					err := next(ctx)
					close(done)
					return err
				}
			},
			in: []string{"panic"},
		},
		{
			name: "lets one call happen at a time", want: "concurrent", opts: options{soon, unary},
			make: func() interceptors.Interceptor {
				var mu sync.Mutex
				return func(ctx context.Context, _ *call, next next) error {
					mu.Lock()
					defer mu.Unlock()
					return next(ctx)
				}
			},
			in: []string{"together"},
		},
		{
			name: "mixes up the contexts of calls", want: "concurrent", opts: options{soon},
			make: func() interceptors.Interceptor {
				var mu sync.Mutex
				var last context.Context
				return func(ctx context.Context, _ *call, next next) error {
					mu.Lock()
					if last == nil || last.Err() != nil {
						last = ctx
					}
					ctx = last
					mu.Unlock()
					return next(ctx)
				}
			},
			in: []string{"together"},
		},
		{
			name: "mixes up the errors of calls", want: "concurrent",
			make: func() interceptors.Interceptor {
				var mu sync.Mutex
				var running int
				var first error
				return func(ctx context.Context, _ *call, next next) error {
					mu.Lock()
					running++
					mu.Unlock()
					defer func() {
						mu.Lock()
						defer mu.Unlock()
						if running--; running == 0 {
							first = nil
						}
					}()
					err := next(ctx)
					mu.Lock()
					defer mu.Unlock()
					if first == nil {
						first = err
					}
					return first
				}
			},
			in: []string{"together"},
		},
	}
	// Most of the time is spent waiting for what they never do.
	results := make([]chan error, len(tests))
	slots := make(chan struct{}, 16)
	for n, tt := range tests {
		results[n] = make(chan error, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[n] <- interceptorstest.Check(tt.make(), tt.opts...)
		}()
	}
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, v := range violations(t, <-results[n]) {
				if v.Obligation != tt.want && v.Obligation != tt.also {
					t.Errorf("found %v\nwant %s", v, tt.want)
				}
				got = append(got, v.Side.String()+"/"+v.Kind.String()+"/"+v.Ending)
			}
			if diff := cmp.Diff(situations(t, tt.opts, tt.in), slices.Compact(got)); diff != "" {
				t.Errorf("situations in which it shows (-want +got):\n%s", diff)
			}
		})
	}
}

// situations lists those of the suite that have one of the endings, in order.
func situations(t *testing.T, opts []interceptorstest.Option, endings []string) (all []string) {
	t.Helper()
	for _, s := range interceptorstest.Situations(t, opts...) {
		if slices.Contains(endings, s[strings.LastIndex(s, "/")+1:]) {
			all = append(all, s)
		}
	}
	return all
}
