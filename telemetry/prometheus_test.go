package telemetry

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const openMetrics = "application/openmetrics-text; version=1.0.0"

func scrape(t *testing.T, h http.Handler, accept string) string {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// measure records one call in a histogram and a counter, within a trace.
func measure(t *testing.T, tel *Telemetry) {
	t.Helper()
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0: 1, 15: 2}, SpanID: trace.SpanID{0: 3, 7: 4}, TraceFlags: trace.FlagsSampled,
	}))
	meter := tel.MeterProvider().Meter("scope", metric.WithInstrumentationVersion("v9"))
	h, err := meter.Float64Histogram("rpc.server.call.duration", metric.WithUnit("s"), metric.WithDescription("Time of a call."), metric.WithExplicitBucketBoundaries(0.25, 1))
	if err != nil {
		t.Fatal(err)
	}
	h.Record(ctx, 0.5, metric.WithAttributes(attribute.String("rpc.method", "a.B/C")))
	c, err := meter.Int64Counter("rpcscope.server.panics", metric.WithUnit("{panic}"))
	if err != nil {
		t.Fatal(err)
	}
	c.Add(ctx, 2)
}

// Names with underscores and suffixes, exemplars, no scope labels, the
// service's labels on every series; explicit buckets even where OTLP has
// exponential ones.
func TestPrometheusGolden(t *testing.T) { // rule 37
	tel, err := Setup(t.Context(), WithoutGlobals(), WithRuntimeMetrics(false), WithPrometheus(""), WithExponentialHistograms(), WithSampler(sdktrace.AlwaysSample()),
		quiet(Env{"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop"}).Option(), WithServiceName("users"), WithEnvironment("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	measure(t, tel)
	var lines []string
	swapped := regexp.MustCompile(`\{(span_id="\w+"),(trace_id="\w+")\}`)
	times := regexp.MustCompile(` [0-9.e+]+$`)
	for line := range strings.Lines(scrape(t, tel.MetricsHandler(), openMetrics)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.Contains(line, "target_info"):
			continue // host, process: different on each machine
		case strings.Contains(line, " # {"):
			line = times.ReplaceAllString(line, " <time>")
			line = swapped.ReplaceAllString(line, "{$2,$1}") // in any order
		case strings.Contains(line, "_created"):
			continue
		}
		lines = append(lines, line)
	}
	golden(t, "prometheus.txt", []byte(strings.Join(lines, "\n")+"\n"))
}

func TestPrometheusListener(t *testing.T) { // rules 31, 37
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	tel, err := Setup(t.Context(), WithoutGlobals(), Env{
		"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "prometheus",
		"OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": port,
	}.Option())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || !strings.Contains(string(body), "go_goroutine_count") {
		t.Errorf("scraped (error %v):\n%s", err, body)
	}
	if err := tel.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		t.Error("the port is still open after Close")
	}
}

// An occupied port is an error that names itself; the handler still serves.
func TestPrometheusPortTaken(t *testing.T) { // rule 32
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	tel, err := Setup(t.Context(), WithoutGlobals(), quiet(nil).Option(), WithPrometheus(addr))
	if err == nil {
		t.Fatal("no error")
	}
	defer tel.Close()
	ce, ok := errors.AsType[*ConfigError](err)
	if !ok || ce.Source != "WithPrometheus" || ce.Value != addr || !strings.Contains(ce.Reason, "address already in use") {
		t.Errorf("got error %v", err)
	}
	measure(t, tel)
	if text := scrape(t, tel.MetricsHandler(), ""); !strings.Contains(text, "rpc_server_call_duration_seconds_count") {
		t.Errorf("scraped:\n%s", text)
	}
}

func TestMetricsHandlerWhenOff(t *testing.T) {
	tel, err := Setup(t.Context(), WithoutGlobals(), quiet(nil).Option())
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "telemetry.WithPrometheus") {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}
