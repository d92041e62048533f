package telemetry_test

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// burst ends n spans, with what an RPC's have, and logs n records, from four
// goroutines at once.
func burst(t *testing.T, tel *telemetry.Telemetry, n int) {
	t.Helper()
	tracer := tel.TracerProvider().Tracer("test")
	counter, err := tel.MeterProvider().Meter("test").Int64Counter("things")
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(tel.SlogHandler(nil))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range n / 4 {
				ctx, span := tracer.Start(t.Context(), "users.v1.UserService/GetUser", trace.WithAttributes(
					attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", "users.v1.UserService/GetUser"),
					attribute.String("request.id", fmt.Sprintf("request-%d-%d", g, i))))
				counter.Add(ctx, 1, metric.WithAttributes(attribute.Int("g", g)))
				logger.InfoContext(ctx, "call", "rpc.method", "users.v1.UserService/GetUser", "request", i)
				span.SetAttributes(attribute.String("rpc.response.status_code", "OK"))
				span.End()
			}
		})
	}
	wg.Wait()
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A burst beside a dead collector: memory holds what the queues hold, and no
// more, however long the burst is; nothing waits; everything is counted.
func TestBurstBesideDeadCollector(t *testing.T) { // rule 33
	const (
		spans  = 200_000
		warmUp = 40
		limit  = 16 << 20 // 4 to 7 MB are seen
	)
	for _, mode := range []telemetrytest.Mode{telemetrytest.Refuse, telemetrytest.Stall} {
		t.Run(mode.String(), func(t *testing.T) {
			c := telemetrytest.NewCollector(t, mode)
			tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithShutdownTimeout(100*time.Millisecond))
			burst(t, tel, warmUp) // connections, pools and instruments are there
			before := heap()
			burst(t, tel, spans)
			held := heap() - before
			t.Logf("%d spans and as many log records hold %.1f MB", spans, float64(held)/(1<<20))
			if held > limit {
				t.Errorf("hold %d bytes, want at most %d", held, limit)
			}
			if err := tel.Close(); !errors.Is(err, telemetry.ErrDataLost) {
				t.Errorf("Close: %v, want ErrDataLost", err)
			}
			for name, st := range map[string]telemetry.SignalStats{"traces": tel.Stats().Traces, "logs": tel.Stats().Logs} {
				if st.Dropped+st.Failed != spans+warmUp || st.Dropped < spans/2 || st.Exported != 0 || st.Queued != 0 {
					t.Errorf("%s: %+v, want %d in all", name, st, spans+warmUp)
				}
			}
		})
	}
}

// A burst beside a healthy collector: what it says it has delivered has arrived,
// once each, and the rest was dropped and is counted.
func TestBurstIsCountedExactly(t *testing.T) { // rule 34
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			const spans = 20_000
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			tel := setup(t, nil, telemetry.WithEndpoint(c.Endpoint()), telemetry.WithProtocol(protocol))
			burst(t, tel, spans)
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			st := tel.Stats()
			check := func(name string, got telemetry.SignalStats, received int) {
				if got.Exported != int64(received) || got.Exported+got.Dropped != spans || got.Failed != 0 || got.Queued != 0 || got.Exported == 0 || got.State != telemetry.StateOK || got.LastError != nil {
					t.Errorf("%s: received %d of %d; stats are %+v", name, received, spans, got)
				}
			}
			check("traces", st.Traces, len(c.Spans()))
			check("logs", st.Logs, len(c.Logs()))
			points, counted := 0, int64(0)
			for _, m := range c.Metrics() {
				points += len(m.GetSum().GetDataPoints()) + len(m.GetGauge().GetDataPoints()) + len(m.GetHistogram().GetDataPoints())
				if m.GetName() == "things" {
					for _, p := range m.GetSum().GetDataPoints() {
						counted += p.GetAsInt()
					}
				}
			}
			if st.Metrics.Exported != int64(points) || st.Metrics.Failed != 0 || counted != spans {
				t.Errorf("received %d data points that count %d, want %d; stats are %+v", points, counted, spans, st.Metrics)
			}
		})
	}
}

// A collector that comes and goes: what it says it has delivered has arrived,
// at least once each, and the rest is counted.
func TestFlappingCollector(t *testing.T) { // rules 33, 34
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			var diag telemetry.DiagLog
			tel := setup(t, map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BLRP_SCHEDULE_DELAY": "10", "OTEL_METRIC_EXPORT_INTERVAL": "10"},
				telemetry.WithEndpoint(c.Endpoint()), telemetry.WithProtocol(protocol), telemetry.WithDiagnostics(diag.Handler()))
			emitted := 0
			until := func(what string, cond func(before, now telemetry.SignalStats) bool) {
				before := tel.Stats().Traces
				waitFor(t, what, func() bool {
					emit(t, tel)
					emitted++
					return cond(before, tel.Stats().Traces)
				})
			}
			for range 3 {
				until("delivery", func(before, now telemetry.SignalStats) bool { return now.Exported > before.Exported })
				c.SetMode(telemetrytest.Refuse)
				until("a full queue", func(before, now telemetry.SignalStats) bool { return now.Queued > 100 })
				c.SetMode(telemetrytest.OK)
			}
			until("delivery", func(before, now telemetry.SignalStats) bool { return now.Exported > before.Exported })
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			names := map[string]bool{}
			for _, s := range c.Spans() {
				names[string(s.GetSpanId())] = true
			}
			st := tel.Stats().Traces
			if st.Exported+st.Dropped+st.Failed != int64(emitted) || st.Exported > int64(len(names)) || st.State != telemetry.StateOK {
				t.Errorf("received %d of %d spans; stats are %+v", len(names), emitted, st)
			}
			if n := len(diag.Lines("")); n > 4 {
				t.Errorf("reported:\n%s", &diag)
			}
		})
	}
}
