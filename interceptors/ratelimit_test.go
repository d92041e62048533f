package interceptors_test

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
	"github.com/rpcscope/rpcscope/propagation"
)

// limiterFunc is a Limiter that is a function.
type limiterFunc func(ctx context.Context, key string) (interceptors.Decision, error)

func (f limiterFunc) Allow(ctx context.Context, key string) (interceptors.Decision, error) {
	return f(ctx, key)
}

func limiterOf(d interceptors.Decision, err error) limiterFunc {
	return func(context.Context, string) (interceptors.Decision, error) { return d, err }
}

// callMD makes one call of the kind and returns what came with its answer.
func (h *harness) callMD(kind interceptors.Kind) (header, trailer metadata.MD, err error) {
	h.t.Helper()
	ctx := h.ctx()
	if kind == interceptors.Unary {
		_, err = h.client.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
		return header, trailer, err
	}
	method := map[interceptors.Kind]string{interceptors.ClientStream: clientStreamMethod, interceptors.ServerStream: serverStreamMethod, interceptors.BidiStream: bidiMethod}[kind]
	cs, err := h.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: kind != interceptors.ServerStream, ServerStreams: kind != interceptors.ClientStream}, method)
	if err != nil {
		return nil, nil, err
	}
	_ = cs.SendMsg(&testpb.StreamingOutputCallRequest{})
	_ = cs.CloseSend()
	if err = receive(cs); err == io.EOF {
		err = nil
	}
	header, _ = cs.Header()
	return header, cs.Trailer(), err
}

// Rule 25: a refusal is ResourceExhausted with RetryInfo, QuotaFailure and
// pushback, on every kind, and is counted; what is let in is not touched.
func TestRule25RateLimit(t *testing.T) {
	everyKind(t, func(t *testing.T, kind interceptors.Kind) {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.RateLimit(
				interceptors.NewTokenBucket(0.4, 2), interceptors.Global, interceptors.QuotaHeaders(), interceptors.PolicyName("per-user"))))
			for i, want := range []string{`"per-user";r=1;t=3`, `"per-user";r=0;t=5`} {
				header, _, err := h.callMD(kind)
				if err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
				got := [][]string{header.Get("ratelimit"), header.Get("ratelimit-policy")}
				if diff := cmp.Diff([][]string{{want}, {`"per-user";q=2`}}, got); diff != "" {
					t.Errorf("quota headers of call %d (-want +got):\n%s", i, diff)
				}
			}
			<-time.After(400 * time.Millisecond)
			_, trailer, err := h.callMD(kind)
			if !errors.Is(err, interceptors.ErrRateLimited) || errors.Code(err) != codes.ResourceExhausted || errors.Message(err) != "rate limit exceeded" {
				t.Errorf("the third call got %v, want ErrRateLimited", err)
			}
			if d, ok := errors.RetryAfter(err); !ok || d != 2100*time.Millisecond {
				t.Errorf("it may be tried again after %v (%v), want 2.1 s", d, ok)
			}
			quota, _ := errors.Detail[*errdetails.QuotaFailure](err)
			want := &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
				Subject: "per-user", Description: "too many calls", ApiService: "grpc.testing.TestService", QuotaValue: 2,
			}}}
			if diff := cmp.Diff(want, quota, protocmp.Transform()); diff != "" {
				t.Errorf("QuotaFailure (-want +got):\n%s", diff)
			}
			for key, want := range map[string]string{"grpc-retry-pushback-ms": "2100", "ratelimit": `"per-user";r=0;t=5`, "ratelimit-policy": `"per-user";q=2`} {
				if got := trailer.Get(key); len(got) != 1 || got[0] != want {
					t.Errorf("trailer %s is %q, want %q", key, got, want)
				}
			}
			h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"rate_limited": 1})
			h.noted(map[string]any{"rpcscope.rejected.reason": "rate_limited", "rpcscope.ratelimit.policy": "per-user"})
		})
	})
}

// everyKind runs f for the four kinds.
func everyKind(t *testing.T, f func(*testing.T, interceptors.Kind)) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) { f(t, kind) })
	}
}

// noted fails the test unless the last span of a server, and the last record of
// its access log, have the attributes.
func (h *harness) noted(want map[string]any) {
	h.t.Helper()
	h.idle()
	span := attrs(h.span(trace.SpanKindServer).Attributes())
	records := recordsOf(h.t, h, "server call")
	for key, value := range want {
		if span[key] != value {
			h.t.Errorf("the span has %s %v, want %v", key, span[key], value)
		}
		if got := records[len(records)-1][key]; got != value {
			h.t.Errorf("the access log has %s %v, want %v", key, got, value)
		}
	}
}

// A client of gRPC that retries waits as long as it is told and is then let in:
// the refusal is nothing but trailers, also with QuotaHeaders.
func TestRule25RetryPushbackIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const policy = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.001s",
			"maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}`
		h := start(t, &stub{}, func(h *harness) {
			on(interceptors.ServerSide, interceptors.RateLimit(interceptors.NewTokenBucket(0.1, 1), interceptors.Global, interceptors.QuotaHeaders()))(h)
			h.dial = append(h.dial, grpc.WithDefaultServiceConfig(policy))
		})
		begun := time.Now()
		for i := range 3 {
			if err := h.call(context.Background(), interceptors.Unary); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if d := time.Since(begun); d != 20*time.Second {
			t.Errorf("three calls took %v, want to wait for 10 s twice", d)
		}
	})
}

// Rule 25: a limiter that fails lets calls happen, or refuses them where that is
// wanted; either way that is counted and noted. A panic is a failure.
func TestRule25FailingLimiter(t *testing.T) {
	broken := stderrors.New("no connection to the limiter")
	limiters := map[string]interceptors.Limiter{
		"no connection to the limiter": limiterOf(interceptors.Decision{}, broken),
		"panic: out of order": limiterFunc(func(context.Context, string) (interceptors.Decision, error) {
			panic("out of order")
		}),
	}
	panicking := func(context.Context, *interceptors.Call) string { panic("out of keys") }
	for text, limiter := range limiters {
		for _, closed := range []bool{false, true} {
			for _, perMessage := range []bool{false, true} {
				for _, key := range []interceptors.KeyFunc{interceptors.Global, panicking} {
					want, outcome, text := codes.OK, "allowed", text
					var options []interceptors.RateLimitOption
					if closed {
						want, outcome = codes.Unavailable, "refused"
						options = append(options, interceptors.FailClosed())
					}
					if perMessage {
						options = append(options, interceptors.PerMessage(), nil)
					}
					if fmt.Sprintf("%p", key) == fmt.Sprintf("%p", panicking) {
						text = "panic: out of keys"
					}
					t.Run(fmt.Sprintf("%s,closed=%v,perMessage=%v", text, closed, perMessage), func(t *testing.T) {
						everyKind(t, func(t *testing.T, kind interceptors.Kind) {
							h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.RateLimit(limiter, key, options...)))
							err := h.call(h.ctx(), kind)
							if errors.Code(err) != want {
								t.Fatalf("the caller got %v, want %v", err, want)
							}
							if closed {
								if d, ok := errors.RetryAfter(err); !errors.Is(err, interceptors.ErrLimiterFailed) || !ok || d < time.Second/2 || d > 3*time.Second/2 {
									t.Errorf("the caller got %v, to come back in %v; want ErrLimiterFailed and half a second to one and a half", err, d)
								}
								if strings.Contains(err.Error(), text) {
									t.Errorf("the caller got the private text: %v", err)
								}
								h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"limiter_failed": 1})
							}
							messages := int64(1)
							if perMessage && !closed && (kind == interceptors.ClientStream || kind == interceptors.BidiStream) {
								messages = 3
							}
							h.counted("rpcscope.server.limiter.failures", "rpcscope.ratelimit.outcome", map[string]int64{outcome: messages})
							h.counted("rpcscope.server.limiter.failures", "rpcscope.ratelimit.policy", map[string]int64{"default": messages})
							h.noted(map[string]any{"rpcscope.ratelimit.error": text, "rpcscope.ratelimit.policy": "default"})
						})
					})
				}
			}
		}
	}
}

// A limiter that gives up since the caller has left has not failed.
func TestRateLimitOfACallThatIsOver(t *testing.T) {
	everyKind(t, func(t *testing.T, kind interceptors.Kind) {
		for _, perMessage := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				options := []interceptors.RateLimitOption{nil}
				if perMessage {
					options = append(options, interceptors.PerMessage())
				}
				h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.RateLimit(limiterFunc(func(ctx context.Context, _ string) (interceptors.Decision, error) {
					<-ctx.Done()
					return interceptors.Decision{}, ctx.Err()
				}), interceptors.Global, options...)))
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if err := h.call(ctx, kind); errors.Code(err) != codes.DeadlineExceeded {
					t.Errorf("the caller got %v, want DeadlineExceeded", err)
				}
				h.counted("rpcscope.server.limiter.failures", "rpcscope.ratelimit.outcome", map[string]int64{})
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
			})
		}
	})
}

// PerMessage takes a token for each message of a stream of requests, and one for
// each call that has a single request.
func TestRule25PerMessage(t *testing.T) {
	everyKind(t, func(t *testing.T, kind interceptors.Kind) {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			bucket := interceptors.NewTokenBucket(1, 4)
			limiter := limiterFunc(func(ctx context.Context, key string) (interceptors.Decision, error) {
				asked.Add(1)
				return bucket.Allow(ctx, key)
			})
			h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.RateLimit(limiter, interceptors.Global, interceptors.PerMessage(), interceptors.QuotaHeaders())))
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			if kind == interceptors.Unary || kind == interceptors.ServerStream {
				if n := asked.Load(); n != 1 {
					t.Errorf("one request took %d tokens", n)
				}
				return
			}
			if n := asked.Load(); n != 3 {
				t.Errorf("three messages took %d tokens", n)
			}
			synctest.Wait() // the server's end of this call comes before that of the next
			desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: kind == interceptors.BidiStream}
			cs, err := h.conn.NewStream(h.ctx(), desc, map[bool]string{true: bidiMethod, false: clientStreamMethod}[desc.ServerStreams])
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				_ = cs.SendMsg(&testpb.StreamingOutputCallRequest{})
			}
			_ = cs.CloseSend()
			err = receive(cs)
			if d, ok := errors.RetryAfter(err); !errors.Is(err, interceptors.ErrRateLimited) || !ok || d != time.Second {
				t.Errorf("the second stream got %v, to come back in %v; want ErrRateLimited and a second", err, d)
			}
			if got := cs.Trailer().Get("grpc-retry-pushback-ms"); len(got) != 1 || got[0] != "1000" {
				t.Errorf("pushback is %q, want 1000", got)
			}
			if got := cs.Trailer().Get("ratelimit"); len(got) != 1 || got[0] != `"default";r=0;t=4` {
				t.Errorf("ratelimit is %q", got)
			}
			if n := asked.Load(); n != 5 {
				t.Errorf("%d tokens were asked for, want 5: the stream ends with the first refusal", n)
			}
			h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{"rate_limited": 1})
			h.noted(map[string]any{"rpcscope.rejected.reason": "rate_limited"})
		})
	})
}

// A handler that receives on a goroutine of its own, and does not care for what it
// is told: neither a race nor the end of the process.
func TestPerMessageOnAnotherGoroutine(t *testing.T) {
	for name, limiter := range map[string]limiterFunc{
		"refused": limiterOf(interceptors.Decision{}, nil),
		"panics":  func(context.Context, string) (interceptors.Decision, error) { panic("limiter") },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
				received := make(chan struct{})
				go func() {
					defer close(received)
					for range 3 {
						_, _ = ss.Recv()
					}
				}()
				for range 3 {
					_ = ss.Send(&testpb.StreamingOutputCallResponse{})
				}
				<-received
				return nil
			}}, on(interceptors.ServerSide, interceptors.RateLimit(limiter, interceptors.Global, interceptors.PerMessage(), interceptors.FailClosed())))
			want := map[string]error{"refused": interceptors.ErrRateLimited, "panics": interceptors.ErrLimiterFailed}[name]
			if err := h.call(h.ctx(), interceptors.BidiStream); !errors.Is(err, want) {
				t.Errorf("the caller got %v, want %v", err, want)
			}
		})
	}
}

// On a client the calls that go out are limited, with PerMessage the messages.
func TestRateLimitOnClients(t *testing.T) {
	everyKind(t, func(t *testing.T, kind interceptors.Kind) {
		for _, perMessage := range []bool{false, true} {
			tokens, options := 1, []interceptors.RateLimitOption{interceptors.QuotaHeaders()}
			if perMessage {
				options = append(options, interceptors.PerMessage())
				if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
					tokens = 3
				}
			}
			h := start(t, &stub{}, on(interceptors.ClientSide, interceptors.RateLimit(interceptors.NewTokenBucket(1e-6, tokens), interceptors.ByUser, options...)))
			if err := h.call(h.ctx(), kind); err != nil {
				t.Errorf("the first call: %v", err)
			}
			if err := h.call(h.ctx(), kind); !errors.Is(err, interceptors.ErrRateLimited) {
				t.Errorf("the second call: %v, want ErrRateLimited", err)
			}
		}
	})
}

// Whoever does not say when to come back is taken to mean a second.
func TestRateLimitWithoutRetryAfter(t *testing.T) {
	h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.RateLimit(limiterOf(interceptors.Decision{Remaining: -1}, nil), interceptors.Global, interceptors.QuotaHeaders())))
	_, trailer, err := h.callMD(interceptors.Unary)
	if d, ok := errors.RetryAfter(err); !ok || d != time.Second {
		t.Errorf("it may be tried again after %v, want a second", d)
	}
	want := metadata.MD{"grpc-retry-pushback-ms": {"1000"}, "ratelimit": {`"default";r=0`}}
	delete(trailer, propagation.RequestIDHeader)
	delete(trailer, "content-type")
	delete(trailer, "grpc-status-details-bin")
	if diff := cmp.Diff(want, trailer); diff != "" {
		t.Errorf("trailer (-want +got):\n%s", diff)
	}
}

// The keys of calls: who shares a limit, and who does not.
func TestRule25Keys(t *testing.T) {
	from := func(addr net.Addr) context.Context {
		return peer.NewContext(context.Background(), &peer.Peer{Addr: addr})
	}
	tcp := func(s string) context.Context {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return from(a)
	}
	as := func(ctx context.Context, tenant, user string) context.Context {
		return propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: user, TenantID: tenant})
	}
	home := tcp("192.0.2.1:4711")
	for _, test := range []struct {
		name string
		key  interceptors.KeyFunc
		ctx  context.Context
		want string
	}{
		{"user", interceptors.ByUser, as(home, "", "ada"), "user:ada"},
		{"user of a tenant", interceptors.ByUser, as(home, "a:b", "c"), "user@3:a:b:c"},
		{"user of another tenant", interceptors.ByUser, as(home, "a", "b:c"), "user@1:a:b:c"},
		{"anonymous", interceptors.ByUser, home, "peer:192.0.2.1"},
		{"verified, nobody in particular", interceptors.ByUser, as(home, "acme", ""), "peer:192.0.2.1"},
		{"tenant", interceptors.ByTenant, as(home, "acme", "ada"), "tenant:acme"},
		{"no tenant", interceptors.ByTenant, as(home, "", "ada"), "peer:192.0.2.1"},
		{"another port", interceptors.ByPeer, tcp("192.0.2.1:4712"), "peer:192.0.2.1"},
		{"IPv4 in IPv6", interceptors.ByPeer, tcp("[::ffff:192.0.2.1]:1"), "peer:192.0.2.1"},
		{"IPv6", interceptors.ByPeer, tcp("[2001:db8:1:2:3:4:5:6]:1"), "peer:2001:db8:1:2:3:4:5:6"},
		{"zone", interceptors.ByPeer, tcp("[fe80::1%lo]:1"), "peer:fe80::1"},
		{"no TCPAddr", interceptors.ByPeer, from(address("[2001:db8::1%eth0]:443")), "peer:2001:db8::1"},
		{"Unix socket", interceptors.ByPeer, from(&net.UnixAddr{Net: "unix", Name: "@"}), "peer:unix"},
		{"no peer", interceptors.ByPeer, context.Background(), "peer:"},
		{"no address", interceptors.ByPeer, from(nil), "peer:"},
		{"network of IPv6", interceptors.ByPeerPrefix(32, 64), tcp("[2001:db8:1:2:3:4:5:6]:1"), "peer:2001:db8:1:2::/64"},
		{"address of IPv4", interceptors.ByPeerPrefix(32, 64), home, "peer:192.0.2.1/32"},
		{"network of IPv4", interceptors.ByPeerPrefix(24, 64), home, "peer:192.0.2.0/24"},
		{"no network", interceptors.ByPeerPrefix(24, 64), context.Background(), "peer:"},
		{"method", interceptors.ByMethod, home, unaryMethod},
		{"global", interceptors.Global, home, "global"},
	} {
		if got := test.key(test.ctx, &interceptors.Call{FullMethod: unaryMethod}); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// An identity that a peer sent, and nobody verified, is no key: whoever makes up
// users does not escape.
func TestRule25UnverifiedUsersShareTheirAddress(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) {
		p := propagation.New(propagation.WithTrust(propagation.TrustAll))
		h.servers = append(h.servers, interceptors.WithPropagator(p), interceptors.RateLimit(interceptors.NewTokenBucket(1e-6, 2), interceptors.ByUser))
		h.clients = append(h.clients, interceptors.WithPropagator(p))
	})
	refused := 0
	for i := range 5 {
		ctx := propagation.ContextWithIdentity(h.ctx(), propagation.Identity{UserID: strconv.Itoa(i)})
		if err := h.call(ctx, interceptors.Unary); errors.Is(err, interceptors.ErrRateLimited) {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("%d of 5 made-up users were refused, want 3", refused)
	}
}

func TestRateLimitArguments(t *testing.T) {
	bucket := interceptors.NewTokenBucket(1, 1)
	for want, f := range map[string]func(){
		"interceptors: RateLimit: the limiter is nil; want one such as NewTokenBucket(10, 20)": func() { interceptors.RateLimit(nil, interceptors.Global) },
		"interceptors: RateLimit: the KeyFunc is nil; want one such as ByUser or Global":       func() { interceptors.RateLimit(bucket, nil) },
		`interceptors: PolicyName: "Per User", want 1 to 64 of a-z, 0-9, "_", "." and "-"`:     func() { interceptors.PolicyName("Per User") },
		"interceptors: ByPeerPrefix(33, 64): want 0 to 32 bits of IPv4 and 0 to 128 of IPv6":   func() { interceptors.ByPeerPrefix(33, 64) },
		"interceptors: ByPeerPrefix(32, -1): want 0 to 32 bits of IPv4 and 0 to 128 of IPv6":   func() { interceptors.ByPeerPrefix(32, -1) },
		"interceptors: ConcurrencyLimit: limit is 0, want 1 or more":                           func() { interceptors.ConcurrencyLimit(0) },
		"interceptors: ConcurrencyLimitBy: limit is -1, want 1 or more":                        func() { interceptors.ConcurrencyLimitBy(-1, nil) },
		"interceptors: AdaptiveLimit: Initial 5, Min 10, Max 0: want 1 <= Min <= Initial <= Max, or zero for the default": func() {
			interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Initial: 5, Min: 10})
		},
		"interceptors: AdaptiveLimit: Initial 0, Min -1, Max 0: want 1 <= Min <= Initial <= Max, or zero for the default": func() {
			interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Min: -1})
		},
		"interceptors: AdaptiveLimit: Initial 0, Min 10, Max 5: want 1 <= Min <= Initial <= Max, or zero for the default": func() {
			interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Min: 10, Max: 5})
		},
	} {
		if got := panicOf(f); got != want {
			t.Errorf("panicked with %v, want %q", got, want)
		}
	}
	for _, p := range []interceptors.AdaptivePolicy{{}, {Max: 1}, {Min: 2000}, {Initial: 4}, {Min: 1, Initial: 1, Max: 1}} {
		if v := panicOf(func() { interceptors.AdaptiveLimit(p) }); v != nil {
			t.Errorf("%+v: panicked with %v", p, v)
		}
	}
}

// A Call that no engine made, as in a test of a user.
func TestRateLimitOfALiteralCall(t *testing.T) {
	i := interceptors.RateLimit(interceptors.NewTokenBucket(1e-3, 1), interceptors.ByUser, interceptors.QuotaHeaders())
	next := func(context.Context) error { return nil }
	if err := i(context.Background(), &interceptors.Call{}, next); err != nil {
		t.Errorf("the first call got %v", err)
	}
	if err := i(context.Background(), &interceptors.Call{}, next); !errors.Is(err, interceptors.ErrRateLimited) {
		t.Errorf("the second call got %v, want ErrRateLimited", err)
	}
	failing := interceptors.RateLimit(limiterOf(interceptors.Decision{}, io.ErrUnexpectedEOF), interceptors.Global, interceptors.FailClosed())
	if err := failing(context.Background(), &interceptors.Call{}, next); !errors.Is(err, interceptors.ErrLimiterFailed) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a failing limiter: got %v, want ErrLimiterFailed because of EOF", err)
	}
}

func TestRateLimitConformance(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]interceptors.RateLimitOption{"plain": nil, "per message": {interceptors.PerMessage(), interceptors.QuotaHeaders()}} {
		t.Run(name, func(t *testing.T) {
			interceptorstest.Run(t, interceptors.RateLimit(interceptors.NewTokenBucket(1e9, 1e6), interceptors.ByUser, options...))
		})
	}
	t.Run("refusing", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.RateLimit(limiterOf(interceptors.Decision{}, nil), interceptors.ByPeer), interceptorstest.Rejects(codes.ResourceExhausted))
	})
}

// At most three allocations on the accepted path.
func TestRateLimitAllocations(t *testing.T) {
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: "ada", TenantID: "acme"})
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}})
	next := func(context.Context) error { return nil }
	for name, key := range map[string]interceptors.KeyFunc{"user": interceptors.ByUser, "peer": interceptors.ByPeer, "prefix": interceptors.ByPeerPrefix(24, 64), "global": interceptors.Global} {
		i := interceptors.RateLimit(interceptors.NewTokenBucket(1e9, 1e6), key)
		call := &interceptors.Call{FullMethod: unaryMethod}
		want := map[string]float64{"global": 0}[name]
		if name != "global" {
			want = 1
		}
		if n := testing.AllocsPerRun(1000, func() { _ = i(ctx, call, next) }); n > want {
			t.Errorf("by %s: %v allocations, want %v", name, n, want)
		}
	}
}
