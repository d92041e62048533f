package redislimit

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/rpcscope/rpcscope/interceptors"
)

// scripter answers with what it is made of.
type scripter struct {
	redis.Scripter
	reply []any
	err   error
	panic any

	mu   sync.Mutex
	keys []string
	args []any
}

func (s *scripter) EvalSha(ctx context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.args = keys, args
	if s.panic != nil {
		panic(s.panic)
	}
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(s.reply)
	cmd.SetErr(s.err)
	return cmd
}

func TestDecision(t *testing.T) {
	for want, reply := range map[interceptors.Decision][]any{
		{Allowed: true, Remaining: 7, Limit: 20, ResetAfter: 1300 * time.Millisecond}: {int64(1), int64(7), int64(0), int64(1_300_000)},
		{RetryAfter: 2 * time.Second, Limit: 20, ResetAfter: 9e15 * time.Microsecond}: {int64(0), int64(0), int64(2_000_000), int64(9e15)},
	} {
		s := &scripter{reply: reply}
		got, err := New(s, 10, 20).Allow(t.Context(), "user:ada")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("decision (-want +got):\n%s", diff)
		}
		// Of this process there is no clock in what is sent.
		if diff := cmp.Diff([]any{[]string{"rpcscope:ratelimit:{user:ada}"}, []any{"1e-05", 20}}, []any{s.keys, s.args}); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	}
}

func TestNames(t *testing.T) {
	l := New(&scripter{}, 1, 1, WithPrefix("limits/"), nil)
	if got, want := l.name("user:ada"), "limits/{user:ada}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := strings.Repeat("x", 1<<20)
	if got := l.name(long); len(got) != len("limits/{sha256:}")+64 || got == l.name(long+"x") {
		t.Errorf("a long key is %q, want a hash of it", got)
	}
}

func TestFailures(t *testing.T) {
	for want, s := range map[string]*scripter{
		"redislimit: WRONGTYPE":                                  {err: redisError("WRONGTYPE")},
		"redislimit: the script answered with 1 numbers, want 4": {reply: []any{int64(1)}},
		"redislimit: the client panicked: hook":                  {panic: "hook"},
	} {
		l := New(s, 1, 1)
		for range 2 * patience {
			d, err := l.Allow(t.Context(), "key")
			if err == nil || d != (interceptors.Decision{}) {
				t.Fatalf("got %+v, %v, want the error %s", d, err, want)
			}
			if errors.Is(err, errPaused) && s.panic == nil {
				t.Errorf("%s: Redis is not asked any more, though it answers", want)
			} else if !errors.Is(err, errPaused) && err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// stalled is the address of a server that takes connections and says nothing.
func stalled(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return listener.Addr().String()
}

// A Redis that does not answer costs a few calls the timeout, and then nobody
// anything, whatever the client's own timeouts are.
func TestStalledRedisIsNotWaitedFor(t *testing.T) {
	for name, options := range map[string]*redis.Options{
		"client with its defaults": {},
		"ContextTimeoutEnabled":    {ContextTimeoutEnabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			options.Addr, options.ReadTimeout = stalled(t), 2*time.Second
			client := redis.NewClient(options)
			defer client.Close()
			l := New(client, 10, 10, WithTimeout(20*time.Millisecond))
			begun := time.Now()
			for i := range 1000 {
				if d, err := l.Allow(t.Context(), "key"); err == nil || d.Allowed {
					t.Fatalf("got %+v, %v, want an error", d, err)
				} else if paused := errors.Is(err, errPaused); paused != (i >= patience) && time.Since(begun) < pause/2 {
					t.Fatalf("call %d: %v", i, err)
				}
			}
			if d := time.Since(begun); d > time.Second {
				t.Errorf("a thousand calls took %v, want three times 20 ms", d)
			}
		})
	}
}

// Callers whose deadline is shorter than the timeout are not held up by a Redis that
// does not answer: of each call it takes a half, and after a few calls nothing.
func TestStalledRedisAndShortDeadlines(t *testing.T) {
	l := New(silent{}, 10, 10, WithTimeout(50*time.Millisecond))
	limit := interceptors.RateLimit(l, interceptors.Global)
	synctest.Test(t, func(t *testing.T) {
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			begun, want := time.Now(), time.Duration(0)
			if i < patience {
				want = 15 * time.Millisecond
			}
			err := limit(ctx, &interceptors.Call{FullMethod: "/a.B/C"}, func(ctx context.Context) error { return ctx.Err() })
			if took := time.Since(begun); err != nil || took != want {
				t.Errorf("call %d: got %v after %v, want it let happen after %v", i, err, took, want)
			}
			cancel()
		}
	})
}

// What says nothing about Redis: that a call was cancelled, is over, or left it no
// time. Callers could otherwise switch the limit off for all.
func TestCallThatLeavesNoTime(t *testing.T) {
	for name, call := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled meanwhile": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		},
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		},
		"over": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, -time.Second)
		},
		"no time": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 9*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(silent{}, 10, 10, WithTimeout(50*time.Millisecond))
				for range 2 * patience {
					ctx, cancel := call(t.Context())
					if _, err := l.Allow(ctx, "key"); err == nil || errors.Is(err, errPaused) {
						t.Fatalf("got %v, want an error of this call's own", err)
					}
					cancel()
				}
			})
		})
	}
}

// silent is a client whose Redis does not answer.
type silent struct{ redis.Scripter }

func (silent) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	<-ctx.Done()
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(ctx.Err())
	return cmd
}

// Nobody there: an error at once.
func TestRefusedConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	l := New(client, 10, 10)
	for range 100 {
		if d, err := l.Allow(t.Context(), "key"); err == nil || d.Allowed {
			t.Fatalf("got %+v, %v, want an error", d, err)
		}
	}
}

func TestArguments(t *testing.T) {
	client := &scripter{}
	for want, f := range map[string]func(){
		"redislimit: New: the client is nil; want one such as redis.NewClient makes": func() { New(nil, 1, 1) },
		"redislimit: New: perSecond is 0, want 1e-9 to 1e6":                          func() { New(client, 0, 1) },
		"redislimit: New: perSecond is NaN, want 1e-9 to 1e6":                        func() { New(client, math.NaN(), 1) },
		"redislimit: New: perSecond is 1e+07, want 1e-9 to 1e6":                      func() { New(client, 1e7, 1) },
		"redislimit: New: burst is 0, want 1 to 2147483647":                          func() { New(client, 1, 0) },
		"redislimit: WithTimeout: 0s, want more than 0":                              func() { WithTimeout(0) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("panicked with %v, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
