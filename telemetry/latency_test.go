package telemetry_test

import (
	"context"
	"log/slog"
	"math"
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

// p99 returns the 99th percentile of the time of calls whose telemetry, all
// three signals of both sides, goes to c. Its queues are small, so that most of
// the calls find them full when nobody takes what is in them.
func p99(t *testing.T, c *telemetrytest.Collector, calls int) time.Duration {
	t.Helper()
	tel := setup(t, map[string]string{
		"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BSP_MAX_QUEUE_SIZE": "128", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
		"OTEL_BLRP_SCHEDULE_DELAY": "20", "OTEL_BLRP_MAX_QUEUE_SIZE": "128", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "64",
		"OTEL_METRIC_EXPORT_INTERVAL": "20",
	}, telemetry.WithEndpoint(c.Endpoint()))
	client, stop := observedService(t, tel)
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		if _, err := client.EmptyCall(t.Context(), &testgrpc.Empty{}); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = tel.Shutdown(ctx)
	slices.Sort(took)
	return took[calls*99/100]
}

// observedService serves over a pipe; tel observes both sides, access logs of
// all calls included.
func observedService(t *testing.T, tel *telemetry.Telemetry) (client testgrpc.TestServiceClient, stop func()) {
	t.Helper()
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
	return testgrpc.NewTestServiceClient(conn), func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// A collector in trouble does not slow RPCs: their 99th percentile is within
// twice that beside a healthy one, in the same run.
//
// What else the machine does only ever adds to a figure. So the two take turns,
// and the lowest of each count; a queue that blocks or an exporter that keeps a
// processor busy shows in every turn.
func TestRPCsDoNotWait(t *testing.T) { // rule 33
	const calls, least, most = 500, 3, 10
	p99(t, telemetrytest.NewCollector(t, telemetrytest.OK), calls) // warm up
	for _, mode := range []telemetrytest.Mode{telemetrytest.Refuse, telemetrytest.Blackhole, telemetrytest.Stall, telemetrytest.Unavailable} {
		t.Run(mode.String(), func(t *testing.T) {
			healthy, troubled := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			turns := 0
			for turns < least || troubled > 2*healthy && turns < most {
				turns++
				healthy = min(healthy, p99(t, telemetrytest.NewCollector(t, telemetrytest.OK), calls))
				troubled = min(troubled, p99(t, telemetrytest.NewCollector(t, mode), calls))
			}
			t.Logf("p99 is %s, beside a healthy collector %s, in %d turns", troubled, healthy, turns)
			if troubled > 2*healthy {
				t.Errorf("p99 is %s, beside a healthy collector %s", troubled, healthy)
			}
		})
	}
}
