package interceptors_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// retrying lets gRPC make up to four attempts of a call that is Unavailable.
var retrying = retryingOn(`"UNAVAILABLE"`)

func retryingOn(codes string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4,
		"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": [` + codes + `]}}]}`)
}

// flaky fails with Unavailable the first n times and answers then. metadata is
// told what each attempt brought.
func flaky(n int64, metadata func(context.Context)) *stub {
	var calls atomic.Int64
	fail := func(ctx context.Context) error {
		if metadata != nil {
			metadata(ctx)
		}
		if calls.Add(1) <= n {
			return status.Error(codes.Unavailable, "not yet")
		}
		return nil
	}
	good := &stub{}
	return &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			if err := fail(ctx); err != nil {
				return nil, err
			}
			return good.UnaryCall(ctx, in)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			if err := fail(ss.Context()); err != nil {
				return err
			}
			return good.StreamingInputCall(ss)
		},
		serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			if err := fail(ss.Context()); err != nil {
				return err
			}
			return good.StreamingOutputCall(in, ss)
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			if err := fail(ss.Context()); err != nil {
				return err
			}
			return good.FullDuplexCall(ss)
		},
	}
}

// silent makes a call of the kind that sends no more than it must.
func (h *harness) silent(ctx context.Context, kind interceptors.Kind) error {
	switch kind {
	case interceptors.ClientStream:
		cs, err := h.client.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		_, err = cs.CloseAndRecv()
		return err
	case interceptors.BidiStream:
		cs, err := h.client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		_ = cs.CloseSend()
		return drain(cs)
	}
	return h.call(ctx, kind)
}

// tree is who begat whom.
type tree struct {
	Name     string
	Kind     string
	Status   string
	Attrs    map[string]any
	Children []tree
}

// trees returns the ended spans as trees, children in the order in which they
// began. Of the attributes those named are kept.
func trees(spans []sdktrace.ReadOnlySpan, keys ...string) []tree {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	known := map[trace.SpanID]bool{}
	for _, s := range spans {
		known[s.SpanContext().SpanID()] = true
	}
	var below func(parent trace.SpanID, root bool) []tree
	below = func(parent trace.SpanID, root bool) (found []tree) {
		for _, s := range spans {
			if up := s.Parent().SpanID(); up != parent && (!root || known[up]) {
				continue
			}
			t := tree{Name: s.Name(), Kind: s.SpanKind().String(), Status: s.Status().Code.String(), Attrs: map[string]any{}}
			for k, v := range attrs(s.Attributes()) {
				if slices.Contains(keys, k) {
					t.Attrs[k] = v
				}
			}
			t.Children = below(s.SpanContext().SpanID(), false)
			found = append(found, t)
		}
		return found
	}
	return below(trace.SpanID{}, true)
}

// Rule 7: whatever gRPC's own retries do, a call is one trace, one call span
// and one point; servers' spans are children of the call, or of its attempts.
func TestRule7Retries(t *testing.T) {
	for _, followed := range []bool{false, true} {
		for _, chained := range []bool{false, true} {
			for _, kind := range kinds {
				name := name(kind, chained)
				if followed {
					name += "/attempts"
				}
				t.Run(name, func(t *testing.T) {
					var headers [][]string
					h := start(t, flaky(2, func(ctx context.Context) {
						md, _ := metadata.FromIncomingContext(ctx)
						headers = append(headers, append(slices.Clone(md.Get(propagation.RequestIDHeader)), md.Get("traceparent")...))
					}), func(h *harness) {
						h.dial = append(h.dial, retrying)
						if followed {
							h.clients = append(h.clients, interceptors.WithAttempts())
						}
						if add := chain(chained); add != nil {
							add(h)
						}
					})
					if err := h.call(h.ctx(), kind); err != nil {
						t.Fatal(err)
					}
					h.idle()

					method := nameOf(kind)
					server := func(previous int64, code, status string) tree {
						a := map[string]any{"rpc.response.status_code": code}
						if previous > 0 {
							a["previous-rpc-attempts"] = previous
						}
						return tree{Name: method, Kind: "server", Status: status, Attrs: a}
					}
					servers := []tree{server(0, "UNAVAILABLE", "Error"), server(1, "UNAVAILABLE", "Error"), server(2, "OK", "Unset")}
					call := tree{Name: method, Kind: "client", Status: "Unset", Attrs: map[string]any{"rpc.response.status_code": "OK"}, Children: servers}
					spans := 4
					if followed {
						spans = 7
						call.Children = nil
						for i, s := range servers {
							call.Children = append(call.Children, tree{Name: "Attempt." + method, Kind: "internal", Status: s.Status, Children: []tree{s}, Attrs: map[string]any{
								"previous-rpc-attempts": int64(i), "transparent-retry": false, "rpc.response.status_code": s.Attrs["rpc.response.status_code"]}})
						}
					}
					got := trees(h.ended(spans), "previous-rpc-attempts", "transparent-retry", "rpc.response.status_code")
					if diff := cmp.Diff([]tree{call}, got); diff != "" {
						t.Errorf("spans (-want +got):\n%s", diff)
					}

					h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{"OK": 1})
					h.counted("rpc.server.call.duration", "rpc.response.status_code", map[string]int64{"OK": 1, "UNAVAILABLE": 2})
					var wantReasons, wantCodes map[string]int64
					if followed {
						wantReasons, wantCodes = map[string]int64{"initial": 1, "retry": 2}, map[string]int64{"OK": 1, "UNAVAILABLE": 2}
					}
					if diff := cmp.Diff(wantReasons, nonEmpty(h.counts("rpcscope.client.attempts", "rpcscope.attempt"))); diff != "" {
						t.Errorf("attempts by reason (-want +got):\n%s", diff)
					}
					if diff := cmp.Diff(wantCodes, nonEmpty(h.counts("rpcscope.client.attempts", "rpc.response.status_code"))); diff != "" {
						t.Errorf("attempts by code (-want +got):\n%s", diff)
					}
					if got := clientRecords(t, h); len(got) != 1 || got[0]["rpc.response.status_code"] != "OK" {
						t.Errorf("the client logged %v, want one record with OK", got)
					}

					// Rule 9: metadata is replaced, not appended again; rule 19: one id for all attempts.
					if len(headers) != 3 {
						t.Fatalf("the server saw %d attempts, want 3", len(headers))
					}
					for _, got := range headers {
						if len(got) != 2 || got[0] != headers[0][0] {
							t.Errorf("request ids and traceparents of an attempt: %v, want one of each, the id as in %v", got, headers[0])
						}
					}
				})
			}
		}
	}
}

// Rule 7: when all attempts fail the last one's status is the call's.
func TestRule7LastAttemptDecides(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, flaky(100, nil), func(h *harness) {
				h.dial = append(h.dial, retrying)
				h.clients = append(h.clients, interceptors.WithAttempts())
			})
			if err := h.silent(h.ctx(), kind); status.Code(err) != codes.Unavailable {
				t.Fatalf("the caller got %v, want Unavailable", err)
			}
			h.idle()
			h.ended(9)
			call := h.span(trace.SpanKindClient)
			if got := attrs(call.Attributes())["rpc.response.status_code"]; got != "UNAVAILABLE" || call.Status().Code != otelcodes.Error {
				t.Errorf("the call's span: %v, %v; want UNAVAILABLE and Error", got, call.Status())
			}
			h.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 1, "retry": 3})
			h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{"UNAVAILABLE": 1})
		})
	}
}

// Rules 2 and 7: of an attempt that fails while the client is sending gRPC says
// that it went well. What it was comes out when the call is tried again, or ends.
func TestRule2AttemptRejectedWhileSending(t *testing.T) {
	for _, chained := range []bool{false, true} {
		for _, test := range []struct {
			name     string
			policy   grpc.DialOption
			first    codes.Code
			servers  []string
			attempts []string
			err      codes.Code
		}{
			{"retried", retrying, codes.Unavailable, []string{"UNAVAILABLE", "OK"}, []string{"UNAVAILABLE", "OK"}, codes.OK},
			{"retried for one of two codes", retryingOn(`"UNAVAILABLE", "ABORTED"`), codes.Aborted, []string{"ABORTED", "OK"}, []string{"UNKNOWN", "OK"}, codes.OK},
			{"rejected", retrying, codes.PermissionDenied, []string{"PERMISSION_DENIED"}, []string{"PERMISSION_DENIED"}, codes.PermissionDenied},
		} {
			t.Run(name(interceptors.BidiStream, chained)+"/"+test.name, func(t *testing.T) {
				var calls atomic.Int64
				h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
					if calls.Add(1) == 1 {
						return status.Error(test.first, "no")
					}
					return nil
				}}, func(h *harness) {
					h.dial = append(h.dial, test.policy)
					h.clients = append(h.clients, interceptors.WithAttempts())
					if add := chain(chained); add != nil {
						add(h)
					}
				})
				cs, err := h.client.FullDuplexCall(h.ctx())
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					err = cs.Send(&testpb.StreamingOutputCallRequest{}) // io.EOF in the end, never RecvMsg's status
				}
				if err := drain(cs); status.Code(err) != test.err {
					t.Fatalf("the caller got %v, want %v", err, test.err)
				}
				h.idle()
				got := map[string][]string{}
				for _, s := range h.ended(1 + 2*len(test.attempts)) {
					kind := s.SpanKind().String()
					got[kind] = append(got[kind], attrs(s.Attributes())["rpc.response.status_code"].(string))
				}
				want := map[string][]string{"internal": test.attempts, "server": test.servers, "client": test.attempts[len(test.attempts)-1:]}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("codes of spans (-want +got):\n%s", diff)
				}
				for _, code := range test.attempts {
					if n := h.counts("rpcscope.client.attempts", "rpc.response.status_code")[code]; n != 1 {
						t.Errorf("%d attempts were counted %s, want 1", n, code)
					}
				}
			})
		}
	}
}

// When gRPC gives up retrying while the client is sending, SendMsg fails with an
// unknown error of its own, not with io.EOF; span, point and record have the code
// that the caller was told first.
func TestRule2RetriesExhaustedWhileSending(t *testing.T) {
	for _, chained := range []bool{false, true} {
		t.Run(name(interceptors.BidiStream, chained), func(t *testing.T) {
			h := start(t, flaky(100, nil), func(h *harness) {
				h.dial = append(h.dial, retrying)
				h.clients = append(h.clients, interceptors.WithAttempts())
				if add := chain(chained); add != nil {
					add(h)
				}
			})
			cs, err := h.client.FullDuplexCall(h.ctx())
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				err = cs.Send(&testpb.StreamingOutputCallRequest{})
			}
			if err == io.EOF {
				err = drain(cs)
			}
			if status.Code(err) == codes.OK {
				t.Fatalf("the caller got %v, want an error", err)
			}
			_ = drain(cs)
			h.idle()
			h.ended(9)
			want := canonical(status.Code(err))
			if got := attrs(h.span(trace.SpanKindClient).Attributes())["rpc.response.status_code"]; got != want {
				t.Errorf("client span: %v, want %v as the caller got", got, want)
			}
			h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{want: 1})
			if got := clientRecords(t, h); len(got) != 1 || got[0]["rpc.response.status_code"] != want {
				t.Errorf("the client logged %v, want one record with %s", got, want)
			}
		})
	}
}

// When an interceptor calls next again that is an attempt too, a retry like
// those of gRPC.
func TestAttemptsOfAnInterceptor(t *testing.T) {
	for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.ServerStream} {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, flaky(2, nil), func(h *harness) {
				h.clients = append(h.clients, interceptors.WithAttempts(), interceptors.Interceptor(
					func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
						err := next(ctx)
						for range 2 {
							if err != nil {
								err = next(ctx)
							}
						}
						return err
					}))
			})
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			h.idle()
			method := nameOf(kind)
			call := tree{Name: method, Kind: "client", Status: "Unset", Attrs: map[string]any{"rpc.response.status_code": "OK"}}
			for i, code := range []string{"UNAVAILABLE", "UNAVAILABLE", "OK"} {
				status := map[string]string{"UNAVAILABLE": "Error", "OK": "Unset"}[code]
				call.Children = append(call.Children, tree{Name: "Attempt." + method, Kind: "internal", Status: status,
					Attrs:    map[string]any{"previous-rpc-attempts": int64(i), "transparent-retry": false, "rpc.response.status_code": code},
					Children: []tree{{Name: method, Kind: "server", Status: status, Attrs: map[string]any{"rpc.response.status_code": code}}}})
			}
			if diff := cmp.Diff([]tree{call}, trees(h.ended(7), "previous-rpc-attempts", "transparent-retry", "rpc.response.status_code")); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
			h.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 1, "retry": 2})
			h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{"OK": 1})
		})
	}
}

// Without tracing attempts are counted, and the servers' spans are children of
// the caller's.
func TestAttemptsWithoutTracing(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			h := start(t, flaky(2, nil), func(h *harness) {
				h.clients = append(h.clients, interceptors.WithAttempts(), interceptors.WithoutTracing())
				h.dial = append(h.dial, retrying)
			})
			ctx, caller := h.tp.Tracer("test").Start(h.ctx(), "caller")
			if err := h.call(ctx, kind); err != nil {
				t.Fatal(err)
			}
			caller.End()
			h.idle()
			for _, s := range h.ended(4) {
				if s.SpanKind() == trace.SpanKindServer && s.Parent().SpanID() != caller.SpanContext().SpanID() {
					t.Errorf("a server span has parent %v, want the caller's %v", s.Parent().SpanID(), caller.SpanContext().SpanID())
				}
			}
			h.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 1, "retry": 2})
		})
	}
}

func TestAttemptsPoint(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) { h.clients = append(h.clients, interceptors.WithAttempts()) })
	if err := h.call(h.ctx(), interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	h.idle()
	data, _ := h.metric("rpcscope.client.attempts").(metricdata.Sum[int64])
	if len(data.DataPoints) != 1 || data.DataPoints[0].Value != 1 || !data.IsMonotonic {
		t.Fatalf("rpcscope.client.attempts: %+v, want one attempt", data)
	}
	want := map[string]any{"rpc.method": nameOf(interceptors.Unary), "rpc.system.name": "grpc", "server.address": "bufconn",
		"rpc.response.status_code": "OK", "rpcscope.attempt": "initial"}
	if diff := cmp.Diff(want, attrs(data.DataPoints[0].Attributes.ToSlice())); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	var span trace.SpanID
	for _, s := range h.ended(3) {
		if s.SpanKind() == trace.SpanKindInternal {
			span = s.SpanContext().SpanID()
		}
	}
	if got := data.DataPoints[0].Exemplars; len(got) != 1 || !cmp.Equal(got[0].SpanID, span[:]) {
		t.Errorf("exemplars: %v, want one of the attempt's span %v", got, span)
	}
}

func TestAttemptsOfAFilteredCall(t *testing.T) {
	h := start(t, flaky(2, nil), func(h *harness) {
		h.dial = append(h.dial, retrying)
		h.clients = append(h.clients, interceptors.WithAttempts(), interceptors.WithFilter(func(*interceptors.Call) bool { return false }))
	})
	for _, kind := range kinds {
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
	}
	h.idle()
	for _, s := range h.ended(6) { // three attempts of the first call
		if s.SpanKind() != trace.SpanKindServer || s.Parent().IsValid() {
			t.Errorf("%s span of %s with parent %v, want servers' only, without parent", s.SpanKind(), s.Name(), s.Parent().SpanID())
		}
	}
	if got := h.metric("rpcscope.client.attempts"); got != nil {
		t.Errorf("attempts: %v, want none", got)
	}
}

// An interceptor of grpc's own inside of the suite may make several calls of one
// at the same time: each is an attempt that ends as it ended.
func TestAttemptsAtTheSameTime(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	h := start(t, &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		both.Done()
		both.Wait()
		return &testpb.SimpleResponse{}, nil
	}}, func(h *harness) {
		h.clients = append(h.clients, interceptors.WithAttempts())
		h.dial = append(h.dial, grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				second := make(chan error, 1)
				go func() { second <- invoker(ctx, method, req, &testpb.SimpleResponse{}, cc, opts...) }()
				return errors.Join(invoker(ctx, method, req, reply, cc, opts...), <-second)
			}))
	})
	if err := h.call(h.ctx(), interceptors.Unary); err != nil {
		t.Fatal(err)
	}
	h.idle()
	h.ended(5)
	h.counted("rpcscope.client.attempts", "rpc.response.status_code", map[string]int64{"OK": 2})
	h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{"OK": 1})
}

// An attempt lasts until gRPC ended it, also where how it ended is known later.
func TestAttemptsLastUntilTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &stub{bidi: func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.NotFound, "no") }},
			func(h *harness) { h.clients = append(h.clients, interceptors.WithAttempts()) })
		cs, err := h.client.FullDuplexCall(h.ctx())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := cs.Send(&testpb.StreamingOutputCallRequest{}); err != io.EOF {
			t.Fatalf("Send: %v, want io.EOF", err)
		}
		<-time.After(time.Second)
		if err := drain(cs); status.Code(err) != codes.NotFound {
			t.Fatalf("the caller got %v, want NotFound", err)
		}
		want := map[string]time.Duration{"internal": 0, "client": time.Second, "server": 0}
		got := map[string]time.Duration{}
		for _, s := range h.ended(3) {
			got[s.SpanKind().String()] = s.EndTime().Sub(s.StartTime())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("durations (-want +got):\n%s", diff)
		}
	})
}

// Rule 7: an attempt that never reached a server is made again, and that is no
// retry: to gRPC the call has not been tried before.
func TestRule7TransparentRetry(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			goingAway := newGoingAway()
			h := start(t, &stub{}, func(h *harness) {
				h.clients = append(h.clients, interceptors.WithAttempts())
				h.dial = append(h.dial, goingAway.first(h))
			})
			goingAway.serve(t)
			if err := h.call(h.ctx(), kind); err != nil {
				t.Fatal(err)
			}
			h.idle()
			method := nameOf(kind)
			ok, unavailable := map[string]any{"rpc.response.status_code": "OK"}, "UNAVAILABLE"
			want := []tree{{Name: method, Kind: "client", Status: "Unset", Attrs: ok, Children: []tree{
				{Name: "Attempt." + method, Kind: "internal", Status: "Error", Attrs: map[string]any{
					"previous-rpc-attempts": int64(0), "transparent-retry": false, "rpc.response.status_code": unavailable}},
				{Name: "Attempt." + method, Kind: "internal", Status: "Unset", Attrs: map[string]any{
					"previous-rpc-attempts": int64(0), "transparent-retry": true, "rpc.response.status_code": "OK"}, Children: []tree{
					{Name: method, Kind: "server", Status: "Unset", Attrs: ok}}}}}}
			if diff := cmp.Diff(want, trees(h.ended(4), "previous-rpc-attempts", "transparent-retry", "rpc.response.status_code")); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
			h.counted("rpcscope.client.attempts", "rpcscope.attempt", map[string]int64{"initial": 1, "transparent_retry": 1})
			h.counted("rpc.client.call.duration", "rpc.response.status_code", map[string]int64{"OK": 1})
		})
	}
}

// Rules 2 and 7: so it is when the client notices while it sends.
func TestRule7TransparentRetryWhileSending(t *testing.T) {
	goingAway := newGoingAway()
	h := start(t, &stub{bidi: func(testpb.TestService_FullDuplexCallServer) error { return nil }}, func(h *harness) {
		h.clients = append(h.clients, interceptors.WithAttempts())
		h.dial = append(h.dial, goingAway.first(h))
	})
	goingAway.serve(t)
	cs, err := h.client.FullDuplexCall(h.ctx())
	for err == nil {
		err = cs.Send(&testpb.StreamingOutputCallRequest{})
	}
	if err := drain(cs); err != nil {
		t.Fatal(err)
	}
	h.idle()
	h.ended(4)
	for key, want := range map[attribute.Key]map[string]int64{
		"rpcscope.attempt":         {"initial": 1, "transparent_retry": 1},
		"rpc.response.status_code": {"UNAVAILABLE": 1, "OK": 1},
	} {
		h.counted("rpcscope.client.attempts", key, want)
	}
}

// goingAway is an HTTP/2 server that takes one connection and goes away at the
// first request, without having looked at it.
type goingAway struct {
	*bufconn.Listener
	used atomic.Bool
}

func newGoingAway() *goingAway { return &goingAway{Listener: bufconn.Listen(1 << 16)} }

// first has a client of h connect to g, and to the server the next time.
func (g *goingAway) first(h *harness) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		if g.used.CompareAndSwap(false, true) {
			return g.DialContext(ctx)
		}
		return h.listen.DialContext(ctx)
	})
}

func (g *goingAway) serve(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { _ = g.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := g.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		if _, err := io.ReadFull(conn, make([]byte, len(preface))); err != nil {
			t.Error(err)
			return
		}
		const headers, settings, goAway = 1, 4, 7
		frame := func(kind byte, payload ...byte) {
			header := append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind)), 0, 0, 0, 0, 0)
			_, _ = conn.Write(append(header, payload...))
		}
		frame(settings)
		for {
			var header [9]byte
			if _, err := io.ReadFull(conn, header[:]); err != nil {
				return // the client has gone, as it was told to
			}
			length := binary.BigEndian.Uint32(header[:4]) >> 8
			if _, err := io.ReadFull(conn, make([]byte, length)); err != nil {
				return
			}
			if header[3] == headers {
				frame(goAway, make([]byte, 8)...) // the last stream that was looked at: none; no error
			}
		}
	}()
}

// canonical is a code as the semantic conventions write it.
func canonical(code codes.Code) string {
	return [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
		"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}[code]
}

func nonEmpty(m map[string]int64) map[string]int64 {
	if len(m) == 0 {
		return nil
	}
	return m
}

func nameOf(kind interceptors.Kind) string {
	return map[interceptors.Kind]string{interceptors.Unary: unaryMethod, interceptors.ClientStream: clientStreamMethod,
		interceptors.ServerStream: serverStreamMethod, interceptors.BidiStream: bidiMethod}[kind][1:]
}

func clientRecords(t *testing.T, h *harness) []map[string]any { return recordsOf(t, h, "client call") }

func recordsOf(t *testing.T, h *harness, msg string) (found []map[string]any) {
	t.Helper()
	for _, r := range h.logs.records(t) {
		if r["msg"] == msg {
			found = append(found, r)
		}
	}
	return found
}
