package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
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

// cell is one call of the matrix: of a kind, with features, with an ending.
type cell struct {
	h       *harness
	t       *testing.T
	kind    interceptors.Kind
	ctx     context.Context
	cancel  context.CancelFunc
	entered chan struct{} // the handler runs

	chained [2]passage // what the interceptors of the feature "chain" saw, by side
}

// passage counts how often an interceptor was entered and left.
type passage struct{ in, out atomic.Int64 }

// feature is something of the suite that can be switched on.
type feature struct {
	otelgrpc bool
	attempts bool                // there is a span for each
	turns    []interceptors.Kind // those of which an interceptor makes the attempts, and has the spans
	filtered bool                // nothing is observed
	options  func(*cell, interceptors.Side) []interceptors.Option
	client   interceptors.ClientOption
	server   interceptors.ServerOption
	mute     func(*sightings) // takes away what is not recorded
}

var noFeature feature

func options(o ...interceptors.Option) func(*cell, interceptors.Side) []interceptors.Option {
	return func(*cell, interceptors.Side) []interceptors.Option { return o }
}

func chainOf(c *cell, side interceptors.Side) []interceptors.Option {
	p := &c.chained[side]
	count := interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		p.in.Add(1)
		defer p.out.Add(1)
		return next(ctx)
	})
	hooks := interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		call.OnSend(func(any) error { return nil })
		call.OnReceive(func(any) error { return nil })
		return next(context.WithValue(ctx, p, true))
	})
	return []interceptors.Option{count, interceptors.For(interceptors.Methods("*"), hooks), nil}
}

// looking are interceptors that let all of the matrix pass.
var looking = []interceptors.Option{interceptors.Timeout(time.Hour), interceptors.MaxTimeout(time.Hour), interceptors.Validate(), interceptors.LogPayloads()}

func limiting(*cell, interceptors.Side) []interceptors.Option {
	bucket := interceptors.NewTokenBucket(1e6, 1e6)
	return []interceptors.Option{
		interceptors.ConcurrencyLimit(10), interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{}),
		interceptors.RateLimit(bucket, interceptors.ByUser, interceptors.QuotaHeaders()), interceptors.RateLimit(bucket, interceptors.ByMethod, interceptors.PerMessage()),
	}
}

// guardedWithTokens are breaker and a token for each call.
func guardedWithTokens(breaker interceptors.Interceptor) func(*cell, interceptors.Side) []interceptors.Option {
	return options(breaker, interceptors.Token(tokenOf("secret"), interceptors.AllowPlaintext()))
}

func authenticated(*cell, interceptors.Side) []interceptors.Option {
	a := interceptors.AuthenticatorFunc(func(context.Context, *interceptors.Call) (propagation.Identity, error) {
		return propagation.Identity{UserID: "ada", ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	return []interceptors.Option{interceptors.Authenticate(a), interceptors.Authenticate(a, interceptors.Recheck(time.Second)), interceptors.Authorize(interceptors.Allow("*"))}
}

func everything(c *cell, side interceptors.Side) []interceptors.Option {
	return append(chainOf(c, side), interceptors.WithMessageMetrics(), interceptors.WithMessageEvents(), interceptors.WithFilter(interceptors.Methods("*")))
}

var all = interceptors.Methods("*")

// install is a set of features, and the sides that have them.
type install struct {
	name   string
	side   [2]feature // by interceptors.Side
	except []string   // endings
}

// timedRetries wait for headers, too, on server streams.
var timedRetries = install{
	name:   "retries with a timeout on clients",
	side:   [2]feature{noFeature, {turns: kinds, options: options(interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 1, PerAttemptTimeout: time.Hour}))}},
	except: []string{"connection closed"},
}

// probingClients wait for headers, as an application that calls Header does: how a
// stream ends that nobody reads is then noticed by who waits, and no longer by what
// the caller does next.
var probingClients = install{
	name:   "a half-open breaker and tokens on clients",
	side:   [2]feature{noFeature, {options: guardedWithTokens(probing(time.Millisecond))}},
	except: []string{"connection closed", "finished, never read, cancelled"},
}

// assembled is what a service would have, one around the other.
var assembled = install{
	name: "a service's chains",
	side: [2]feature{{options: protected}, {turns: kinds, options: options(
		interceptors.Timeout(time.Hour),
		interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 1, PerAttemptTimeout: time.Hour}),
		interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1e6}),
		interceptors.Token(tokenOf("secret"), interceptors.AllowPlaintext()),
	)}},
	except: timedRetries.except,
}

func protected(c *cell, side interceptors.Side) []interceptors.Option {
	return slices.Concat(limiting(c, side), authenticated(c, side), looking)
}

func described(*cell, interceptors.Side) []interceptors.Option {
	return []interceptors.Option{
		interceptors.WithErrorConverter(errors.NewConverter(errors.WithDomain("matrix"))),
		interceptors.WithAttributes(func(_ context.Context, call *interceptors.Call) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("kind", call.Kind.String())}
		}),
	}
}

func untraced(s *sightings) { s.spans, s.spanCode = 0, "" }

func uncounted(s *sightings) { s.points, s.failures, s.panics = nil, nil, 0 }

func unlogged(s *sightings) {
	if s.panics == 0 { // those are logged all the same
		s.logged = nil
	}
}

var installs = []install{
	{name: "plain"},
	{name: "attempts", side: [2]feature{noFeature, {attempts: true, client: interceptors.WithAttempts()}}},
	serversHave("message metrics", feature{options: options(interceptors.WithMessageMetrics())}),
	clientsHave("message metrics", feature{options: options(interceptors.WithMessageMetrics())}),
	serversHave("message events", feature{options: options(interceptors.WithMessageEvents())}),
	clientsHave("message events", feature{options: options(interceptors.WithMessageEvents())}),
	serversHave("otelgrpc", feature{otelgrpc: true, options: options(interceptors.WithOTelGRPC())}),
	clientsHave("otelgrpc", feature{otelgrpc: true, options: options(interceptors.WithOTelGRPC())}),
	serversHave("filter", feature{options: options(interceptors.WithFilter(all))}),
	clientsHave("filter", feature{options: options(interceptors.WithFilter(all))}),
	serversHave("filtered", feature{filtered: true, options: options(interceptors.WithFilter(interceptors.Not(all)))}),
	clientsHave("filtered", feature{filtered: true, options: options(interceptors.WithFilter(interceptors.Not(all)))}),
	serversHave("chain", feature{options: chainOf}),
	clientsHave("chain", feature{options: chainOf}),
	serversHave("authentication", feature{options: authenticated}),
	serversHave("limits", feature{options: limiting}),
	clientsHave("limits", feature{options: limiting}),
	clientsHave("retries", feature{turns: kinds, options: options(interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 1}))}),
	timedRetries,
	clientsHave("hedges", feature{turns: kinds[:1], options: options(interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 1}))}),
	clientsHave("a closed breaker and tokens", feature{options: guardedWithTokens(interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 1e6}))}),
	probingClients,
	serversHave("timeouts, validation, payloads", feature{options: options(looking...)}),
	clientsHave("timeouts, validation, payloads", feature{options: options(looking...)}),
	serversHave("attributes and a converter", feature{options: described}),
	clientsHave("attributes and a converter", feature{options: described}),
	serversHave("a public endpoint", feature{server: interceptors.WithPublicEndpoint()}),
	serversHave("no tracing", feature{options: options(interceptors.WithoutTracing()), mute: untraced}),
	clientsHave("no tracing", feature{options: options(interceptors.WithoutTracing()), mute: untraced}),
	serversHave("no metrics", feature{options: options(interceptors.WithoutMetrics()), mute: uncounted}),
	clientsHave("no metrics", feature{options: options(interceptors.WithoutMetrics()), mute: uncounted}),
	serversHave("no logging", feature{options: options(interceptors.WithoutLogging()), mute: unlogged}),
	clientsHave("no logging", feature{options: options(interceptors.WithoutLogging()), mute: unlogged}),
	assembled,
	{name: "everything", side: [2]feature{{options: everything}, {attempts: true, client: interceptors.WithAttempts(), options: everything}}},
	{name: "everything on otelgrpc", side: [2]feature{{otelgrpc: true, options: everythingOnOTelGRPC}, {otelgrpc: true, client: interceptors.WithAttempts(), options: everythingOnOTelGRPC}}},
}

func everythingOnOTelGRPC(c *cell, side interceptors.Side) []interceptors.Option {
	return append(everything(c, side), interceptors.WithOTelGRPC())
}

func serversHave(name string, f feature) install {
	return install{name: name + " on servers", side: [2]feature{f, noFeature}}
}

func clientsHave(name string, f feature) install {
	return install{name: name + " on clients", side: [2]feature{noFeature, f}}
}

// ending is how a call comes to its end.
type ending struct {
	name  string
	stub  func(*cell) *stub
	drive func(*cell) error // makes the call and returns what the caller gets

	// chain is put on one side, innermost.
	chain interceptors.Interceptor
	side  interceptors.Side

	client codes.Code
	server []codes.Code // one of them; empty when the call never gets there
	wire   func(interceptors.Kind) (code codes.Code, attempted bool)
	panics [2]int64
	kinds  []interceptors.Kind // nil: all
	grpc   []grpc.ServerOption
	dial   []grpc.DialOption
}

func unattempted(interceptors.Kind) (codes.Code, bool) { return codes.OK, false }

func refused(interceptors.Kind) (codes.Code, bool) { return codes.Unavailable, true }

func waited(interceptors.Kind) (codes.Code, bool) { return codes.Canceled, true }

var endings = []ending{
	{name: "OK", stub: plainStub, drive: wholeCall, client: codes.OK, server: []codes.Code{codes.OK}},
	{name: "error before", stub: failBefore(func() error { return status.Error(codes.DataLoss, "no") }), drive: silentCall, client: codes.DataLoss, server: []codes.Code{codes.DataLoss}},
	{name: "refused by the server's chain", stub: plainStub, drive: silentCall, client: codes.PermissionDenied, server: []codes.Code{codes.PermissionDenied},
		chain: refuse, side: interceptors.ServerSide},
	{name: "refused by the client's chain", stub: plainStub, drive: silentCall, client: codes.PermissionDenied, wire: unattempted,
		chain: refuse, side: interceptors.ClientSide},
	{name: "error mid-stream", stub: failMidway(func() error { return status.Error(codes.DataLoss, "no") }), drive: converse, client: codes.DataLoss, server: []codes.Code{codes.DataLoss}},
	{name: "refused by the server's hook", stub: plainStub, drive: converse, client: codes.InvalidArgument, server: []codes.Code{codes.InvalidArgument},
		chain: refuseMessage(codes.InvalidArgument), side: interceptors.ServerSide},
	{name: "refused by the client's hook", stub: talkAndWait, drive: converse, client: codes.ResourceExhausted, server: []codes.Code{codes.OK, codes.Canceled},
		chain: refuseMessage(codes.ResourceExhausted), side: interceptors.ClientSide,
		wire: func(kind interceptors.Kind) (codes.Code, bool) {
			if kind == interceptors.Unary || kind == interceptors.ClientStream {
				return codes.OK, true
			}
			return codes.Canceled, true
		}},
	{name: "panic", stub: failBefore(func() error { panic("handler") }), drive: silentCall, client: codes.Internal, server: []codes.Code{codes.Internal},
		panics: [2]int64{interceptors.ServerSide: 1}},
	{name: "panic mid-stream", stub: failMidway(func() error { panic("handler") }), drive: converse, client: codes.Internal, server: []codes.Code{codes.Internal},
		panics: [2]int64{interceptors.ServerSide: 1}},
	{name: "panic in the client's chain", stub: plainStub, drive: recovering, client: codes.Internal, server: []codes.Code{codes.OK},
		chain: func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			_ = next(ctx)
			panic("interceptor")
		},
		side: interceptors.ClientSide, panics: [2]int64{interceptors.ClientSide: 1},
		wire: func(interceptors.Kind) (codes.Code, bool) { return codes.OK, true }},
	{name: "cancelled without reading", stub: waiting, drive: abandon(func(c *cell) { c.cancel() }), client: codes.Canceled, server: []codes.Code{codes.Canceled}},
	{name: "abandoned until its deadline", stub: waiting, drive: abandon(func(c *cell) { <-c.ctx.Done() }), client: codes.DeadlineExceeded,
		server: []codes.Code{codes.DeadlineExceeded, codes.Canceled}}, // the client's reset and the server's clock race
	{name: "connection closed", stub: waiting, drive: abandon(func(c *cell) { _ = c.h.conn.Close() }), client: codes.Canceled, server: []codes.Code{codes.Canceled}},
	{name: "server stopped", stub: waiting, drive: interrupted(func(c *cell) { c.h.server.Stop() }), client: codes.Unavailable, server: []codes.Code{codes.Canceled}},
	{name: "unsendable request", stub: plainStub, drive: unsendable, client: codes.Internal, server: []codes.Code{codes.Canceled}},
	{name: "reply too large", stub: careless, drive: silentCall, client: codes.ResourceExhausted, server: []codes.Code{codes.ResourceExhausted},
		grpc: []grpc.ServerOption{grpc.MaxSendMsgSize(10)}},
	{name: "request too large", stub: deaf, drive: oversized, client: codes.ResourceExhausted, server: []codes.Code{codes.ResourceExhausted},
		grpc: []grpc.ServerOption{grpc.MaxRecvMsgSize(10)}},
	{name: "cancelled before it began", stub: plainStub, drive: after(func(c *cell) { c.cancel() }), client: codes.Canceled, wire: unattempted},
	{name: "no connection", stub: plainStub, drive: after(func(c *cell) { c.h.server.Stop() }), client: codes.Unavailable, wire: refused},
	{name: "cancelled while waiting for a connection", stub: plainStub, drive: after(func(c *cell) {
		c.h.server.Stop()
		time.AfterFunc(time.Second, c.cancel)
	}), client: codes.Canceled, wire: waited, dial: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.WaitForReady(true))}},
	{name: "finished, never read, cancelled", stub: plainStub, drive: neverRead, client: codes.Canceled, server: []codes.Code{codes.OK}, kinds: kinds[2:]},
}

// Whatever features are installed and however a call ends: one span, one point
// and one record, with the code that the caller got, no call in flight and no
// goroutine left (synctest fails on those).
func TestMatrix(t *testing.T) {
	for _, in := range installs {
		t.Run(in.name, func(t *testing.T) {
			for _, e := range endings {
				if slices.Contains(in.except, e.name) {
					continue
				}
				for _, kind := range kinds {
					if e.kinds != nil && !slices.Contains(e.kinds, kind) {
						continue
					}
					t.Run(e.name+"/"+kind.String(), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { run(t, in, e, kind) })
					})
				}
			}
		})
	}
}

func run(t *testing.T, in install, e ending, kind interceptors.Kind) {
	c := &cell{t: t, kind: kind, entered: make(chan struct{}, 1)}
	c.h = start(t, e.stub(c), func(h *harness) {
		for side, f := range in.side {
			if f.options != nil {
				for _, o := range f.options(c, interceptors.Side(side)) {
					if interceptors.Side(side) == interceptors.ServerSide {
						h.servers = append(h.servers, o)
					} else {
						h.clients = append(h.clients, o)
					}
				}
			}
		}
		h.clients = append(h.clients, in.side[interceptors.ClientSide].client)
		h.servers = append(h.servers, in.side[interceptors.ServerSide].server)
		h.grpc, h.dial = append(h.grpc, e.grpc...), append(h.dial, e.dial...)
		if e.chain != nil {
			on(e.side, e.chain)(h)
		}
	})
	c.ctx, c.cancel = context.WithTimeout(context.Background(), time.Minute)
	defer c.cancel()
	if got := status.Code(e.drive(c)); got != e.client {
		t.Errorf("the caller got %v, want %v", got, e.client)
	}
	synctest.Wait()
	c.client(in, e)
	c.server(in, e)
	for side := range c.chained {
		if in, out := c.chained[side].in.Load(), c.chained[side].out.Load(); in != out || in > 1 {
			t.Errorf("the %s's chain was entered %d times and left %d times", interceptors.Side(side), in, out)
		}
	}
	started, ended := c.h.spans.Started(), c.h.spans.Ended()
	if len(started) != len(ended) {
		t.Errorf("%d spans began and %d ended", len(started), len(ended))
	}
}

func (c *cell) client(in install, e ending) {
	f := in.side[interceptors.ClientSide]
	code, attempted := e.client, true
	if e.wire != nil {
		code, attempted = e.wire(c.kind)
	}
	want := sightings{spans: 1, spanCode: canonical(e.client), points: map[string]int64{canonical(e.client): 1}}
	if f.otelgrpc {
		want = sightings{}
		if attempted {
			want = sightings{spans: 1, spanCode: canonical(code), points: map[string]int64{canonical(code): 1}}
		}
	}
	c.check(interceptors.ClientSide, f, e, canonical(e.client), want)
	attempts := 0
	if f.attempts && attempted {
		attempts = 1
	}
	if slices.Contains(f.turns, c.kind) {
		attempts, code = 1, e.client // whatever comes of it
	}
	var got int
	for _, s := range c.h.spans.Ended() {
		if s.SpanKind() == trace.SpanKindInternal {
			got++
			if status := attrs(s.Attributes())["rpc.response.status_code"]; status != canonical(code) {
				c.t.Errorf("an attempt's span has %v, want %v", status, canonical(code))
			}
		}
	}
	if got != attempts {
		c.t.Errorf("%d spans of attempts, want %d", got, attempts)
	}
}

func (c *cell) server(in install, e ending) {
	f := in.side[interceptors.ServerSide]
	if len(e.server) == 0 {
		c.check(interceptors.ServerSide, f, e, "", sightings{})
		return
	}
	// Where two codes are right, all must have the same one.
	code := canonical(e.server[0])
	for _, right := range e.server {
		if c.seen(trace.SpanKindServer, canonical(right)) {
			code = canonical(right)
		}
	}
	c.check(interceptors.ServerSide, f, e, code, sightings{spans: 1, spanCode: code, points: map[string]int64{code: 1}})
}

// seen tells whether a record or a span of the side has the code.
func (c *cell) seen(kind trace.SpanKind, code string) bool {
	for _, r := range recordsOf(c.t, c.h, kind.String()+" call") {
		if r["rpc.response.status_code"] == code {
			return true
		}
	}
	for _, s := range c.h.spans.Ended() {
		if s.SpanKind() == kind && attrs(s.Attributes())["rpc.response.status_code"] == code {
			return true
		}
	}
	return false
}

// sightings are what there is of a call on one side.
type sightings struct {
	spans    int
	spanCode string
	points   map[string]int64
	failures map[string]int64
	panics   int64
	inFlight int64
	logged   []string
}

func (c *cell) check(side interceptors.Side, f feature, e ending, code string, want sightings) {
	c.t.Helper()
	want.panics = e.panics[side]
	switch {
	case code == "": // never got here
	case f.filtered:
		want = sightings{panics: e.panics[side]}
		if e.panics[side] > 0 {
			want.logged = []string{code} // panics always are
		}
	default:
		want.logged = []string{code}
		if code != "OK" {
			want.failures = map[string]int64{code: 1}
		}
	}
	if f.mute != nil {
		f.mute(&want)
	}
	kind := trace.SpanKindServer
	if side == interceptors.ClientSide {
		kind = trace.SpanKindClient
	}
	got := sightings{
		points:   nonEmpty(c.h.tally("rpc."+side.String()+".call.duration", "rpc.response.status_code")),
		failures: nonEmpty(c.h.tally("rpcscope."+side.String()+".errors", "rpc.response.status_code")),
	}
	for _, n := range c.h.tally("rpcscope."+side.String()+".panics", "rpc.method") {
		got.panics += n
	}
	for _, n := range c.h.tally("rpcscope."+side.String()+".active_calls", "rpc.method") {
		got.inFlight += max(n, -n)
	}
	for _, s := range c.h.spans.Ended() {
		if s.SpanKind() == kind {
			got.spans++
			got.spanCode, _ = attrs(s.Attributes())["rpc.response.status_code"].(string)
		}
	}
	for _, r := range recordsOf(c.t, c.h, side.String()+" call") {
		got.logged = append(got.logged, fmt.Sprint(r["rpc.response.status_code"]))
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sightings{})); diff != "" {
		c.t.Errorf("seen on the %s (-want +got):\n%s", side, diff)
	}
}

// The interceptors that end a call.

func refuse(_ context.Context, call *interceptors.Call, _ interceptors.Next) error {
	if call.Side == interceptors.ServerSide {
		synctest.Wait() // until the request is out: to otelgrpc one that cannot be written any more is OK (D1)
	}
	return errors.PermissionDenied("not you")
}

func refuseMessage(code codes.Code) interceptors.Interceptor {
	return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		call.OnReceive(func(any) error { return errors.Coded(code, "not that") })
		return next(ctx)
	}
}

// The handlers.

func plainStub(*cell) *stub { return &stub{} }

// stream is what a handler of every kind has in common.
type stream struct {
	context.Context
	recv func() error
	send func() error // nil where the reply is returned
}

// stubOf is a stub with one handler for all kinds; its error is the call's. It
// is called with a stream that has received what every call begins with.
func stubOf(handle func(stream) error) *stub {
	return &stub{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			s := stream{ctx, func() error { return nil }, func() error { return grpc.SendHeader(ctx, metadata.MD{}) }}
			return &testpb.SimpleResponse{}, handle(s)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			s := stream{ss.Context(), func() error { _, err := ss.Recv(); return err }, func() error { return ss.SendHeader(metadata.MD{}) }}
			if err := handle(s); err != nil {
				return err
			}
			return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
		},
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			return handle(stream{ss.Context(), func() error { return nil }, func() error { return ss.Send(&testpb.StreamingOutputCallResponse{}) }})
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			return handle(stream{ss.Context(), func() error { _, err := ss.Recv(); return err }, func() error { return ss.Send(&testpb.StreamingOutputCallResponse{}) }})
		},
	}
}

func failBefore(fail func() error) func(*cell) *stub {
	return func(*cell) *stub { return stubOf(func(stream) error { return fail() }) }
}

func failMidway(fail func() error) func(*cell) *stub {
	return func(*cell) *stub {
		return stubOf(func(s stream) error {
			if err := errors.Join(s.recv(), s.send()); err != nil {
				return err
			}
			return fail()
		})
	}
}

// talkAndWait sends a message where the kind has several, and waits for the
// client to go; where it has one, it answers.
func talkAndWait(c *cell) *stub {
	return stubOf(func(s stream) error {
		if err := errors.Join(s.recv(), s.send()); err != nil || c.kind == interceptors.Unary || c.kind == interceptors.ClientStream {
			return err
		}
		return gone(s)
	})
}

// waiting sends what nobody will read, and waits for the client to go.
func waiting(c *cell) *stub {
	return stubOf(func(s stream) error {
		if err := s.send(); err != nil {
			return err
		}
		c.entered <- struct{}{}
		return gone(s)
	})
}

// careless sends what is too large, and does not look whether it went out.
func careless(*cell) *stub {
	large := &testpb.Payload{Body: make([]byte, 100)}
	return &stub{
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Payload: large}, nil
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			_ = ss.SendMsg(&testpb.SimpleResponse{Payload: large})
			return nil
		},
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			_ = ss.Send(&testpb.StreamingOutputCallResponse{Payload: large})
			return nil
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			_ = ss.Send(&testpb.StreamingOutputCallResponse{Payload: large})
			return nil
		},
	}
}

// deaf receives, and does not look what.
func deaf(*cell) *stub {
	return stubOf(func(s stream) error {
		_ = s.recv()
		return nil
	})
}

// The callers.

// oversized sends a request that is too large for the server.
func oversized(c *cell) error {
	large := &testpb.Payload{Body: make([]byte, 100)}
	if c.kind == interceptors.Unary {
		_, err := c.h.client.UnaryCall(c.ctx, &testpb.SimpleRequest{Payload: large})
		return err
	}
	cs, err := c.silentStream()
	if err != nil {
		return err
	}
	if err := cs.SendMsg(&testpb.StreamingOutputCallRequest{Payload: large}); err != nil {
		return err
	}
	_ = cs.CloseSend()
	return receive(cs)
}

// unsendable sends a request that cannot be marshaled.
func unsendable(c *cell) error {
	if c.kind == interceptors.Unary {
		return c.h.conn.Invoke(c.ctx, unaryMethod, "not a message", &testpb.SimpleResponse{})
	}
	cs, err := c.silentStream()
	if err != nil {
		return err
	}
	err = cs.SendMsg("not a message")
	_ = receive(cs)
	return err
}

func wholeCall(c *cell) error { return c.h.call(c.ctx, c.kind) }

func silentCall(c *cell) error { return c.h.silent(c.ctx, c.kind) }

// after makes a call when something has happened.
func after(act func(*cell)) func(*cell) error {
	return func(c *cell) error {
		act(c)
		return silentCall(c)
	}
}

func recovering(c *cell) (err error) {
	defer func() {
		if v := recover(); v == nil {
			c.t.Error("the panic did not reach the caller")
		} else {
			err = status.Error(codes.Internal, fmt.Sprint(v))
		}
	}()
	return c.h.call(c.ctx, c.kind)
}

// converse sends one message and receives until the end.
func converse(c *cell) error {
	if c.kind == interceptors.Unary {
		return c.h.call(c.ctx, c.kind)
	}
	cs, err := c.open()
	if err != nil {
		return err
	}
	if c.kind != interceptors.ServerStream {
		if err := cs.SendMsg(&testpb.StreamingOutputCallRequest{}); err != nil {
			return err
		}
	}
	return receive(cs)
}

// open opens a stream of the cell's kind.
func (c *cell) open() (grpc.ClientStream, error) {
	cs, err := c.silentStream()
	if err != nil || c.kind != interceptors.ServerStream {
		return cs, err
	}
	if err := cs.SendMsg(&testpb.StreamingOutputCallRequest{}); err != nil {
		return nil, err
	}
	return cs, cs.CloseSend()
}

func (c *cell) silentStream() (grpc.ClientStream, error) {
	method := map[interceptors.Kind]string{interceptors.ClientStream: clientStreamMethod, interceptors.ServerStream: serverStreamMethod, interceptors.BidiStream: bidiMethod}[c.kind]
	desc := &grpc.StreamDesc{ClientStreams: c.kind != interceptors.ServerStream, ServerStreams: c.kind != interceptors.ClientStream}
	return c.h.conn.NewStream(c.ctx, desc, method)
}

func receive(cs grpc.ClientStream) error {
	for {
		if err := cs.RecvMsg(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// abandon makes a call, lets happen what ends it, and sees that it has ended
// before anybody reads.
func abandon(act func(*cell)) func(*cell) error {
	return func(c *cell) error {
		if c.kind == interceptors.Unary {
			return interrupted(act)(c)
		}
		cs, err := c.open()
		if err != nil {
			return err
		}
		<-c.entered
		act(c)
		synctest.Wait()
		c.ended()
		return receive(cs)
	}
}

// interrupted makes a call and reads from it, while that happens which ends it.
func interrupted(act func(*cell)) func(*cell) error {
	return func(c *cell) error {
		go func() {
			<-c.entered
			synctest.Wait()
			act(c)
		}()
		if c.kind == interceptors.Unary {
			return c.h.call(c.ctx, c.kind)
		}
		cs, err := c.open()
		if err != nil {
			return err
		}
		return receive(cs)
	}
}

// neverRead cancels a stream that the server has finished, and that nobody has
// read from.
func neverRead(c *cell) error {
	cs, err := c.open()
	if err != nil {
		return err
	}
	_ = cs.CloseSend()
	synctest.Wait()
	c.cancel()
	synctest.Wait()
	c.ended()
	_ = receive(cs) // what is in the buffer, and nothing more is recorded
	return status.FromContextError(c.ctx.Err()).Err()
}

// ended fails the test while the client's call is in flight.
func (c *cell) ended() {
	for _, n := range c.h.tally("rpcscope.client.active_calls", "rpc.method") {
		if n != 0 {
			c.t.Error("the call is in flight until somebody reads")
		}
	}
}
