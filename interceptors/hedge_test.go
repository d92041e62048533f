package interceptors_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rpcscope/rpcscope/interceptors"
)

// replica is what the nth attempt meets: a time that it takes, and an error.
type replica struct {
	takes time.Duration
	code  codes.Code
	push  string
}

// replicas has a unary method that answers the nth attempt as the nth replica
// says, with n as its text, header and trailer.
func replicas(called *atomic.Int64, cancelled *sync.Map, all ...replica) *stub {
	return &stub{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		n := called.Add(1)
		r := all[n-1]
		name := string(rune('0' + n))
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-replica", name))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-replica", name))
		if r.push != "" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", r.push))
		}
		select {
		case <-time.After(r.takes):
		case <-ctx.Done():
			cancelled.Store(n, true)
			return nil, ctx.Err()
		}
		if r.code != codes.OK {
			return nil, status.Error(r.code, "not now")
		}
		return &testpb.SimpleResponse{Username: name, Payload: in.GetPayload()}, nil
	}}
}

// The first answer counts, the other attempts are cancelled, and what the caller
// gets is all of one attempt.
func TestHedge(t *testing.T) {
	for name, test := range map[string]struct {
		policy   interceptors.HedgePolicy
		replicas []replica
		deadline time.Duration
		winner   string
		code     codes.Code
		attempts int64
		took     time.Duration
	}{
		"the first is quick":      {replicas: []replica{{takes: 50 * time.Millisecond}}, winner: "1", attempts: 1, took: 50 * time.Millisecond},
		"the second is quicker":   {replicas: []replica{{takes: time.Minute}, {takes: 10 * time.Millisecond}}, winner: "2", attempts: 2, took: 110 * time.Millisecond},
		"the first is quicker":    {replicas: []replica{{takes: 150 * time.Millisecond}, {takes: time.Minute}}, winner: "1", attempts: 2, took: 150 * time.Millisecond},
		"the third":               {policy: interceptors.HedgePolicy{MaxAttempts: 3, Delay: time.Second}, replicas: []replica{{takes: time.Minute}, {takes: time.Minute}, {takes: time.Second}}, winner: "3", attempts: 3, took: 3 * time.Second},
		"a failure is not waited": {replicas: []replica{{takes: 10 * time.Millisecond, code: codes.Unavailable}, {takes: 10 * time.Millisecond}}, winner: "2", attempts: 2, took: 20 * time.Millisecond},
		"a fatal failure":         {replicas: []replica{{takes: time.Minute}, {takes: 10 * time.Millisecond, code: codes.NotFound}}, winner: "2", code: codes.NotFound, attempts: 2, took: 110 * time.Millisecond},
		"all fail":                {replicas: []replica{{takes: 10 * time.Millisecond, code: codes.Unavailable}, {takes: 10 * time.Millisecond, code: codes.Unavailable}}, winner: "2", code: codes.Unavailable, attempts: 2, took: 20 * time.Millisecond},
		"no hedges":               {policy: interceptors.HedgePolicy{MaxAttempts: 1}, replicas: []replica{{takes: time.Second}}, winner: "1", attempts: 1, took: time.Second},
		"pushback":                {replicas: []replica{{push: "5000", code: codes.Unavailable}, {}}, winner: "2", attempts: 2, took: 5 * time.Second},
		"negative pushback":       {replicas: []replica{{push: "-1", code: codes.Unavailable}}, winner: "1", code: codes.Unavailable, attempts: 1},
		"deadline":                {replicas: []replica{{takes: time.Minute}, {takes: time.Minute}}, deadline: time.Second, code: codes.DeadlineExceeded, attempts: 2, took: time.Second},
		"deadline after pushback": {replicas: []replica{{push: "5000", code: codes.Unavailable}, {}}, deadline: time.Second, winner: "1", code: codes.Unavailable, attempts: 1, took: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var called atomic.Int64
				var cancelled sync.Map
				h := start(t, replicas(&called, &cancelled, test.replicas...), on(interceptors.ClientSide, interceptors.Hedge(test.policy)))
				ctx := context.Background()
				if test.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				var header, trailer metadata.MD
				var from peer.Peer
				var finished []error
				begun := time.Now()
				in := &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("what was asked")}}
				got, err := h.client.UnaryCall(ctx, in, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from),
					grpc.OnFinish(func(err error) { finished = append(finished, err) }))
				if status.Code(err) != test.code {
					t.Errorf("the call ended with %v, want %v", err, test.code)
				}
				if took := time.Since(begun); took != test.took {
					t.Errorf("it took %v, want %v", took, test.took)
				}
				if err == nil {
					want := &testpb.SimpleResponse{Username: test.winner, Payload: in.GetPayload()}
					if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
						t.Errorf("reply (-want +got):\n%s", diff)
					}
				}
				if test.winner != "" {
					if trailer := trailer.Get("x-replica"); !slices.Equal(trailer, []string{test.winner}) {
						t.Errorf("trailer of replica %v, want %v", trailer, test.winner)
					}
					if from.Addr == nil {
						t.Error("no peer")
					}
				}
				if err == nil && !slices.Equal(header.Get("x-replica"), []string{test.winner}) {
					t.Errorf("header of replica %v, want %v", header.Get("x-replica"), test.winner)
				}
				if len(finished) != 1 || status.Code(finished[0]) != test.code {
					t.Errorf("OnFinish was called with %v, want once with %v", finished, test.code)
				}
				synctest.Wait()
				if called.Load() != test.attempts {
					t.Errorf("%d attempts, want %d", called.Load(), test.attempts)
				}
				for n, r := range test.replicas {
					if _, gone := cancelled.Load(int64(n + 1)); gone != (r.takes == time.Minute) {
						t.Errorf("replica %d was cancelled: %v", n+1, gone)
					}
				}
				h.idle()
				h.checkAttempts(test.attempts, "hedge")
			})
		})
	}
}

// Under the race detector: many calls whose attempts answer at the same time.
// failsafe-go's hedges fill one reply together (D12).
func TestHedgesShareNothing(t *testing.T) {
	var called atomic.Int64
	h := start(t, &stub{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		return &testpb.SimpleResponse{Payload: in.GetPayload(), Username: "ada", Hostname: string(rune('a' + called.Add(1)%26))}, nil
	}}, on(interceptors.ClientSide, interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 4, Delay: time.Nanosecond, Budget: -1}),
		func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.OnSend(func(any) error { return nil })
			call.OnReceive(func(any) error { return nil })
			call.AddCallOptions(grpc.WaitForReady(true))
			err := next(ctx)
			if reply, ok := call.Response.(*testpb.SimpleResponse); ok {
				reply.Username += "!"
			}
			return err
		}))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				var header metadata.MD
				got, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 1000)}}, grpc.Header(&header))
				if err != nil || got.GetUsername() != "ada!" || len(got.GetPayload().GetBody()) != 1000 {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	wait.Wait()
	h.idle()
}

// What is not a unary call has one attempt.
func TestHedgeLeavesStreamsAlone(t *testing.T) {
	for _, kind := range kinds[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, failingFirst(&calls), on(interceptors.ClientSide, interceptors.Hedge(interceptors.HedgePolicy{Delay: time.Nanosecond})))
				if err := h.call(context.Background(), kind); err != nil || calls.Load() != 1 {
					t.Errorf("%d calls, %v; want one and nil", calls.Load(), err)
				}
				h.idle()
			})
		})
	}
}

// A panic of an interceptor inside of an attempt is the caller's, and does not
// end the process.
func TestHedgePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &stub{}, on(interceptors.ClientSide, interceptors.Hedge(interceptors.HedgePolicy{}),
			func(context.Context, *interceptors.Call, interceptors.Next) error { panic("inside") }))
		defer func() {
			if got := recover(); got != "inside" {
				t.Errorf("recovered %v, want the panic", got)
			}
			h.idle()
		}()
		_ = h.call(context.Background(), interceptors.Unary)
	})
}

// What the caller says for one call goes for its attempts.
func TestHedgeKeepsCallOptions(t *testing.T) {
	m := &moody{}
	m.set(codes.Unavailable)
	deadlines := make(chan time.Duration, 1)
	h := start(t, &stub{}, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
		h.clients = append(h.clients, interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 1}), interceptors.Timeout(5*time.Second),
			interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 4, Budget: -1}), interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				at, _ := ctx.Deadline()
				deadlines <- time.Until(at)
				return next(ctx)
			}))
	})
	_, err := h.client.UnaryCall(context.Background(), &testpb.SimpleRequest{}, interceptors.CallRetry(interceptors.RetryPolicy{MaxAttempts: 1}), interceptors.CallTimeout(time.Hour))
	if status.Code(err) != codes.Unavailable || m.calls.Load() != 1 {
		t.Errorf("after %d attempts: %v; want Unavailable after one, as CallRetry says", m.calls.Load(), err)
	}
	if d := <-deadlines; d < 59*time.Minute {
		t.Errorf("the attempt had %v, want the hour of CallTimeout", d)
	}
	h.idle()
	if got := attrs(h.span(trace.SpanKindClient).Attributes())["rpcscope.deadline.source"]; got != "default" {
		t.Errorf("rpcscope.deadline.source is %v, want default", got)
	}
}

// Attempts do not multiply: where gRPC retries by itself Hedge leaves it at that.
func TestHedgeBesideServiceConfig(t *testing.T) {
	m := &moody{}
	m.set(codes.Unavailable)
	h := start(t, &stub{}, func(h *harness) {
		h.servers = append(h.servers, interceptors.Interceptor(m.intercept))
		h.clients = append(h.clients, interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 3, Delay: time.Millisecond, Budget: -1}))
		h.dial = append(h.dial, grpc.WithDefaultServiceConfig(interceptors.RetryServiceConfig(interceptors.RetryPolicy{MaxAttempts: 2, InitialBackoff: time.Millisecond, Budget: -1}, "/grpc.testing.TestService/*")))
	})
	for range 3 { // the service config comes with the connection
		_, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{}, grpc.WaitForReady(true))
		if status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
	}
	if n := m.calls.Swap(0); n > 10 { // the first one may have been hedged
		t.Errorf("3 calls made %d attempts", n)
	}
	_, _ = h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{})
	if n := m.calls.Load(); n != 2 {
		t.Errorf("a call made %d attempts, want the 2 of the service config", n)
	}
}

// A reply that nothing can be read into is gRPC's to refuse, with and without
// attempts.
func TestAttemptsWithoutReply(t *testing.T) {
	passOn := interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) })
	for name, reply := range map[string]any{"nil": nil, "a string": "not a message", "a struct": struct{}{}, "a map": map[string]string{}, "a nil pointer": (*int)(nil)} {
		t.Run(name, func(t *testing.T) {
			retry := interceptors.Retry(interceptors.RetryPolicy{InitialBackoff: time.Millisecond})
			hedge := interceptors.Hedge(interceptors.HedgePolicy{Delay: time.Millisecond})
			call := func(opts ...interceptors.ClientOption) error {
				var calls atomic.Int64
				unavailable := func(context.Context) error { return status.Error(codes.Unavailable, "not yet") }
				h := start(t, failingFirst(&calls, unavailable, nothing), func(h *harness) { h.clients = append(h.clients, opts...) })
				return h.conn.Invoke(t.Context(), unaryMethod, &testpb.SimpleRequest{}, reply)
			}
			for kind, option := range map[string]interceptors.ClientOption{"plain": passOn, "retried": retry, "hedged": hedge} {
				want := codes.Internal
				if kind == "plain" {
					want = codes.Unavailable // before there is a reply
				}
				if err := call(option); status.Code(err) != want {
					t.Errorf("%s: got %v, want gRPC's %v", kind, err, want)
				}
			}
		})
	}
}

func nothing(context.Context) error { return nil }

// Hedge inside of Retry: each attempt of the one is a round of the other, and what
// the caller gets is all of one attempt.
func TestHedgeInRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var called atomic.Int64
		var cancelled sync.Map
		var mu sync.Mutex
		seen := make(map[*interceptors.Call]string) // by attempt: the reply
		see := interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			err := next(ctx)
			mu.Lock()
			defer mu.Unlock()
			reply, _ := call.Response.(*testpb.SimpleResponse)
			seen[call] = reply.GetUsername()
			return err
		})
		h := start(t, replicas(&called, &cancelled,
			replica{code: codes.Unavailable}, replica{code: codes.Unavailable}, // the first round
			replica{takes: time.Minute}, replica{takes: time.Millisecond},
		), func(h *harness) {
			h.clients = append(h.clients, interceptors.Retry(interceptors.RetryPolicy{}), interceptors.Hedge(interceptors.HedgePolicy{}), see)
		})
		var header, trailer metadata.MD
		got, err := h.client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		if header, trailer := header.Get("x-replica"), trailer.Get("x-replica"); got.GetUsername() != "4" || !slices.Equal(header, []string{"4"}) || !slices.Equal(trailer, []string{"4"}) {
			t.Errorf("got the reply of attempt %s, the header of %v and the trailer of %v, want all of the last one", got.GetUsername(), header, trailer)
		}
		replies := slices.Sorted(maps.Values(seen))
		if want := []string{"", "", "", "4"}; !slices.Equal(replies, want) {
			t.Errorf("the interceptor inside has seen the replies %q, want %q, each in a Call of its own", replies, want)
		}
	})
}

// The attempts of two that hedge do not multiply.
func TestHedgeInHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var called atomic.Int64
		var cancelled sync.Map
		slow := replica{takes: time.Minute}
		h := start(t, replicas(&called, &cancelled, slow, replica{takes: 10 * time.Second}, slow, slow), func(h *harness) {
			h.clients = append(h.clients, interceptors.Hedge(interceptors.HedgePolicy{}), interceptors.Hedge(interceptors.HedgePolicy{}))
		})
		got, err := h.client.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		if err != nil || got.GetUsername() != "2" || called.Load() != 2 {
			t.Errorf("got %v of attempt %q of %d, want that of the second of two", err, got.GetUsername(), called.Load())
		}
	})
}
