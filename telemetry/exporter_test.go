package telemetry_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

var protocols = []string{"grpc", "http/protobuf"}

// received says how much of what emit makes has arrived.
func received(c *telemetrytest.Collector) string {
	things := 0
	for _, m := range c.Metrics() {
		if m.GetName() == "things" {
			things++
		}
	}
	return fmt.Sprintf("%d spans, %d metrics, %d logs", len(c.Spans()), things, len(c.Logs()))
}

const all = "1 spans, 1 metrics, 1 logs"

// Nobody says anything: everything goes to localhost:4317, over gRPC, in plaintext.
func TestZeroConfiguration(t *testing.T) { // rules 30, 37
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	var mu sync.Mutex
	var dialed []string
	asked := make(chan struct{}, 100)
	resolver := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		asked <- struct{}{}
		return nil, errors.New("no DNS here")
	}}
	defer func() { net.DefaultResolver = resolver }()
	tel := setup(t, nil, telemetry.WithGRPCDialOptions(grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		mu.Lock()
		dialed = append(dialed, addr)
		mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", c.Addr())
	})))
	h, err := tel.MeterProvider().Meter("test").Float64Histogram("took")
	if err != nil {
		t.Fatal(err)
	}
	h.Record(t.Context(), 1)
	emit(t, tel)
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	if got := received(c); got != all {
		t.Errorf("received %s, want %s", got, all)
	}
	if len(asked) > 0 {
		t.Errorf("DNS was asked: localhost needs none of it")
	}
	for _, addr := range dialed {
		if host, port, _ := net.SplitHostPort(addr); port != "4317" || !net.ParseIP(host).IsLoopback() {
			t.Errorf("dialed %s, want port 4317 of this machine", addr)
		}
	}
	if len(dialed) != 1 {
		t.Errorf("dialed %v, want one connection for all signals", dialed)
	}
	if h := c.Header("traces"); h.Get("Content-Type") != "application/grpc" || !strings.HasPrefix(h.Get("User-Agent"), "rpcscope OTel OTLP Exporter Go/1.") {
		t.Errorf("traces came with the headers %v", h)
	}
	const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	if took := c.WaitForMetric("took").GetHistogram(); took.GetAggregationTemporality() != cumulative || len(took.GetDataPoints()[0].GetExplicitBounds()) == 0 {
		t.Errorf("the histogram is %v, want explicit buckets, cumulative", took)
	}
	if things := c.WaitForMetric("things").GetSum(); things.GetAggregationTemporality() != cumulative {
		t.Errorf("the counter is %v, want it cumulative", things)
	}
	c.WaitForMetric("go.goroutine.count") // runtime metrics are on
}

// tlsCollector serves c behind TLS. It wants a client's certificate if clients is not nil.
func tlsCollector(t *testing.T, c *telemetrytest.Collector, ca *telemetry.Authority, clients *telemetry.Authority) string {
	t.Helper()
	server := httptest.NewUnstartedServer(c)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}}
	if clients != nil {
		server.TLS.ClientCAs, server.TLS.ClientAuth = clients.Pool(), tls.RequireAndVerifyClientCert
	}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// TLS where the endpoint says https, for all signals alike, with certificates
// from files or from WithTLSConfig, of the server alone or of both sides, and
// headers and compression on top.
func TestTLS(t *testing.T) { // rule 30
	dir := t.TempDir()
	ca, stranger := telemetry.NewAuthority(t), telemetry.NewAuthority(t)
	caFile, strangerFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "stranger.pem")
	ca.WriteTo(t, caFile)
	stranger.WriteTo(t, strangerFile)
	cert, key := ca.Issue(t, dir, "client")
	badCert, badKey := stranger.Issue(t, dir, "other")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "OTEL_EXPORTER_OTLP_"
	each := func(name, value string) map[string]string {
		env := map[string]string{}
		for _, signal := range []string{"TRACES_", "METRICS_", "LOGS_"} {
			env[prefix+signal+name] = value
		}
		return env
	}
	merge := func(envs ...map[string]string) map[string]string {
		env := map[string]string{}
		for _, e := range envs {
			maps.Copy(env, e)
		}
		return env
	}
	general := map[string]string{prefix + "CERTIFICATE": caFile}
	client := map[string]string{prefix + "CLIENT_CERTIFICATE": cert, prefix + "CLIENT_KEY": key}
	tests := []struct {
		name   string
		env    map[string]string
		opts   []telemetry.Option
		mutual bool
		fails  string // part of the report; "" when all arrives. A server that refuses a client may not get to say why
	}{
		{name: "authority", env: general},
		{name: "authority of each signal", env: merge(map[string]string{prefix + "CERTIFICATE": strangerFile}, each("CERTIFICATE", caFile))},
		{name: "authority by option", opts: []telemetry.Option{telemetry.WithTLSConfig(&tls.Config{RootCAs: ca.Pool()})}},
		{name: "variable beats option", env: general, opts: []telemetry.Option{telemetry.WithTLSConfig(&tls.Config{RootCAs: stranger.Pool()})}},
		{name: "headers and compression", env: merge(general, map[string]string{prefix + "HEADERS": "x-api-key=k", prefix + "COMPRESSION": "gzip"})},
		{name: "client", env: merge(general, client), mutual: true},
		{name: "client of each signal", env: merge(general, each("CLIENT_CERTIFICATE", cert), each("CLIENT_KEY", key)), mutual: true},
		{name: "client by option", opts: []telemetry.Option{telemetry.WithTLSConfig(&tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}})}, mutual: true},
		{name: "the system's authorities", fails: "certificate signed by unknown authority"},
		{name: "another authority", env: map[string]string{prefix + "CERTIFICATE": strangerFile}, fails: "certificate"},
		{name: "no client", env: general, mutual: true, fails: "cannot deliver"},
		{name: "client of another authority", env: merge(general, map[string]string{prefix + "CLIENT_CERTIFICATE": badCert, prefix + "CLIENT_KEY": badKey}), mutual: true, fails: "cannot deliver"},
	}
	for _, tt := range tests {
		for _, protocol := range protocols {
			t.Run(tt.name+"/"+protocol, func(t *testing.T) {
				c := telemetrytest.NewCollector(t, telemetrytest.OK)
				clients := ca
				if !tt.mutual {
					clients = nil
				}
				var diag telemetry.DiagLog
				tel := setup(t, merge(tt.env, map[string]string{prefix + "ENDPOINT": tlsCollector(t, c, ca, clients), prefix + "PROTOCOL": protocol}),
					append(slices.Clone(tt.opts), telemetry.WithDiagnostics(diag.Handler()), telemetry.WithShutdownTimeout(3*time.Second))...)
				emit(t, tel)
				err := tel.Close()
				if tt.fails != "" {
					if err == nil || len(diag.Lines("cannot deliver")) == 0 || received(c) != "0 spans, 0 metrics, 0 logs" {
						t.Errorf("received %s; error %v; reported:\n%s", received(c), err, &diag)
					} else if !strings.Contains(diag.String(), tt.fails) {
						t.Errorf("want %q in what is reported:\n%s", tt.fails, &diag)
					}
					return
				}
				if got := received(c); err != nil || got != all {
					t.Errorf("received %s, want %s; error %v; reported:\n%s", got, all, err, &diag)
				}
				for _, signal := range []string{"traces", "metrics", "logs"} {
					if want := strings.TrimPrefix(tt.env[prefix+"HEADERS"], "x-api-key="); c.Header(signal).Get("X-Api-Key") != want {
						t.Errorf("%s: headers %v", signal, c.Header(signal))
					}
				}
			})
		}
	}
}

// A signal's own variables hold for it, and for no other.
func TestSignalsGoTheirOwnWays(t *testing.T) { // rule 30
	const prefix = "OTEL_EXPORTER_OTLP_"
	general, own := telemetrytest.NewCollector(t, telemetrytest.OK), telemetrytest.NewCollector(t, telemetrytest.OK)
	tel := setup(t, map[string]string{
		prefix + "ENDPOINT": general.Endpoint(), prefix + "HEADERS": "a=general,b=general", prefix + "PROTOCOL": "http/protobuf", prefix + "COMPRESSION": "gzip",
		prefix + "METRICS_ENDPOINT": own.Endpoint(), prefix + "METRICS_HEADERS": "a=own", prefix + "METRICS_PROTOCOL": "grpc", prefix + "METRICS_COMPRESSION": "none",
	}, telemetry.WithHeaders(map[string]string{"c": "option"}))
	emit(t, tel)
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := received(general)+"; "+received(own), "1 spans, 0 metrics, 1 logs; 0 spans, 1 metrics, 0 logs"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	headers := func(c *telemetrytest.Collector, signal string) string {
		h := c.Header(signal)
		compressed := h.Get("Content-Encoding") + h.Get("Grpc-Encoding")
		return fmt.Sprint(h.Get("Content-Type"), " ", h["A"], h["B"], h["C"], compressed)
	}
	for signal, want := range map[string]string{"traces": "application/x-protobuf [general] [general] [option]gzip", "logs": "application/x-protobuf [general] [general] [option]gzip"} {
		if got := headers(general, signal); got != want {
			t.Errorf("%s: got %s, want %s", signal, got, want)
		}
	}
	if got, want := headers(own, "metrics"), "application/grpc [own] [] [option]"; got != want {
		t.Errorf("metrics: got %s, want %s", got, want)
	}
}

// What is compressed is said to be, over both protocols, for all signals.
func TestCompression(t *testing.T) {
	for _, protocol := range protocols {
		for _, compression := range []string{"", "none", "gzip"} {
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_COMPRESSION": compression})
			emit(t, tel)
			if err := tel.Close(); err != nil {
				t.Fatal(err)
			}
			want := strings.TrimPrefix(compression, "none")
			for _, signal := range []string{"traces", "metrics", "logs"} {
				if got := c.Header(signal).Get("Content-Encoding") + c.Header(signal).Get("Grpc-Encoding"); got != want {
					t.Errorf("%s, %s, %s: encoding is %q, want %q", protocol, compression, signal, got, want)
				}
			}
		}
	}
}

// Where several exporters are named, each has everything; none has nothing.
func TestExportersOfAList(t *testing.T) { // rule 31
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	read := func() string {
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), "OTEL_TRACES_EXPORTER": "otlp,console", "OTEL_METRICS_EXPORTER": " console , prometheus,otlp", "OTEL_LOGS_EXPORTER": "console,otlp",
		"OTEL_EXPORTER_PROMETHEUS_PORT": "0",
	}
	tel := setup(t, env)
	emit(t, tel)
	page := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	if got := received(c); got != all {
		t.Errorf("received %s, want %s", got, all)
	}
	for _, want := range []string{"└─ svc  work  ", "metric things{k=v} 3\n", " INFO done trace_id="} {
		if strings.Count(read(), want) != 1 {
			t.Errorf("want %q once in what is printed:\n%s", want, read())
		}
	}
	if !strings.Contains(page.Body.String(), `things_total{deployment_environment_name`) && !strings.Contains(page.Body.String(), `things_total{k="v"`) {
		t.Errorf("scraped:\n%s", page.Body)
	}

	if err := out.Truncate(0); err != nil {
		t.Fatal(err)
	}
	before := c.Requests()
	for name := range env {
		if strings.HasSuffix(name, "_EXPORTER") {
			env[name] = "none"
		}
	}
	tel = setup(t, env)
	emit(t, tel)
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Trim(read(), "\x00"); got != "" || c.Requests() != before {
		t.Errorf("none: %d requests; printed:\n%s", c.Requests()-before, got)
	}
	want := telemetry.Stats{Traces: telemetry.SignalStats{State: "off"}, Metrics: telemetry.SignalStats{State: "off"}, Logs: telemetry.SignalStats{State: "off"}}
	if diff := cmp.Diff(want, tel.Stats()); diff != "" {
		t.Errorf("none: stats, -want +got:\n%s", diff)
	}
}

// The process's environment is read here, once: what WithLookupEnv does not
// show reaches neither the exporters nor the SDK.
func TestExportersDoNotReadTheEnvironment(t *testing.T) { // rule 30
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://192.0.2.1:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://192.0.2.1:2/x", "OTEL_EXPORTER_OTLP_HEADERS": "leaked=1", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "leaked=2",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such", "OTEL_EXPORTER_OTLP_INSECURE": "false",
		"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta", "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
		"OTEL_TRACES_SAMPLER": "always_off", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "0", "OTEL_BSP_MAX_QUEUE_SIZE": "1",
		"OTEL_METRICS_EXEMPLAR_FILTER": "always_off", "OTEL_SDK_DISABLED": "true", "OTEL_METRIC_EXPORT_TIMEOUT": "1", "OTEL_BLRP_EXPORT_TIMEOUT": "1",
	} {
		t.Setenv(name, value)
	}
	for _, protocol := range protocols {
		c := telemetrytest.NewCollector(t, telemetrytest.OK)
		tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
		h, err := tel.MeterProvider().Meter("test").Float64Histogram("took")
		if err != nil {
			t.Fatal(err)
		}
		h.Record(t.Context(), 1)
		emit(t, tel)
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
		if got := received(c); got != all {
			t.Fatalf("%s: received %s, want %s", protocol, got, all)
		}
		for _, signal := range []string{"traces", "metrics", "logs"} {
			if h := c.Header(signal); h.Get("Leaked") != "" || h.Get("Content-Encoding")+h.Get("Grpc-Encoding") != "" {
				t.Errorf("%s, %s: headers are %v", protocol, signal, h)
			}
		}
		sum := c.WaitForMetric("things").GetSum()
		if sum.GetAggregationTemporality() != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE || len(sum.GetDataPoints()[0].GetExemplars()) != 1 {
			t.Errorf("%s: the counter is %v, want it cumulative, with an exemplar", protocol, sum)
		}
		if c.WaitForMetric("took").GetHistogram() == nil {
			t.Errorf("%s: the histogram has no explicit buckets", protocol)
		}
	}
}

// A collector beside the service, on a socket.
func TestSocket(t *testing.T) { // rule 30
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	path := filepath.Join(t.TempDir(), "otel.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tel := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "unix://" + path})
	emit(t, tel)
	if err := tel.Close(); err != nil {
		t.Error(err)
	}
	if got := received(c); got != all {
		t.Errorf("received %s, want %s", got, all)
	}
	_ = server.Close()
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
