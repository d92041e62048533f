package interceptors_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// stranger is a client without the suite, whose every word may be a lie.
func (h *harness) stranger() *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listen.DialContext(ctx) }))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// forgetful records spans and logs and keeps none, so that the heap is the
// suite's.
func forgetful(h *harness) {
	both(nil, interceptors.WithTracerProvider(sdktrace.NewTracerProvider()), interceptors.WithLogger(slog.New(slog.DiscardHandler)))(h)
}

// series returns how many there are of each instrument.
func (h *harness) series() map[string]int {
	h.t.Helper()
	rm := h.rec.Collect()
	n := map[string]int{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				n[m.Name] = len(data.DataPoints)
			case metricdata.Histogram[int64]:
				n[m.Name] = len(data.DataPoints)
			case metricdata.Sum[int64]:
				n[m.Name] = len(data.DataPoints)
			default:
				h.t.Errorf("%s is %T", m.Name, data)
			}
		}
	}
	return n
}

func heap() uint64 {
	// Twice: what a finalizer or a pool let go of the first time.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// each calls f with the numbers from begin to end, several at a time, until it
// fails.
func each(t *testing.T, begin, end int, f func(int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Bool
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for i := begin + w; i < end && !failed.Load(); i += workers {
				if err := f(i); err != nil && failed.CompareAndSwap(false, true) {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		t.FailNow()
	}
}

// gave returns an error unless err has code.
func gave(code codes.Code, err error) error {
	if status.Code(err) != code {
		return fmt.Errorf("got %v, want %v", err, code)
	}
	return nil
}

// Rule 5: a peer that makes up 10,000 methods fills neither the memory nor the
// metrics, and methods that are called for the first time after that get their names.
func TestRule5TenThousandUnknownMethods(t *testing.T) {
	const (
		calls = 10_000
		// Kept names alone would be 2.5 MB, and methods with what belongs to them 20 MB.
		maxGrowth = 1 << 20
	)
	for _, test := range []struct {
		name      string
		option    grpc.ServerOption
		code      codes.Code
		maxSeries int
	}{
		{"refused", grpc.EmptyServerOption{}, codes.Unimplemented, 8},
		{"handled", grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errors.NotFound("nothing here") }), codes.NotFound, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, &stub{}, func(h *harness) {
				forgetful(h)
				both(nil, interceptors.WithMessageMetrics(), interceptors.WithMessageEvents())(h)
				h.grpc = append(h.grpc, test.option)
			})
			peer, ctx := h.stranger(), t.Context() // without a deadline, for slow machines
			padding := strings.Repeat("x", 250)
			made := func(i int) error {
				method := fmt.Sprintf("/made.up.Service%d/M%s", i, padding)
				if i%2 == 0 {
					method = fmt.Sprintf("/grpc.testing.TestService/M%d%s", i, padding)
				}
				return gave(test.code, peer.Invoke(ctx, method, &testpb.SimpleRequest{}, &testpb.SimpleResponse{}))
			}
			each(t, 0, 1000, made) // whatever is kept of a few is kept now
			before := heap()
			each(t, 1000, 1000+calls, made)
			if after := heap(); after > before+maxGrowth {
				t.Errorf("the heap grew by %d bytes in %d calls, want at most %d", after-before, calls, maxGrowth)
			}
			for range 2 {
				for _, kind := range kinds {
					if err := h.call(ctx, kind); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.idle()
			for name, n := range h.series() {
				if n > test.maxSeries {
					t.Errorf("%s has %d series after %d unknown methods, want at most %d", name, n, calls, test.maxSeries)
				}
			}
			byMethod := h.counts("rpc.server.call.duration", "rpc.method")
			for _, kind := range kinds {
				want := int64(2)
				if kind == interceptors.BidiStream && test.code == codes.NotFound {
					want = 1 // the first looked as if it was made up
				}
				if got := byMethod[nameOf(kind)]; got != want {
					t.Errorf("%d calls of %s, want %d", got, nameOf(kind), want)
				}
			}
			if got := byMethod["_OTHER"]; got < calls {
				t.Errorf("%d calls of _OTHER, want at least %d", got, calls)
			}
		})
	}
}

// A server that invents reasons and codes fills neither the memory nor the
// metrics of its clients (rule 16 for the codes).
func TestRule16MadeUpReasonsAndCodes(t *testing.T) {
	const (
		calls     = 4000
		maxGrowth = 512 << 10 // the reasons alone would be 1 MB
		maxSeries = 300
	)
	for _, test := range []struct {
		name string
		fail func(i int) *status.Status
	}{
		{"reasons", func(i int) *status.Status {
			st, err := status.New(codes.NotFound, "no").WithDetails(&errdetails.ErrorInfo{Domain: fmt.Sprintf("d%d.example.com", i%7),
				Reason: fmt.Sprintf("R%d_%s", i, strings.Repeat("X", 250))})
			if err != nil {
				t.Error(err)
			}
			return st
		}},
		{"codes", func(i int) *status.Status { return status.New(codes.Code(17+i), "no") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, &stub{unary: func(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				return nil, test.fail(int(in.GetResponseSize())).Err()
			}}, func(h *harness) {
				forgetful(h)
				h.clients = append(h.clients, interceptors.WithAttempts())
			})
			ctx := t.Context() // without a deadline, for slow machines
			call := func(i int) error {
				_, err := h.client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: int32(i)})
				return gave(test.fail(i).Code(), err)
			}
			each(t, 0, 500, call)
			before := heap()
			each(t, 500, 500+calls, call)
			if after := heap(); after > before+maxGrowth {
				t.Errorf("the heap grew by %d bytes in %d calls, want at most %d", after-before, calls, maxGrowth)
			}
			h.idle()
			for name, n := range h.series() {
				if n > maxSeries {
					t.Errorf("%s has %d series after %d calls, want at most %d", name, n, calls, maxSeries)
				}
			}
		})
	}
}

// Rules 19, 20, 22: whatever a stranger's headers say, the call is served and
// observed, and none of it is in a span, a metric or a log.
func TestHostileMetadata(t *testing.T) {
	const evil = "evil"
	long := strings.Repeat(evil, 500)
	valid := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct {
		name string
		md   metadata.MD
		root bool // what there is of a trace is not to be continued
	}{
		{"request id with spaces", metadata.Pairs(propagation.RequestIDHeader, "evil id"), true},
		{"request id of markup", metadata.Pairs(propagation.RequestIDHeader, "<script>evil</script>"), true},
		{"request id too long", metadata.Pairs(propagation.RequestIDHeader, long), true},
		{"request id empty", metadata.Pairs(propagation.RequestIDHeader, ""), true},
		{"two request ids", metadata.Pairs(propagation.RequestIDHeader, "evil-1", propagation.RequestIDHeader, "evil-2"), true},
		{"a thousand request ids", metadata.MD{propagation.RequestIDHeader: manyOf("evil", 1000)}, true},
		{"traceparent of rubbish", metadata.Pairs("traceparent", evil), true},
		{"traceparent too long", metadata.Pairs("traceparent", valid+long), true},
		{"traceparent of zeros", metadata.Pairs("traceparent", "00-00000000000000000000000000000000-0000000000000000-01"), true},
		{"two traceparents", metadata.Pairs("traceparent", valid, "traceparent", "evil"), false},
		{"tracestate of rubbish", metadata.Pairs("traceparent", valid, "tracestate", "evil=,,,=;"+long), false},
		{"identity", metadata.Pairs("baggage", "user.id=evil,tenant.id=evil,session.id=evil"), true},
		{"baggage that does not parse", metadata.Pairs("baggage", "evil,,=;;%zz"), true},
		{"baggage that breaks lines", metadata.Pairs("baggage", "user.id=evil%0A%0Devil"), true},
		{"baggage beyond all limits", metadata.MD{"baggage": manyOf("k=evil", 1000)}, true},
		{"attempts", metadata.Pairs("grpc-previous-rpc-attempts", "-1"), true},
		{"attempts of rubbish", metadata.Pairs("grpc-previous-rpc-attempts", evil), true},
		{"attempts beyond counting", metadata.Pairs("grpc-previous-rpc-attempts", strings.Repeat("9", 100)), true},
		{"authorization", metadata.Pairs("authorization", "Bearer evil", "cookie", "evil=evil"), true},
		{"http bridge", metadata.Pairs("grpc-metadata-x-request-id", evil, "grpcgateway-user-id", evil), true},
	} {
		for _, kind := range []interceptors.Kind{interceptors.Unary, interceptors.BidiStream} {
			t.Run(test.name+"/"+kind.String(), func(t *testing.T) {
				h := start(t, &stub{}, both(nil, interceptors.WithMessageMetrics(), interceptors.WithMessageEvents()))
				conn := h.stranger()
				h.client = testpb.NewTestServiceClient(conn)
				if err := h.call(metadata.NewOutgoingContext(h.ctx(), test.md), kind); err != nil {
					t.Fatal(err)
				}
				h.idle()
				span := h.ended(1)[0]
				got := attrs(span.Attributes())
				if id, _ := got["request.id"].(string); !propagation.ValidRequestID(id) {
					t.Errorf("request.id is %q, want a valid one", id)
				}
				if _, ok := got["previous-rpc-attempts"]; ok {
					t.Errorf("previous-rpc-attempts is %v, want none", got["previous-rpc-attempts"])
				}
				if test.root == span.Parent().IsValid() {
					t.Errorf("the span's parent is %v", span.Parent())
				}
				for _, kv := range append(span.Attributes(), eventAttributes(span)...) {
					if strings.Contains(fmt.Sprint(kv), evil) {
						t.Errorf("the span has %v", kv)
					}
				}
				if logged := h.logs.String(); strings.Contains(logged, evil) || len(recordsOf(t, h, "server call")) != 1 {
					t.Errorf("logged: %s", logged)
				}
				rm := h.rec.Collect()
				if text := fmt.Sprintf("%+v", rm); strings.Contains(text, evil) {
					t.Errorf("recorded: %s", text)
				}
				if diff := h.counts("rpc.server.call.duration", "rpc.response.status_code"); diff["OK"] != 1 {
					t.Errorf("calls by code: %v, want one OK", diff)
				}
			})
		}
	}
}

func manyOf(value string, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("%s%d", value, i)
	}
	return values
}

func eventAttributes(span sdktrace.ReadOnlySpan) (all []attribute.KeyValue) {
	for _, e := range span.Events() {
		all = append(all, e.Attributes...)
	}
	return all
}
