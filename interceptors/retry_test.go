package interceptors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// failingFirst has methods that fail with the next of errs, before any message, and
// do what they always do when there is none left.
func failingFirst(calls *atomic.Int64, errs ...func(context.Context) error) *stub {
	plain := &stub{}
	next := func(ctx context.Context) error {
		if n := int(calls.Add(1)); n <= len(errs) {
			return errs[n-1](ctx)
		}
		return nil
	}
	return &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			if err := next(ctx); err != nil {
				return nil, err
			}
			return plain.UnaryCall(ctx, in)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			if err := next(ss.Context()); err != nil {
				return err
			}
			return plain.StreamingInputCall(ss)
		},
		serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			if err := next(ss.Context()); err != nil {
				return err
			}
			return plain.StreamingOutputCall(in, ss)
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			if err := next(ss.Context()); err != nil {
				return err
			}
			return plain.FullDuplexCall(ss)
		},
	}
}

func fails(code codes.Code) func(context.Context) error {
	return func(context.Context) error { return status.Error(code, "not now") }
}

func pushesBack(value string) func(context.Context) error {
	return func(ctx context.Context) error {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", value))
		return status.Error(codes.Unavailable, "not now")
	}
}

func stuck(ctx context.Context) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// An attempt at a server stream that was given up for want of a first message has run
// out of time for everybody: for what is inside of Retry, its span and the counts.
func TestRule26AttemptOfStreamTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		var inside []codes.Code
		h := start(t, failingFirst(&calls, stuck), on(interceptors.ClientSide,
			interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}),
			interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
				err := next(ctx)
				inside = append(inside, errors.Code(err))
				return err
			})))
		if err := h.call(context.Background(), interceptors.ServerStream); err != nil {
			t.Fatal(err)
		}
		h.idle()
		if diff := cmp.Diff([]codes.Code{codes.DeadlineExceeded, codes.OK}, inside); diff != "" {
			t.Errorf("what the attempts ended with (-want +got):\n%s", diff)
		}
		h.counted("rpcscope.client.attempts", "rpc.response.status_code", map[string]int64{"DEADLINE_EXCEEDED": 1, "OK": 1})
		h.checkAttempts(2, "retry")
	})
}

// Rule 26: what is retried, how often, how long is waited, and why it stops.
func TestRule26Retry(t *testing.T) {
	always := slices.Repeat([]func(context.Context) error{fails(codes.Unavailable)}, 20)
	retriable := []interceptors.Kind{interceptors.Unary, interceptors.ServerStream}
	for name, test := range map[string]struct {
		policy   interceptors.RetryPolicy
		errs     []func(context.Context) error
		deadline time.Duration
		want     codes.Code
		attempts int64
		atLeast  time.Duration
		atMost   time.Duration
		stopped  string
	}{
		"second time":              {errs: always[:1], attempts: 2, atMost: 50 * time.Millisecond},
		"third time":               {errs: always[:2], attempts: 3, atMost: 150 * time.Millisecond},
		"too often":                {errs: always, want: codes.Unavailable, attempts: 3, atMost: 150 * time.Millisecond, stopped: "attempts"},
		"never again":              {policy: interceptors.RetryPolicy{MaxAttempts: 1}, errs: always, want: codes.Unavailable, attempts: 1, stopped: "attempts"},
		"another code":             {errs: []func(context.Context) error{fails(codes.Internal)}, want: codes.Internal, attempts: 1},
		"a code of the policy":     {policy: interceptors.RetryPolicy{Codes: []codes.Code{codes.Aborted}}, errs: []func(context.Context) error{fails(codes.Aborted)}, attempts: 2, atMost: 50 * time.Millisecond},
		"not a code of the policy": {policy: interceptors.RetryPolicy{Codes: []codes.Code{codes.Aborted}}, errs: always, want: codes.Unavailable, attempts: 1},
		"pushback":                 {errs: []func(context.Context) error{pushesBack("700")}, attempts: 2, atLeast: 700 * time.Millisecond, atMost: 700 * time.Millisecond},
		"negative pushback":        {errs: []func(context.Context) error{pushesBack("-1")}, want: codes.Unavailable, attempts: 1, stopped: "pushback"},
		"malformed pushback":       {errs: []func(context.Context) error{pushesBack("soon")}, want: codes.Unavailable, attempts: 1, stopped: "pushback"},
		"RetryInfo": {errs: []func(context.Context) error{func(context.Context) error { return errors.Unavailable("later").WithRetry(3 * time.Second) }},
			attempts: 2, atLeast: 3 * time.Second, atMost: 3 * time.Second},
		"deadline": {errs: []func(context.Context) error{pushesBack("700")}, deadline: 600 * time.Millisecond, want: codes.Unavailable, attempts: 1, stopped: "deadline"},
		"the caller's deadline": {policy: interceptors.RetryPolicy{Codes: []codes.Code{codes.DeadlineExceeded}}, errs: []func(context.Context) error{stuck},
			deadline: 600 * time.Millisecond, want: codes.DeadlineExceeded, attempts: 1, atLeast: 600 * time.Millisecond, atMost: 600 * time.Millisecond},
		"an attempt's timeout": {policy: interceptors.RetryPolicy{PerAttemptTimeout: time.Second}, errs: []func(context.Context) error{stuck}, attempts: 2,
			atLeast: time.Second, atMost: 1050 * time.Millisecond},
		"all attempts' timeouts": {policy: interceptors.RetryPolicy{PerAttemptTimeout: time.Second}, errs: slices.Repeat([]func(context.Context) error{stuck}, 9), want: codes.DeadlineExceeded, attempts: 3,
			atLeast: 3 * time.Second, atMost: 3150 * time.Millisecond, stopped: "attempts"},
		"budget":    {policy: interceptors.RetryPolicy{MaxAttempts: 20}, errs: always, want: codes.Unavailable, attempts: 5, atMost: time.Minute, stopped: "budget"},
		"no budget": {policy: interceptors.RetryPolicy{MaxAttempts: 20, Budget: -1}, errs: always, want: codes.Unavailable, attempts: 20, atMost: time.Minute, stopped: "attempts"},
	} {
		for _, kind := range retriable {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int64
					h := start(t, failingFirst(&calls, test.errs...), on(interceptors.ClientSide, interceptors.Retry(test.policy)))
					ctx := context.Background()
					if test.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
						defer cancel()
					}
					begun := time.Now()
					err := h.call(ctx, kind)
					took := time.Since(begun)
					if got := status.Code(err); got != test.want {
						t.Errorf("the call ended with %v, want %v", err, test.want)
					}
					if took < test.atLeast || took > test.atMost {
						t.Errorf("it took %v, want %v to %v", took, test.atLeast, test.atMost)
					}
					synctest.Wait()
					if got := calls.Load(); got != test.attempts {
						t.Errorf("the server was called %d times, want %d", got, test.attempts)
					}
					h.idle()
					h.checkAttempts(test.attempts, "retry")
					stopped := map[string]int64{}
					if test.stopped != "" {
						stopped[test.stopped] = 1
					}
					h.counted("rpcscope.client.retries.stopped", "rpcscope.retry.stopped", stopped)
				})
			})
		}
	}
}

// checkAttempts checks that there is one trace with one call, the attempts as
// its children and the server's spans below those, and that all are counted.
func (h *harness) checkAttempts(attempts int64, kind string) {
	h.t.Helper()
	call := h.span(trace.SpanKindClient)
	var numbers []int64
	parents := map[trace.SpanID]bool{}
	servers := int64(0)
	for _, span := range h.spans.Ended() {
		if got, want := span.SpanContext().TraceID(), call.SpanContext().TraceID(); got != want {
			h.t.Errorf("%s is in trace %v, want %v", span.Name(), got, want)
		}
		if strings.HasPrefix(span.Name(), "Attempt.") {
			if span.Parent().SpanID() != call.SpanContext().SpanID() {
				h.t.Errorf("%s is not a child of the call", span.Name())
			}
			parents[span.SpanContext().SpanID()] = true
			n, _ := attrs(span.Attributes())["previous-rpc-attempts"].(int64)
			numbers = append(numbers, n)
		}
	}
	for _, span := range h.spans.Ended() {
		if span.SpanKind() == trace.SpanKindServer {
			servers++
			if !parents[span.Parent().SpanID()] {
				h.t.Errorf("the server's span is not a child of an attempt")
			}
		}
	}
	slices.Sort(numbers)
	var want []int64
	for n := range attempts {
		want = append(want, n)
	}
	if diff := cmp.Diff(want, numbers); diff != "" {
		h.t.Errorf("numbers of attempts (-want +got):\n%s", diff)
	}
	if servers != attempts {
		h.t.Errorf("%d spans of the server, want %d", servers, attempts)
	}
	counts := map[string]int64{"initial": 1}
	if attempts > 1 {
		counts[kind] = attempts - 1
	}
	h.counted("rpcscope.client.attempts", "rpcscope.attempt", counts)
	got := int64(0)
	for _, n := range h.counts("rpc.client.call.duration", "rpc.method") {
		got += n
	}
	if got != 1 {
		h.t.Errorf("the client's duration counts %d calls, want 1", got)
	}
}

// Rule 26: after the caller has had a message nothing is made again, and what it
// gets is what came. go-grpc-middleware's retry delivers "abcabc" for "abc" (D9).
func TestRule26NothingIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			calls.Add(1)
			for _, letter := range "abc" {
				if err := ss.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(string(letter))}}); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "half-way")
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})))
		stream, err := h.client.StreamingOutputCall(context.Background(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for {
			m, err := stream.Recv()
			if err != nil {
				if status.Code(err) != codes.Unavailable {
					t.Errorf("the stream ended with %v, want Unavailable", err)
				}
				break
			}
			got += string(m.GetPayload().GetBody())
		}
		if got != "abc" || calls.Load() != 1 {
			t.Errorf("%d attempts delivered %q, want 1 and abc", calls.Load(), got)
		}
		h.idle()
		h.counted("rpcscope.client.retries.stopped", "rpcscope.retry.stopped", map[string]int64{"committed": 1})
	})
}

// On streams of requests only the failure to open one is made good: what was
// sent is not at hand any more.
func TestRule26StreamsOfRequests(t *testing.T) {
	for _, kind := range []interceptors.Kind{interceptors.ClientStream, interceptors.BidiStream} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls, opened atomic.Int64
				unopenable := func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
					if opened.Add(1) == 1 {
						return errors.Unavailable("not open yet")
					}
					return next(ctx)
				}
				h := start(t, failingFirst(&calls, fails(codes.Unavailable)), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 5}), unopenable))
				if got := status.Code(h.call(context.Background(), kind)); got != codes.Unavailable {
					t.Errorf("the call ended with %v, want Unavailable", got)
				}
				if calls.Load() != 1 || opened.Load() != 2 {
					t.Errorf("opened %d times and called %d times, want 2 and 1", opened.Load(), calls.Load())
				}
				h.idle()
				h.counted("rpcscope.client.retries.stopped", "rpcscope.retry.stopped", map[string]int64{"committed": 1})
			})
		})
	}
}

// A timeout of an attempt is one until the first message: the stream then has
// all the time that the call has.
func TestRule26AttemptTimeoutOfStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &stub{serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			for range 3 {
				if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
					return err
				}
				<-time.After(time.Minute)
			}
			return nil
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Second})))
		if err := h.call(context.Background(), interceptors.ServerStream); err != nil {
			t.Errorf("a stream of three minutes ended with %v", err)
		}
		h.idle()
	})
}

// A caller that gives up while Retry waits is told so at once.
func TestRule26CancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, pushesBack("60000")), on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})))
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		err := h.call(ctx, interceptors.Unary)
		if status.Code(err) != codes.Canceled || time.Since(begun) != time.Second || calls.Load() != 1 {
			t.Errorf("%v after %v and %d calls, want Canceled after 1s and 1", err, time.Since(begun), calls.Load())
		}
		h.idle()
	})
}

// Rule 26: what the caller's options point to is of the last attempt, also where
// that got no answer.
func TestRule26FreshTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		h := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-first", "yes"))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-first", "yes"))
			return nil, status.Error(codes.Unavailable, "not now")
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 2}),
			func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				if n.Add(1) == 2 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithDeadline(ctx, time.Now().Add(-time.Second)) // fails before there is a stream
					defer cancel()
				}
				return next(ctx)
			}))
		var header, trailer metadata.MD
		var from peer.Peer
		_, err := h.client.UnaryCall(context.Background(), &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the call ended with %v, want the second attempt's DeadlineExceeded", err)
		}
		if len(header) != 0 || len(trailer) != 0 || from.Addr != nil {
			t.Errorf("header %v, trailer %v and peer %v are of the first attempt", header, trailer, from.Addr)
		}
		h.idle()
	})
}

// The metadata of a retry is what it was, not what it was and again (rule 9);
// and the server is told how many attempts there were.
func TestRule9RetryDoesNotAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		h := start(t, &stub{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			got = append(got, fmt.Sprint(md.Get("x-app"), len(md.Get("x-request-id")), len(md.Get("traceparent")), md.Get("grpc-previous-rpc-attempts")))
			return nil, status.Error(codes.Unavailable, "not now")
		}}, on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})))
		_ = h.call(metadata.AppendToOutgoingContext(context.Background(), "x-app", "1"), interceptors.Unary)
		want := []string{"[1] 1 1 []", "[1] 1 1 [1]", "[1] 1 1 [2]"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what the attempts sent (-want +got):\n%s", diff)
		}
		h.idle()
	})
}

// Where the service config has a policy for the method gRPC retries, and Retry
// does not multiply that; for other methods it does its work.
func TestRetryDoesNotCompound(t *testing.T) {
	policy := interceptors.RetryPolicy{MaxAttempts: 3}
	for name, test := range map[string]struct {
		config   string
		attempts int64
	}{
		"policy of the method":  {interceptors.RetryServiceConfig(policy, unaryMethod), 3},
		"policy of the service": {interceptors.RetryServiceConfig(policy, "/grpc.testing.TestService/*"), 3},
		"policy of everything":  {interceptors.RetryServiceConfig(policy), 3},
		"policy of another":     {interceptors.RetryServiceConfig(policy, bidiMethod), 4},
		"no policy":             {`{}`, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, failingFirst(&calls, slices.Repeat([]func(context.Context) error{fails(codes.Unavailable)}, 20)...), func(h *harness) {
					h.clients = append(h.clients, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 4}))
					h.dial = append(h.dial, grpc.WithDefaultServiceConfig(test.config))
				})
				_ = h.call(context.Background(), interceptors.Unary)
				if got := calls.Load(); got != test.attempts {
					t.Errorf("the server was called %d times, want %d", got, test.attempts)
				}
				h.idle()
			})
		})
	}
}

// Of several Retry around a call the outermost makes the attempts, each time that
// it runs, also where the attempts in between run beside each other.
func TestRetryOfRetry(t *testing.T) {
	inner := interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 3, Budget: -1})
	outer := interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 4, Budget: -1})
	twice := interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		if err := next(ctx); err == nil {
			return nil
		}
		return next(ctx)
	})
	for name, test := range map[string]struct {
		chain    []interceptors.Interceptor
		attempts int64
	}{
		"one":         {[]interceptors.Interceptor{outer}, 4},
		"two":         {[]interceptors.Interceptor{outer, inner}, 4},
		"three":       {[]interceptors.Interceptor{outer, interceptors.For(interceptors.Methods("*"), inner), inner}, 4},
		"run twice":   {[]interceptors.Interceptor{twice, outer, inner}, 8},
		"over hedges": {[]interceptors.Interceptor{outer, interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: 2, Delay: time.Hour, Budget: -1}), inner}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, failingFirst(&calls, slices.Repeat([]func(context.Context) error{fails(codes.Unavailable)}, 30)...), func(h *harness) {
					h.clients = append(h.clients, interceptors.Chain(test.chain...))
				})
				_ = h.call(context.Background(), interceptors.Unary)
				if got := calls.Load(); got != test.attempts {
					t.Errorf("the server was called %d times, want %d", got, test.attempts)
				}
				h.idle()
			})
		})
	}
}

func TestRetryServiceConfig(t *testing.T) {
	got := interceptors.RetryServiceConfig(interceptors.RetryPolicy{MaxAttempts: 4, MaxBackoff: 1500 * time.Millisecond, Codes: []codes.Code{codes.Unavailable, codes.Aborted}},
		"/a.B/*", "/a.B/C", "*")
	want := `{"methodConfig":[{"name":[{"service":"a.B"},{"service":"a.B","method":"C"},{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.05s","maxBackoff":"1.5s","backoffMultiplier":2,` +
		`"retryableStatusCodes":["UNAVAILABLE","ABORTED"]}}],"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The attempts are seen once, whether WithAttempts watches gRPC too or not.
func TestRetryWithAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, fails(codes.Unavailable), fails(codes.Unavailable)), func(h *harness) {
			h.clients = append(h.clients, interceptors.WithAttempts(), interceptors.Retry(interceptors.RetryPolicy{}))
		})
		if err := h.call(context.Background(), interceptors.Unary); err != nil {
			t.Fatal(err)
		}
		h.idle()
		h.checkAttempts(3, "retry")
	})
}

func TestPoliciesThatMakeNoSense(t *testing.T) {
	nan := 0.0
	nan /= nan
	for want, build := range map[string]func(){
		"RetryPolicy.MaxAttempts is -1":                  func() { interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: -1}) },
		"RetryPolicy.InitialBackoff is -1s":              func() { interceptors.Retry(interceptors.RetryPolicy{InitialBackoff: -time.Second}) },
		"RetryPolicy.InitialBackoff is 2s":               func() { interceptors.Retry(interceptors.RetryPolicy{InitialBackoff: 2 * time.Second}) },
		"RetryPolicy.MaxBackoff is -1s":                  func() { interceptors.Retry(interceptors.RetryPolicy{MaxBackoff: -time.Second}) },
		"RetryPolicy.Multiplier is 0.5":                  func() { interceptors.Retry(interceptors.RetryPolicy{Multiplier: 0.5}) },
		"RetryPolicy.Multiplier is NaN":                  func() { interceptors.Retry(interceptors.RetryPolicy{Multiplier: nan}) },
		"RetryPolicy.Budget is NaN":                      func() { interceptors.Retry(interceptors.RetryPolicy{Budget: nan}) },
		"RetryPolicy.Budget is 5":                        func() { interceptors.Retry(interceptors.RetryPolicy{Budget: 5}) },
		"RetryPolicy.Codes is [Unavailable OK]":          func() { interceptors.Retry(interceptors.RetryPolicy{Codes: []codes.Code{codes.Unavailable, codes.OK}}) },
		"RetryPolicy.Codes is []; want at least one":     func() { interceptors.Retry(interceptors.RetryPolicy{Codes: []codes.Code{}}) },
		"RetryPolicy.Codes is [Code(17)]; want":          func() { interceptors.CallRetry(interceptors.RetryPolicy{Codes: []codes.Code{17}}) },
		"HedgePolicy.NonFatal is []; want at least":      func() { interceptors.Hedge(interceptors.HedgePolicy{NonFatal: []codes.Code{}}) },
		`RetryServiceConfig: pattern "*" is given twice`: func() { interceptors.RetryServiceConfig(interceptors.RetryPolicy{}, "*", "/a.B/C", "*") },
		"RetryPolicy.PerAttemptTimeout is -1s":           func() { interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: -time.Second}) },
		"RetryPolicy.PerAttemptTimeout is 1s":            func() { interceptors.RetryServiceConfig(interceptors.RetryPolicy{PerAttemptTimeout: time.Second}) },
		`RetryServiceConfig: pattern "users"`:            func() { interceptors.RetryServiceConfig(interceptors.RetryPolicy{}, "users") },
		"HedgePolicy.MaxAttempts is -1":                  func() { interceptors.Hedge(interceptors.HedgePolicy{MaxAttempts: -1}) },
		"HedgePolicy.Delay is -1s":                       func() { interceptors.Hedge(interceptors.HedgePolicy{Delay: -time.Second}) },
		"HedgePolicy.Budget is 2":                        func() { interceptors.Hedge(interceptors.HedgePolicy{Budget: 2}) },
		"HedgePolicy.NonFatal is [OK]; want no OK":       func() { interceptors.Hedge(interceptors.HedgePolicy{NonFatal: []codes.Code{codes.OK}}) },
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panicked with %q, want it to say %q", got, want)
				}
			}()
			build()
		})
	}
}

func TestRetryConforms(t *testing.T) {
	quick := interceptors.RetryPolicy{InitialBackoff: time.Microsecond, MaxBackoff: time.Millisecond, Budget: -1}
	clients := interceptorstest.Sides(interceptors.ClientSide)
	t.Run("retry", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Retry(quick), clients, interceptorstest.Retries())
	})
	t.Run("retry, timeout", func(t *testing.T) {
		timed := quick
		timed.PerAttemptTimeout = time.Minute
		interceptorstest.Run(t, interceptors.Retry(timed), clients, interceptorstest.Retries())
	})
	// Hedge calls next in goroutines of its own, which is what the suite forbids
	// everybody else: where it has attempts its own tests must do.
	t.Run("servers", func(t *testing.T) {
		interceptorstest.Run(t, interceptors.Chain(interceptors.Retry(quick), interceptors.Hedge(interceptors.HedgePolicy{})), interceptorstest.Sides(interceptors.ServerSide))
	})
}

// A breaker that is open makes calls fail fast: Retry does not wait for it to close.
func TestRetryDoesNotWaitForBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := start(t, failingFirst(&calls, slices.Repeat([]func(context.Context) error{fails(codes.Unavailable)}, 20)...),
			on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{MaxAttempts: 10, Budget: -1}),
				interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 2, OpenFor: time.Hour})))
		begun := time.Now()
		err := h.call(context.Background(), interceptors.Unary)
		if !errors.Is(err, interceptors.ErrBreakerOpen) || calls.Load() != 2 || time.Since(begun) > time.Second {
			t.Errorf("%v after %d calls and %v, want ErrBreakerOpen after 2 and less than a second", err, calls.Load(), time.Since(begun))
		}
		h.idle()
		h.counted("rpcscope.client.retries.stopped", "rpcscope.retry.stopped", map[string]int64{"breaker": 1})
	})
}
