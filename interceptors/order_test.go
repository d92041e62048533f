package interceptors_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// steps are what the interceptors of a server, and its handler, are seen to do.
type steps struct {
	mu    sync.Mutex
	taken []string
	left  []time.Duration // until the deadline, where a step was taken

	limited  bool // the user has no token left
	invalid  int  // the number of the message that is, from 1
	messages int
	hold     chan struct{} // handlers wait for it, if it is not nil
}

func (s *steps) take(ctx context.Context, step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, step)
	if at, ok := ctx.Deadline(); ok {
		s.left = append(s.left, time.Until(at))
	} else {
		s.left = append(s.left, 0)
	}
}

func (s *steps) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.left, s.messages = nil, nil, 0
}

func (s *steps) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// Allow is the Limiter's.
func (s *steps) Allow(ctx context.Context, key string) (interceptors.Decision, error) {
	s.take(ctx, "token of "+key)
	return interceptors.Decision{Allowed: !s.limited, RetryAfter: time.Minute}, nil
}

// Validate is the Validator's.
func (s *steps) Validate(ctx context.Context, _ any) error {
	s.take(ctx, "validate")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages++; s.messages == s.invalid {
		return interceptors.ErrInvalid
	}
	return nil
}

// Enabled is the log's, where messages go.
func (s *steps) Enabled(context.Context, slog.Level) bool { return true }

// Handle notes what was received.
func (s *steps) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "rpc.message.type" && a.Value.String() == "RECEIVED" {
			s.take(ctx, "log")
		}
		return true
	})
	return nil
}

func (s *steps) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s *steps) WithGroup(string) slog.Handler      { return s }

// authenticate knows users by their name, which all of them may call themselves
// by; "slow" is one that takes until there is no time left.
func (s *steps) authenticate(ctx context.Context, _ *interceptors.Call) (propagation.Identity, error) {
	s.take(ctx, "authenticate")
	var user string
	if names := metadata.ValueFromIncomingContext(ctx, "user"); len(names) == 1 {
		user = names[0]
	}
	switch user {
	case "":
		return propagation.Identity{}, interceptors.ErrNoCredentials
	case "slow":
		<-ctx.Done()
		return propagation.Identity{}, ctx.Err()
	case "ada":
		return propagation.Identity{UserID: user, Roles: []string{"admin"}}, nil
	}
	return propagation.Identity{UserID: user}, nil
}

// handlers are those of all kinds.
func (s *steps) handlers() *stub {
	plain := &stub{}
	handle := func(ctx context.Context) {
		s.take(ctx, "handle")
		if s.hold != nil {
			<-s.hold
		}
	}
	return &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			handle(ctx)
			return plain.UnaryCall(ctx, in)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			handle(ss.Context())
			return plain.StreamingInputCall(ss)
		},
		serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			handle(ss.Context())
			return plain.StreamingOutputCall(in, ss)
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			handle(ss.Context())
			return plain.FullDuplexCall(ss)
		},
	}
}

// inDefaultOrder is a server's chain in the order that the documentation of the
// package gives.
func (s *steps) inDefaultOrder(limit interceptors.Interceptor) []interceptors.Interceptor {
	return []interceptors.Interceptor{
		interceptors.Timeout(time.Minute),
		limit,
		interceptors.Authenticate(interceptors.AuthenticatorFunc(s.authenticate)),
		interceptors.RateLimit(s, interceptors.ByUser),
		interceptors.Authorize(interceptors.Allow("*", interceptors.Role("admin"))),
		interceptors.Validate(s),
		interceptors.LogPayloads(interceptors.PayloadLogger(slog.New(s))),
	}
}

// received is what happens to the messages of a call in which the n-th is
// invalid, and where among that the handler begins: one with a request has it
// when it begins, one with a stream of requests asks for them.
func received(kind interceptors.Kind, n int) (taken []string) {
	streams := kind == interceptors.ClientStream || kind == interceptors.BidiStream
	messages := 1
	if streams {
		messages, taken = 3, append(taken, "handle")
	}
	for i := 1; i <= messages; i++ {
		taken = append(taken, "validate")
		if i == n {
			return taken
		}
		taken = append(taken, "log")
	}
	if !streams {
		taken = append(taken, "handle")
	}
	return taken
}

// onePlace are the two limits that shed, with a single place, by the reason for which.
var onePlace = map[string]func() interceptors.Interceptor{
	"concurrency": func() interceptors.Interceptor { return interceptors.ConcurrencyLimit(1) },
	"overloaded": func() interceptors.Interceptor {
		return interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Initial: 1, Min: 1, Max: 1})
	},
}

// The default order, end to end: what a call goes through, and what it does not
// get to when it is refused on the way.
func TestDefaultOrder(t *testing.T) {
	for _, test := range []struct {
		name    string
		user    string
		limited bool
		invalid int
		want    func(interceptors.Kind) []string
		code    codes.Code
		reason  string // of the refusal
	}{
		{name: "accepted", user: "ada", want: func(kind interceptors.Kind) []string {
			return append([]string{"authenticate", "token of ada"}, received(kind, 0)...)
		}},
		{name: "not authenticated: takes nobody's token", user: "", code: codes.Unauthenticated, reason: "unauthenticated",
			want: func(interceptors.Kind) []string { return []string{"authenticate"} }},
		{name: "authentication takes too long: has a deadline", user: "slow", code: codes.DeadlineExceeded, reason: "timeout",
			want: func(interceptors.Kind) []string { return []string{"authenticate"} }},
		{name: "no token left: rights are not looked at", user: "bob", limited: true, code: codes.ResourceExhausted, reason: "rate_limited",
			want: func(interceptors.Kind) []string { return []string{"authenticate", "token of bob"} }},
		{name: "not allowed: costs a token, and messages are not looked at", user: "bob", invalid: 1, code: codes.PermissionDenied, reason: "permission_denied",
			want: func(interceptors.Kind) []string { return []string{"authenticate", "token of bob"} }},
		{name: "invalid: is not logged", user: "ada", invalid: 1, code: codes.InvalidArgument, reason: "invalid",
			want: func(kind interceptors.Kind) []string {
				return append([]string{"authenticate", "token of ada"}, received(kind, 1)...)
			}},
	} {
		for limit, newLimit := range onePlace {
			for _, kind := range kinds {
				t.Run(test.name+"/"+limit+"/"+kind.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := &steps{limited: test.limited, invalid: test.invalid}
						h := start(t, s.handlers(), on(interceptors.ServerSide, s.inDefaultOrder(newLimit())...))
						ctx := context.Background()
						if test.user != "" {
							ctx = metadata.AppendToOutgoingContext(ctx, "user", test.user)
						}
						err := h.call(ctx, kind)
						if errors.Code(err) != test.code {
							t.Errorf("the caller got %v, want %v", err, test.code)
						}
						h.idle()
						if diff := cmp.Diff(withKeys(test.want(kind)), withKeys(s.seen())); diff != "" {
							t.Errorf("what happened (-want +got):\n%s", diff)
						}
						for i, left := range s.left {
							if left != time.Minute {
								t.Errorf("%s: %v left until the deadline, want a minute", s.taken[i], left)
							}
						}
						want, counted := any(nil), map[string]int64{}
						if test.reason != "" {
							want, counted = test.reason, map[string]int64{test.reason: 1}
						}
						h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", counted)
						if got := attrs(h.span(trace.SpanKindServer).Attributes())["rpcscope.rejected.reason"]; got != want {
							t.Errorf("the span's reason is %v, want %v", got, want)
						}
						// Whatever became of it, its place is free.
						s.limited, s.invalid = false, 0
						if err := h.call(metadata.AppendToOutgoingContext(context.Background(), "user", "ada"), kind); err != nil {
							t.Errorf("the next call: %v", err)
						}
						h.idle()
					})
				})
			}
		}
	}
}

// withKeys leaves of a limiter's keys what is the user's name.
func withKeys(taken []string) []string {
	for i, step := range taken {
		if strings.HasPrefix(step, "token of ") {
			for _, user := range []string{"ada", "bob"} {
				if strings.Contains(step, user) {
					taken[i] = "token of " + user
				}
			}
		}
	}
	return taken
}

// A call that there is no place for costs nothing further: nobody is asked who
// makes it.
func TestDefaultOrderSheds(t *testing.T) {
	for name, newLimit := range onePlace {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &steps{hold: make(chan struct{})}
					h := start(t, s.handlers(), on(interceptors.ServerSide, s.inDefaultOrder(newLimit())...))
					ctx := metadata.AppendToOutgoingContext(context.Background(), "user", "ada")
					first := make(chan error, 1)
					go func() { first <- h.call(ctx, kind) }()
					synctest.Wait() // until it is in its handler, or waits for its answer
					s.reset()
					if err := h.call(ctx, kind); errors.Code(err) != codes.Unavailable {
						t.Errorf("the second call got %v, want Unavailable", err)
					}
					if got := s.seen(); len(got) > 0 {
						t.Errorf("the second call went as far as %q, want nothing", got)
					}
					close(s.hold)
					if err := <-first; err != nil {
						t.Errorf("the first call got %v", err)
					}
					h.idle()
					h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{name: 1})
					for _, span := range h.spans.Ended() {
						seen := attrs(span.Attributes())
						if seen["rpcscope.rejected.reason"] == name && seen["rpcscope.deadline.budget_ms"] != time.Minute.Milliseconds() {
							t.Errorf("the refused call had a budget of %v ms, want a minute", seen["rpcscope.deadline.budget_ms"])
						}
					}
				})
			})
		}
	}
}

// Who is slow to tell who they are holds a place as well: nobody can have many of
// them tell at the same time.
func TestDefaultOrderLimitsAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &steps{}
		h := start(t, s.handlers(), on(interceptors.ServerSide, s.inDefaultOrder(interceptors.ConcurrencyLimit(1))...))
		slow := make(chan error, 1)
		go func() {
			slow <- h.call(metadata.AppendToOutgoingContext(context.Background(), "user", "slow"), interceptors.Unary)
		}()
		synctest.Wait()
		if err := h.call(metadata.AppendToOutgoingContext(context.Background(), "user", "ada"), interceptors.Unary); errors.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
		if err := <-slow; !errors.Is(err, interceptors.ErrTimeout) {
			t.Errorf("the slow one got %v, want ErrTimeout", err)
		}
		h.idle()
	})
}
