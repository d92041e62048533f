package telemetry_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

type emptyService struct {
	testgrpc.UnimplementedTestServiceServer
}

func (emptyService) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

// p99 returns the 99th percentile of the time of calls whose telemetry goes to c.
func p99(t *testing.T, c *telemetrytest.Collector, calls int) time.Duration {
	t.Helper()
	tel := setup(t, map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BLRP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "50"},
		telemetry.WithEndpoint(c.Endpoint()))
	opts := []interceptors.Option{
		interceptors.WithTracerProvider(tel.TracerProvider()), interceptors.WithMeterProvider(tel.MeterProvider()),
		interceptors.WithPropagator(tel.Propagator()), interceptors.WithLogger(slog.New(tel.SlogHandler(nil))),
	}
	var serverOpts []interceptors.ServerOption
	var clientOpts []interceptors.ClientOption
	for _, o := range opts {
		serverOpts, clientOpts = append(serverOpts, o), append(clientOpts, o)
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(interceptors.ServerOptions(serverOpts...)...)
	testgrpc.RegisterTestServiceServer(server, emptyService{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///x", append(interceptors.DialOptions(clientOpts...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	client := testgrpc.NewTestServiceClient(conn)
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		if _, err := client.EmptyCall(t.Context(), &testgrpc.Empty{}); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	_ = conn.Close()
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = tel.Shutdown(ctx)
	slices.Sort(took)
	return took[calls*99/100]
}

// A collector in trouble does not slow RPCs: their 99th percentile is within
// twice that beside a healthy one, in the same run.
func TestRPCsDoNotWait(t *testing.T) { // rule 33
	const calls = 1000
	p99(t, telemetrytest.NewCollector(t, telemetrytest.OK), calls/4) // warm up
	healthy := p99(t, telemetrytest.NewCollector(t, telemetrytest.OK), calls)
	for _, mode := range []telemetrytest.Mode{telemetrytest.Refuse, telemetrytest.Blackhole, telemetrytest.Stall, telemetrytest.Unavailable} {
		got := p99(t, telemetrytest.NewCollector(t, mode), calls)
		t.Logf("p99 beside a collector in mode %s: %s; healthy: %s", mode, got, healthy)
		// The millisecond is for machines with other work to do; an RPC that
		// waited for an export would take 50 of them and more.
		if got > 2*healthy+time.Millisecond {
			t.Errorf("mode %s: p99 is %s, beside a healthy collector %s", mode, got, healthy)
		}
	}
}
