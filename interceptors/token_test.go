package interceptors_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// gate is a server that lets in who has one of its tokens, and keeps what came.
type gate struct {
	mu   sync.Mutex
	good map[string]bool
	seen [][]string
}

func (g *gate) accept(tokens ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.good = map[string]bool{}
	for _, token := range tokens {
		g.good["Bearer "+token] = true
	}
}

// came is what the calls so far had for an authorization.
func (g *gate) came() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	g.seen = nil
	return seen
}

func (g *gate) intercept(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
	got := call.Metadata().Get("authorization")
	g.mu.Lock()
	g.seen = append(g.seen, got)
	good := len(got) == 1 && g.good[got[0]]
	g.mu.Unlock()
	if !good {
		return status.Error(codes.Unauthenticated, "no")
	}
	return next(ctx)
}

// gated starts a server behind g, and a client with chain.
func gated(t *testing.T, g *gate, chain ...interceptors.Interceptor) *harness {
	return start(t, &stub{}, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(g.intercept))
		on(interceptors.ClientSide, chain...)(h)
	})
}

// keyring is a source with a token that others can change.
type keyring struct {
	mu          sync.Mutex
	token, next string // next: what Invalidate puts in the place of token
	asked       int
	invalidated int
}

func (k *keyring) Token(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.token, nil
}

func (k *keyring) Invalidate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.invalidated++
	if k.next != "" {
		k.token = k.next
	}
}

func tokenOf(token string) interceptors.TokenSource {
	return interceptors.TokenSourceFunc(func(context.Context) (string, error) { return token, nil })
}

// Rule 28: each call has a token of the source.
func TestRule28Token(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			var n atomic.Int64
			counting := interceptors.TokenSourceFunc(func(context.Context) (string, error) { return fmt.Sprint("t", n.Add(1)), nil })
			g := &gate{}
			g.accept("t1", "t2")
			h := gated(t, g, interceptors.Token(counting, interceptors.AllowPlaintext(), nil))
			for range 2 {
				if err := h.call(h.ctx(), kind); err != nil {
					t.Errorf("the call ended with %v", err)
				}
			}
			if diff := cmp.Diff([][]string{{"Bearer t1"}, {"Bearer t2"}}, g.came()); diff != "" {
				t.Errorf("authorization (-want +got):\n%s", diff)
			}
		})
	}
}

// Rule 28: nothing is sent over plaintext, and the source is not even asked.
func TestRule28Plaintext(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			k, g := &keyring{token: "secret"}, &gate{}
			h := gated(t, g, interceptors.Token(k))
			err := h.call(h.ctx(), kind)
			if status.Code(err) != codes.Unauthenticated || !errors.Is(err, interceptors.ErrPlaintextToken) || err.Error() != interceptors.ErrPlaintextToken.Error() || !strings.Contains(err.Error(), "AllowPlaintext") {
				t.Errorf("the call ended with %v, want ErrPlaintextToken, which says what to do", err)
			}
			if came := g.came(); came != nil || k.asked != 0 || k.invalidated != 0 {
				t.Errorf("the server got %q, the source was asked %d times and invalidated %d times; want none of it", came, k.asked, k.invalidated)
			}
			h.idle()
			h.counted("rpcscope.client.rejected", "rpcscope.rejected.reason", map[string]int64{"plaintext": 1})
		})
	}
}

func TestRule28TLS(t *testing.T) {
	server := issue(t, "localhost", nil, time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	pool.AddCert(server.Leaf)
	g := &gate{}
	g.accept("secret")
	h := start(t, &stub{}, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(g.intercept))
		h.grpc = append(h.grpc, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*server}})))
		h.clients = append(h.clients, interceptors.Token(tokenOf("secret")))
		h.dial = append(h.dial, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"})))
	})
	for _, kind := range kinds {
		if err := h.call(h.ctx(), kind); err != nil {
			t.Errorf("%s over TLS: %v", kind, err)
		}
	}
}

// Rule 28: a refused token is refreshed once and the call made again, where that
// goes unnoticed.
func TestRule28RefreshedOnce(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			k, g := &keyring{token: "old", next: "new"}, &gate{}
			g.accept("new")
			h := gated(t, g, interceptors.Token(k, interceptors.AllowPlaintext()))
			err := h.call(h.ctx(), kind)
			want := [][]string{{"Bearer old"}, {"Bearer new"}}
			if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
				// What was sent is gone; the next call has the new token.
				if status.Code(err) != codes.Unauthenticated {
					t.Errorf("the stream ended with %v, want Unauthenticated", err)
				}
				err = h.call(h.ctx(), kind)
			}
			if err != nil {
				t.Errorf("the call ended with %v", err)
			}
			if diff := cmp.Diff(want, g.came()); diff != "" {
				t.Errorf("authorization (-want +got):\n%s", diff)
			}
			if k.invalidated != 1 {
				t.Errorf("the source was invalidated %d times, want once", k.invalidated)
			}
			h.idle()
			refreshed := attrs(h.span(trace.SpanKindClient).Attributes())["rpcscope.token.refreshed"]
			if again := kind == interceptors.Unary || kind == interceptors.ServerStream; (refreshed == true) != again {
				t.Errorf("rpcscope.token.refreshed is %v", refreshed)
			}
		})
	}
}

// Rule 28: who is refused with both tokens is told, and a source that has no
// other token has the call made once.
func TestRule28RefusedTwice(t *testing.T) {
	for next, want := range map[string]int{"new": 2, "": 1} {
		k, g := &keyring{token: "old", next: next}, &gate{}
		h := gated(t, g, interceptors.Token(k, interceptors.AllowPlaintext()))
		if err := h.call(h.ctx(), interceptors.Unary); status.Code(err) != codes.Unauthenticated {
			t.Errorf("the call ended with %v, want Unauthenticated", err)
		}
		if came := g.came(); len(came) != want {
			t.Errorf("the server got %q, want %d calls", came, want)
		}
	}
}

// A token that is refused is given up again after a second, however it came about: a
// second one that was fetched within the pause and refused as well, and one that the
// issuer gave out twice.
func TestRule28RefusedAgain(t *testing.T) {
	for name, issued := range map[string][]string{"another": {"a", "b", "good"}, "the same": {"a", "a", "good"}} {
		synctest.Test(t, func(t *testing.T) {
			g := &gate{}
			g.accept("good")
			var fetched int
			source := interceptors.CachedToken(func(context.Context) (string, time.Time, error) {
				token := issued[min(fetched, len(issued)-1)]
				fetched++
				return token, time.Time{}, nil
			})
			h := gated(t, g, interceptors.Token(source, interceptors.AllowPlaintext()))
			for n := range 3 { // the second one is within the pause
				if err := h.call(context.Background(), interceptors.Unary); status.Code(err) != codes.Unauthenticated {
					t.Errorf("%s, call %d: %v, want Unauthenticated", name, n, err)
				}
				if fetched != 2 {
					t.Errorf("%s, call %d: %d tokens were fetched, want 2", name, n, fetched)
				}
				<-time.After(100 * time.Millisecond)
			}
			<-time.After(time.Second)
			for _, kind := range kinds {
				if err := h.call(context.Background(), kind); err != nil {
					t.Errorf("%s, a second later: %v", name, err)
				}
			}
			h.idle()
		})
	}
}

// Nobody waits for a token that cannot be used: a stream of requests is not made
// again.
func TestRule28NoWaitWithoutUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		source := interceptors.CachedToken(func(context.Context) (string, time.Time, error) {
			if fetched++; fetched > 1 {
				<-time.After(10 * time.Second)
			}
			return "a", time.Time{}, nil
		})
		h := gated(t, &gate{}, interceptors.Token(source, interceptors.AllowPlaintext()))
		begun := time.Now()
		if err := h.call(context.Background(), interceptors.BidiStream); status.Code(err) != codes.Unauthenticated || time.Since(begun) > 0 {
			t.Errorf("after %v the caller got %v, want Unauthenticated at once", time.Since(begun), err)
		}
		h.idle()
	})
}

// Many calls that are refused with the same token invalidate it once.
func TestRule28RefusedTogether(t *testing.T) {
	k, g := &keyring{token: "old", next: "new"}, &gate{}
	g.accept("new")
	var wg sync.WaitGroup
	const calls = 20
	together := make(chan struct{})
	var arrived atomic.Int64
	h := start(t, &stub{}, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			if n := arrived.Add(1); n == calls {
				close(together)
			}
			<-together
			return g.intercept(ctx, call, next)
		}))
		h.clients = append(h.clients, interceptors.Token(k, interceptors.AllowPlaintext()))
	})
	for range calls {
		wg.Go(func() {
			if err := h.call(h.ctx(), interceptors.Unary); err != nil {
				t.Errorf("a call ended with %v", err)
			}
		})
	}
	wg.Wait()
	if k.invalidated != 1 {
		t.Errorf("the source was invalidated %d times, want once", k.invalidated)
	}
}

// After the caller has had a message the call is not made again.
func TestRule28NotAfterAMessage(t *testing.T) {
	k := &keyring{token: "old", next: "new"}
	var calls atomic.Int64
	h := start(t, &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
		calls.Add(1)
		if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
		return status.Error(codes.Unauthenticated, "expired")
	}}, on(interceptors.ClientSide, interceptors.Token(k, interceptors.AllowPlaintext())))
	if err := h.call(h.ctx(), interceptors.ServerStream); status.Code(err) != codes.Unauthenticated || calls.Load() != 1 {
		t.Errorf("%d calls, and %v; want 1 and Unauthenticated", calls.Load(), err)
	}
	if k.invalidated != 1 {
		t.Errorf("the source was invalidated %d times, want once", k.invalidated)
	}
	if got, ok := attrs(h.span(trace.SpanKindClient).Attributes())["rpcscope.token.refreshed"]; ok {
		t.Errorf("rpcscope.token.refreshed is %v of a call that was not made again", got)
	}
}

// Inside of Retry each attempt has one authorization (rules 9 and 28).
func TestRule28InsideOfRetry(t *testing.T) {
	for _, retry := range []string{"the suite's", "gRPC's"} {
		for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ServerStream} {
			t.Run(retry+"/"+kind.String(), func(t *testing.T) {
				g := &gate{}
				g.accept("a", "b", "c")
				var n atomic.Int64
				source := interceptors.TokenSourceFunc(func(context.Context) (string, error) {
					return string(rune('a' + n.Add(1) - 1)), nil
				})
				policy := interceptors.RetryPolicy{InitialBackoff: 1, MaxBackoff: 1, Budget: -1}
				h := start(t, &stub{}, func(h *harness) {
					h.servers = append(h.servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						return g.intercept(ctx, call, func(ctx context.Context) error {
							if n.Load() < 3 {
								return status.Error(codes.Unavailable, "not yet")
							}
							return next(ctx)
						})
					}))
					if retry == "gRPC's" {
						h.dial = append(h.dial, grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`))
					}
					on(interceptors.ClientSide, interceptors.Retry(policy), interceptors.Token(source, interceptors.AllowPlaintext()))(h)
				})
				if err := h.call(h.ctx(), kind); err != nil {
					t.Errorf("the call ended with %v", err)
				}
				if diff := cmp.Diff([][]string{{"Bearer a"}, {"Bearer b"}, {"Bearer c"}}, g.came()); diff != "" {
					t.Errorf("authorization (-want +got):\n%s", diff)
				}
			})
		}
	}
}

type staticCreds string

func (c staticCreds) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(c)}, nil
}

func (staticCreds) RequireTransportSecurity() bool { return false }

// Rule 28: the application's own credentials win, and are the only ones.
func TestRule28TheApplicationsOwn(t *testing.T) {
	mine := metadata.NewOutgoingContext(context.Background(), metadata.Pairs("authorization", "Basic mine"))
	adds := func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		call.AddCallOptions(grpc.PerRPCCredentials(staticCreds("Basic mine")))
		return next(ctx)
	}
	within := func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		return next(metadata.AppendToOutgoingContext(ctx, "authorization", "Basic mine"))
	}
	tests := map[string]struct {
		ctx   context.Context
		opts  []grpc.CallOption
		dial  []grpc.DialOption
		outer interceptors.Interceptor
		inner interceptors.Interceptor
	}{
		"an interceptor inside of it": {inner: within},
		"metadata":                    {ctx: mine},
		"a call option":               {opts: []grpc.CallOption{grpc.PerRPCCredentials(staticCreds("Basic mine"))}},
		"a default call option":       {dial: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.PerRPCCredentials(staticCreds("Basic mine")))}},
		"an interceptor's options":    {outer: adds},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k, g := &keyring{token: "secret", next: "new"}, &gate{}
			h := start(t, &stub{}, func(h *harness) {
				h.servers = append(h.servers, interceptors.Interceptor(g.intercept))
				h.dial = append(h.dial, test.dial...)
				on(interceptors.ClientSide, test.outer, interceptors.Token(k), test.inner)(h) // nor is plaintext refused
			})
			ctx := test.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			if _, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{}, test.opts...); status.Code(err) != codes.Unauthenticated || errors.Is(err, interceptors.ErrPlaintextToken) {
				t.Errorf("the call ended with %v, want the server's refusal", err)
			}
			stream, err := h.client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{}, test.opts...)
			if err == nil {
				err = drain(stream)
			}
			if status.Code(err) != codes.Unauthenticated || errors.Is(err, interceptors.ErrPlaintextToken) {
				t.Errorf("the stream ended with %v, want the server's refusal", err)
			}
			h.idle()
			if diff := cmp.Diff([][]string{{"Basic mine"}, {"Basic mine"}}, g.came()); diff != "" {
				t.Errorf("authorization (-want +got):\n%s", diff)
			}
			if k.asked != 0 || k.invalidated != 0 {
				t.Errorf("the source was asked %d times and invalidated %d times", k.asked, k.invalidated)
			}
		})
	}
}

// A call without a token is not sent.
func TestRule28NoToken(t *testing.T) {
	errIssuer := errors.New("the issuer is away")
	tests := map[string]struct {
		source func(context.Context) (string, error)
		cause  error
		text   string
		after  time.Duration
	}{
		"error": {func(context.Context) (string, error) { return "", errIssuer }, errIssuer, "the issuer is away", 0},
		"retry later": {func(context.Context) (string, error) {
			return "", errors.PermissionDenied("not now").WithRetry(time.Minute)
		}, nil, "not now", time.Minute},
		"empty":    {func(context.Context) (string, error) { return "", nil }, nil, "empty token", 0},
		"prefixed": {func(context.Context) (string, error) { return "Bearer secret", nil }, nil, `byte 6 is 0x20; want printable ASCII without spaces, and the token alone, without "Bearer"`, 0},
		"newline":  {func(context.Context) (string, error) { return "secret\n", nil }, nil, "byte 6 is 0x0a", 0},
		"panic":    {func(context.Context) (string, error) { panic(errIssuer) }, errIssuer, "panic", 0},
	}
	for name, test := range tests {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				g := &gate{}
				h := gated(t, g, interceptors.Token(interceptors.TokenSourceFunc(test.source), interceptors.AllowPlaintext()))
				err := h.call(h.ctx(), kind)
				if status.Code(err) != codes.Unavailable || !errors.Is(err, interceptors.ErrNoToken) || !strings.HasPrefix(err.Error(), interceptors.ErrNoToken.Error()+": ") || !strings.Contains(err.Error(), test.text) {
					t.Errorf("the call ended with %v, want ErrNoToken because of %q", err, test.text)
				}
				if test.cause != nil && !errors.Is(err, test.cause) {
					t.Errorf("%v is not %v", err, test.cause)
				}
				if after, _ := errors.RetryAfter(err); after != test.after {
					t.Errorf("to be retried after %v, want %v", after, test.after)
				}
				if strings.Contains(errors.Message(err), test.text) || strings.Contains(err.Error(), "secret") {
					t.Errorf("strangers are told %q, the log %q", errors.Message(err), err)
				}
				if came := g.came(); came != nil {
					t.Errorf("the server was called with %q", came)
				}
				h.idle()
				h.counted("rpcscope.client.rejected", "rpcscope.rejected.reason", map[string]int64{"no_token": 1})
			})
		}
	}
}

// A source that takes too long does not hold a call beyond its deadline.
func TestRule28SlowSource(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := interceptors.TokenSourceFunc(func(ctx context.Context) (string, error) {
					<-ctx.Done()
					return "", ctx.Err()
				})
				h := gated(t, &gate{}, interceptors.Token(slow, interceptors.AllowPlaintext()))
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if err := h.call(ctx, kind); status.Code(err) != codes.DeadlineExceeded || errors.Is(err, interceptors.ErrNoToken) {
					t.Errorf("the call ended with %v, want DeadlineExceeded", err)
				}
				h.idle()
			})
		})
	}
}

// Rule 29: the token is in no span, metric, log record or error, whatever becomes
// of it.
func TestRule29Token(t *testing.T) {
	const secret = "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG"
	failing := interceptors.TokenSourceFunc(func(context.Context) (string, error) {
		return "", errors.New("exchange authorization: Bearer " + secret + ": refused")
	})
	sources := map[string]interceptors.TokenSource{
		"good": tokenOf(secret), "refused": &keyring{token: "x" + secret, next: secret + "x"}, "spaced": tokenOf("Bearer " + secret), "failing": failing,
		"cached": interceptors.CachedToken(func(context.Context) (string, time.Time, error) { return secret, time.Time{}, nil }),
		"failing, cached": interceptors.CachedToken(func(ctx context.Context) (string, time.Time, error) {
			_, err := failing(ctx)
			return "", time.Time{}, err
		}),
		"late, cached": interceptors.CachedToken(func(context.Context) (string, time.Time, error) { return secret, time.Unix(1, 0), nil }),
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			g := &gate{}
			g.accept(secret)
			h := start(t, &stub{}, func(h *harness) {
				h.servers = append(h.servers, interceptors.Interceptor(g.intercept), interceptors.WithMessageEvents())
				h.clients = append(h.clients, interceptors.WithAttempts(), interceptors.WithMessageEvents())
				on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2}), interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 3}), interceptors.Token(source, interceptors.AllowPlaintext()))(h)
			})
			var told strings.Builder
			for _, kind := range kinds {
				err := h.call(h.ctx(), kind)
				if (err == nil) != (name == "good" || name == "cached") {
					t.Errorf("%s: the call ended with %v", kind, err)
				}
				if err != nil {
					st, _ := status.FromError(err)
					fmt.Fprintf(&told, "%v %+v %v %v\n", err, err, errors.Message(err), st.Proto())
				}
			}
			h.idle()
			h.eventually("spans to end", func() bool { return len(h.spans.Ended()) == len(h.spans.Started()) })
			recorded, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(h.spans.Ended()))
			if err != nil {
				t.Fatal(err)
			}
			for where, text := range map[string]string{
				"a span": string(recorded), "a metric": fmt.Sprintf("%+v", h.rec.Collect()), "the log": h.logs.String(), "an error": told.String(),
			} {
				if at := strings.Index(text, secret); at >= 0 {
					t.Errorf("%s holds the token: %s", where, text[max(at-300, 0):at])
				}
				if text == "" && where != "an error" {
					t.Errorf("%s: nothing recorded", where)
				}
			}
		})
	}
}

func TestTokenArguments(t *testing.T) {
	for want, f := range map[string]func(){
		"interceptors: Token: the source is nil; want one such as TokenFile(path) or CachedToken(fetch)":  func() { interceptors.Token(nil) },
		"interceptors: Token: the source is nil; want one such as TokenFile(path) or CachedToken(fetch) ": func() { interceptors.Token(interceptors.TokenSourceFunc(nil)) },
		"interceptors: CachedToken: the function is nil; want one that fetches a token":                   func() { interceptors.CachedToken(nil) },
		`interceptors: TokenFile: the path is ""; want that of a file with a token`:                       func() { interceptors.TokenFile("") },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != strings.TrimSpace(want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}

func TestTokenConforms(t *testing.T) {
	client := interceptorstest.Sides(interceptors.ClientSide)
	interceptorstest.Run(t, interceptors.Token(tokenOf("secret"), interceptors.AllowPlaintext()), client)
	t.Run("refreshed", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Token(&keyring{token: "secret"}, interceptors.AllowPlaintext()), client, interceptorstest.Retries())
	})
}
