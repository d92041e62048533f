package interceptors_test

import (
	"context"
	"net"
	"runtime"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// Two servers of one process record with one meter provider: what they have
// under way is added up, and so it is when one of them is stopped.
func TestActiveCallsOfSeveralEngines(t *testing.T) {
	rec := telemetrytest.New(t)
	provider := rec.Telemetry().MeterProvider()
	sharing := func(h *harness) {
		h.servers = append(h.servers, interceptors.WithMeterProvider(provider))
		h.clients = append(h.clients, interceptors.WithMeterProvider(provider))
	}
	release := make(chan struct{})
	blocking := func() (*stub, chan struct{}) {
		entered := make(chan struct{})
		return &stub{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			entered <- struct{}{}
			<-release
			return &testpb.SimpleResponse{}, nil
		}}, entered
	}
	done := make(chan error)
	for range 2 {
		s, entered := blocking()
		h := start(t, s, sharing)
		for range 3 {
			go func() {
				_, err := h.client.UnaryCall(context.Background(), &testpb.SimpleRequest{})
				done <- err
			}()
			<-entered
		}
	}
	for _, side := range []string{"server", "client"} {
		if got := activeCalls(t, rec, side); got != 6 {
			t.Errorf("6 calls are under way, rpcscope.%s.active_calls is %d", side, got)
		}
	}
	close(release)
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, side := range []string{"server", "client"} {
		for activeCalls(t, rec, side) != 0 { // a server's call ends after its answer
			runtime.Gosched()
		}
	}
}

// A client that dials, calls and closes again and again must not gather what
// observed the connections it has no more.
func TestActiveCallsForgetsClosedConnections(t *testing.T) {
	rec := telemetrytest.New(t)
	provider := rec.Telemetry().MeterProvider()
	h := start(t, &stub{}, nil)
	func() {
		conn, err := grpc.NewClient("passthrough:///closed", append(interceptors.DialOptions(interceptors.WithMeterProvider(provider)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listen.DialContext(ctx) }), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := testpb.NewTestServiceClient(conn).UnaryCall(h.ctx(), &testpb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, points := active(t, rec, "client"); points != 1 {
			t.Fatalf("an open connection has %d series, want one", points)
		}
	}()
	h.eventually("the engine of the closed connection to be forgotten", func() bool {
		runtime.GC()
		_, points := active(t, rec, "client")
		return points == 0
	})
}

func activeCalls(t *testing.T, rec *telemetrytest.Recorder, side string) int64 {
	t.Helper()
	sum, _ := active(t, rec, side)
	return sum
}

// active is the sum of all points of active_calls of a side, and how many.
func active(t *testing.T, rec *telemetrytest.Recorder, side string) (sum int64, points int) {
	t.Helper()
	seen := map[attribute.Distinct]bool{}
	for _, scope := range rec.Collect().ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "rpcscope."+side+".active_calls" {
				continue
			}
			data, ok := m.Data.(metricdata.Sum[int64])
			if !ok || data.IsMonotonic {
				t.Fatalf("%s is %T, want a sum that goes up and down", m.Name, m.Data)
			}
			for _, p := range data.DataPoints {
				if seen[p.Attributes.Equivalent()] {
					t.Errorf("%s has two points with attributes %v", m.Name, p.Attributes.ToSlice())
				}
				seen[p.Attributes.Equivalent()] = true
				sum, points = sum+p.Value, points+1
			}
		}
	}
	return sum, points
}
