package telemetry_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rpcscope/rpcscope/telemetry"
)

// backEnd is an OTLP/gRPC back end within a synctest bubble, where time is
// synthetic and sockets are not allowed.
type backEnd struct {
	listener *bufconn.Listener
	down     atomic.Bool // connections are refused, and those there are answer UNAVAILABLE

	hold chan struct{} // requests wait until it is closed, if it is not nil

	mu      sync.Mutex
	refused map[string]bool // signals that are UNIMPLEMENTED
	asked   map[string]int  // requests by signal
}

func newBackEnd(t *testing.T) *backEnd {
	b := &backEnd{listener: bufconn.Listen(1 << 20), refused: map[string]bool{}, asked: map[string]int{}}
	server := grpc.NewServer(grpc.UnknownServiceHandler(b.export))
	served := make(chan error, 1)
	go func() { served <- server.Serve(b.listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *backEnd) export(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	if b.hold != nil {
		select {
		case <-b.hold:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	method, _ := grpc.MethodFromServerStream(stream)
	for _, signal := range []string{"trace", "metrics", "logs"} {
		if strings.Contains(method, "."+signal+".") {
			if err := b.ask(signal); err != nil {
				return err
			}
		}
	}
	return stream.SendMsg(&emptypb.Empty{})
}

func (b *backEnd) ask(signal string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[signal]++
	switch {
	case b.down.Load():
		return status.Error(codes.Unavailable, "going down")
	case b.refused[signal]:
		return status.Error(codes.Unimplemented, "unknown service")
	}
	return nil
}

func (b *backEnd) refuse(refused bool, signals ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range signals {
		b.refused[s] = refused
	}
}

func (b *backEnd) requests(signal string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[signal]
}

func (b *backEnd) dial() telemetry.Option {
	names := manual.NewBuilderWithScheme("dns") // in place of look-ups, which no bubble can hold
	names.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: "back end"}}})
	return telemetry.WithGRPCDialOptions(grpc.WithResolvers(names), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		if b.down.Load() {
			return nil, syscall.ECONNREFUSED
		}
		return b.listener.DialContext(ctx)
	}))
}

// timedLog remembers when, from its start, each line of diagnostics was written.
type timedLog struct {
	telemetry.DiagLog
	start time.Time

	mu sync.Mutex
	at []time.Duration
}

func (l *timedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.at = append(l.at, time.Since(l.start))
	l.mu.Unlock()
	return l.DiagLog.Write(p)
}

func (l *timedLog) option() telemetry.Option {
	return telemetry.WithDiagnostics(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// times returns when each line was written that contains text.
func (l *timedLog) times(text string) (at []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, line := range l.Lines("") {
		if strings.Contains(line, text) {
			at = append(at, l.at[i])
		}
	}
	return at
}

// pass lets d go by, with a span, a measurement and a log record each second.
func pass(t *testing.T, tel *telemetry.Telemetry, d time.Duration) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		emit(t, tel)
	}
}

// A configured collector that nobody listens on: one WARN at once, then after
// 1, 5, 15 minutes and every 15 with counts, for all signals together; one line
// when it is back.
func TestDiagnosticsOfConfiguredEndpoint(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		b, log := newBackEnd(t), &timedLog{start: time.Now()}
		b.down.Store(true)
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, b.dial(), log.option())
		pass(t, tel, 46*time.Minute)
		at := log.times("level=WARN msg=\"cannot deliver telemetry to http://127.0.0.1:4317\"")
		want := []time.Duration{0, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, 45 * time.Minute}
		if len(at) != len(want) {
			t.Fatalf("warned at %s:\n%s", at, log)
		}
		for i := range want { // an attempt takes its time to fail
			if late := at[i] - at[0] - want[i]; late < 0 || late > 10*time.Second {
				t.Errorf("warned %s after the first time, want %s", at[i]-at[0], want[i])
			}
		}
		if at[0] > 2*time.Second { // of the first batch, which is one of log records
			t.Errorf("warned after %s for the first time", at[0])
		}
		for i, line := range log.Lines("level=WARN")[1:] {
			if !strings.Contains(line, " lost.traces=") || !strings.Contains(line, " lost.metrics=") && i > 1 || !strings.Contains(line, " lost.logs=") {
				t.Errorf("no counts in %s", line)
			}
		}
		b.down.Store(false)
		pass(t, tel, time.Minute)
		back := log.times("level=INFO msg=\"telemetry is delivered again to http://127.0.0.1:4317\" after=4")
		if len(back) != 1 || back[0] < 46*time.Minute || back[0] > 46*time.Minute+20*time.Second {
			t.Errorf("recovery was reported at %s", back)
		}
		if n := len(log.Lines("")); n != len(want)+1 {
			t.Errorf("reported:\n%s", log)
		}
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The default endpoint, where nobody listens for an hour: one INFO line; then
// somebody does, and one line says so.
func TestDiagnosticsOfDefaultEndpoint(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		b, log := newBackEnd(t), &timedLog{start: time.Now()}
		b.down.Store(true)
		tel := setup(t, nil, b.dial(), log.option())
		pass(t, tel, time.Hour)
		if got := log.Lines(""); len(got) != 1 || !strings.Contains(got[0], `level=INFO msg="no collector at http://localhost:4317, the default;`) {
			t.Errorf("reported %q", got)
		}
		b.down.Store(false)
		pass(t, tel, time.Minute)
		if got := log.Lines(""); len(got) != 2 || !strings.Contains(got[1], `level=INFO msg="telemetry is delivered again to http://localhost:4317"`) {
			t.Errorf("reported %q", got)
		}
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A default endpoint that one signal names is a configured one.
func TestDefaultEndpointNamedByOneSignal(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		b, log := newBackEnd(t), &timedLog{start: time.Now()}
		b.down.Store(true)
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://localhost:4317"}, b.dial(), log.option())
		pass(t, tel, 30*time.Second)
		if got := log.Lines(""); len(got) != 1 || !strings.Contains(got[0], "level=WARN") {
			t.Errorf("reported %q", got)
		}
	})
}

// A back end that takes traces only: one warning for each other signal, which
// is then tried again every 5 minutes; one line for each when it is taken.
func TestDiagnosticsOfTracesOnly(t *testing.T) { // rule 33
	synctest.Test(t, func(t *testing.T) {
		b, log := newBackEnd(t), &timedLog{start: time.Now()}
		b.refuse(true, "metrics", "logs")
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, b.dial(), log.option())
		pass(t, tel, 12*time.Minute)
		for _, signal := range []string{"metrics", "logs"} {
			if n := b.requests(signal); n != 3 {
				t.Errorf("%s were tried %d times in 12 minutes, want 3", signal, n)
			}
			if got := log.Lines("level=WARN msg=\"http://127.0.0.1:4317 does not take " + signal); len(got) != 1 {
				t.Errorf("%s: warned %d times", signal, len(got))
			}
		}
		if st := tel.Stats(); len(log.Lines("")) != 2 || st.Traces.Exported < 700 || st.Traces.Failed != 0 {
			t.Errorf("stats are %+v; reported:\n%s", st, log)
		}
		b.refuse(false, "metrics", "logs")
		pass(t, tel, 6*time.Minute)
		if got := log.Lines("level=INFO"); len(got) != 2 || len(log.Lines("takes metrics now"))+len(log.Lines("takes logs now")) != 2 || len(log.Lines("")) != 4 {
			t.Errorf("reported:\n%s", log)
		}
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A collector that is up for a minute and down for the next, for two hours:
// what is said becomes rare, and everything is counted.
func TestFlappingForHours(t *testing.T) { // rules 33, 34
	synctest.Test(t, func(t *testing.T) {
		b, log := newBackEnd(t), &timedLog{start: time.Now()}
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, b.dial(), log.option())
		const hours = 2
		for range hours * 30 {
			b.down.Store(true)
			pass(t, tel, time.Minute)
			b.down.Store(false)
			pass(t, tel, time.Minute)
		}
		warned, again := len(log.times("level=WARN")), len(log.times("delivered again"))
		// The first trouble may last until it is warned of twice: that is for the jitter to say.
		if warned < hours || warned > 3+4*hours || again != warned && again != warned-1 || len(log.Lines("")) != warned+again {
			t.Errorf("%d warnings, %d recoveries in %d hours:\n%s", warned, again, hours, log)
		}
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
		const emitted = hours * 3600
		for name, st := range map[string]telemetry.SignalStats{"traces": tel.Stats().Traces, "logs": tel.Stats().Logs} {
			if st.Exported+st.Failed != emitted || st.Dropped != 0 || st.Queued != 0 || st.Exported < emitted/2 || st.State != telemetry.StateOK {
				t.Errorf("%s: %+v, want %d in all", name, st, emitted)
			}
		}
	})
}

// An export under way when Shutdown begins is not broken off: what it carries
// has been collected, and with delta temporality it would be gone.
func TestShutdownWaitsForMetricsUnderWay(t *testing.T) { // rule 34
	synctest.Test(t, func(t *testing.T) {
		b := newBackEnd(t)
		b.hold = make(chan struct{})
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, b.dial(),
			telemetry.WithMetricInterval(3*time.Second), telemetry.WithoutTraces(), telemetry.WithoutLogs())
		pass(t, tel, 4*time.Second)
		closed := make(chan error, 1)
		go func() { closed <- tel.Close() }()
		synctest.Wait()
		close(b.hold)
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		if st := tel.Stats().Metrics; st.Failed != 0 || b.requests("metrics") != 2 {
			t.Errorf("%d requests; stats are %+v", b.requests("metrics"), st)
		}
	})
}
