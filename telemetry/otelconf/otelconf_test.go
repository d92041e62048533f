package otelconf_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/otelconf"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

const secret = "hunter2-s3cr3t"

// setup is what a user does, with an environment of its own.
func setup(t *testing.T, file string, env map[string]string, opts ...telemetry.Option) (*telemetry.Telemetry, *bytes.Buffer, error) {
	t.Helper()
	var diag bytes.Buffer
	tel, err := telemetry.Setup(t.Context(), append([]telemetry.Option{
		telemetry.WithoutGlobals(),
		telemetry.WithRuntimeMetrics(false),
		telemetry.WithDiagnostics(slog.NewTextHandler(&diag, nil)),
		telemetry.WithLookupEnv(func(name string) (string, bool) {
			if name == "OTEL_CONFIG_FILE" {
				return file, true
			}
			v, ok := env[name]
			return v, ok
		}),
		otelconf.FromEnvironment(),
	}, opts...)...)
	t.Cleanup(func() { _ = tel.Close() })
	return tel, &diag, err
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "otel.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// All signals arrive, with what the file says and its variables; what else
// the environment says, and options, stay behind.
func TestDelivers(t *testing.T) {
	collector := telemetrytest.NewCollector(t, telemetrytest.OK)
	name := write(t, `
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: ${SERVICE:-users}
    - name: replicas
      value: 3
  attributes_list: ${OTEL_RESOURCE_ATTRIBUTES}
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_grpc:
            endpoint: ${COLLECTOR}
            compression: gzip
            headers:
              - name: Api-Key
                value: ${API_KEY}
            headers_list: "api-key=lost,team=a%20b"
meter_provider:
  readers:
    - periodic:
        exporter:
          otlp_http:
            endpoint: ${COLLECTOR}/v1/metrics
            temporality_preference: delta
logger_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: ${COLLECTOR}/v1/logs
  limits:
    attribute_value_length_limit: 4
`)
	tel, diag, err := setup(t, name, map[string]string{
		"COLLECTOR": collector.Endpoint(), "API_KEY": secret + ", a b", "OTEL_RESOURCE_ATTRIBUTES": "team=core",
		"OTEL_SERVICE_NAME": "ignored", "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://nowhere:1",
	}, telemetry.WithServiceName("option"))
	if err != nil || len(tel.Warnings()) > 0 {
		t.Fatalf("error is %v, warnings are %v", err, tel.Warnings())
	}
	ctx := propagation.ContextWithRequestID(t.Context(), "r-1")
	ctx, span := tel.TracerProvider().Tracer("t").Start(ctx, "GetUser")
	counter, err := tel.MeterProvider().Meter("t").Int64Counter("calls")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 1)
	slog.New(tel.SlogHandler(nil)).InfoContext(ctx, "hello", "text", "too long")
	span.End()
	if err := tel.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := collector.WaitForSpan("GetUser")
	if got.Service() != "users" {
		t.Errorf("service is %q", got.Service())
	}
	attrs := got.Resource.GetAttributes()
	if telemetrytest.Attr(attrs, "replicas") != "3" || telemetrytest.Attr(attrs, "team") != "core" || telemetrytest.Attr(attrs, "host.name") == "" {
		t.Errorf("resource is %v", attrs)
	}
	if h := collector.Header("traces"); h.Get("Api-Key") != secret+", a b" || h.Get("Team") != "a b" || h.Get("Grpc-Encoding") != "gzip" {
		t.Errorf("headers are %v", h)
	}
	if temporality := collector.WaitForMetric("calls").GetSum().GetAggregationTemporality().String(); temporality != "AGGREGATION_TEMPORALITY_DELTA" {
		t.Errorf("temporality is %s", temporality)
	}
	log := collector.WaitForLog("hello")
	if text := telemetrytest.Attr(log.GetAttributes(), "text"); text != "too " {
		t.Errorf("attribute text is %q, want 4 bytes of it", text)
	}
	if id := telemetrytest.Attr(log.GetAttributes(), "request_id"); id == "" {
		t.Errorf("the log record has no request id: %v", log.GetAttributes())
	}
	if h := collector.Header("logs"); h.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("logs came as %v", h)
	}
	stats := tel.Stats()
	if stats.Traces.Exported != 1 || stats.Metrics.Exported < 1 || stats.Logs.Exported != 1 {
		t.Errorf("stats are %+v", stats)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for what, text := range map[string]string{"config": tel.Config().String(), "diagnostics": diag.String()} {
		if strings.Contains(text, secret) {
			t.Errorf("%s has the secret:\n%s", what, text)
		}
	}
	for _, want := range []telemetry.Setting{
		{Name: "config_file", Value: name, Source: "OTEL_CONFIG_FILE"},
		{Name: "service.name", Value: "users", Source: name + ": resource.attributes[0]"},
		{Name: "traces.endpoint", Value: collector.Endpoint(), Source: name + ": tracer_provider.processors[0].batch.exporter.otlp_grpc.endpoint"},
		{Name: "traces.protocol", Value: "grpc", Source: name + ": tracer_provider.processors[0].batch.exporter.otlp_grpc"},
		{Name: "traces.headers", Value: "api-key=[redacted],team=[redacted]", Source: name + ": tracer_provider.processors[0].batch.exporter.otlp_grpc.headers"},
		{Name: "metrics.temporality", Value: "delta", Source: name + ": meter_provider.readers[0].periodic.exporter.otlp_http.temporality_preference"},
	} {
		if got, _ := tel.Config().Get(want.Name); got != want {
			t.Errorf("setting is\n%v, want\n%v", got, want)
		}
	}
}

// Two back ends for one signal: each has its own settings, and one that is
// dead does not keep the other from its spans.
func TestSeveralExporters(t *testing.T) { // rule 33
	one, two, dead := telemetrytest.NewCollector(t, telemetrytest.OK), telemetrytest.NewCollector(t, telemetrytest.OK), telemetrytest.NewCollector(t, telemetrytest.Refuse)
	tel, _, err := setup(t, write(t, fmt.Sprintf(`
file_format: "1.0"
tracer_provider:
  processors:
    - batch: {exporter: {otlp_grpc: {endpoint: "%s", headers: [{name: to, value: one}]}}}
    - batch: {exporter: {otlp_http: {endpoint: "%s/v1/traces", headers: [{name: to, value: two}]}}}
    - simple: {exporter: {otlp_grpc: {endpoint: "%s", timeout: 300}}}
`, one.Endpoint(), two.Endpoint(), dead.Endpoint())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := tel.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), "tracer_provider.processors[2].simple: every call would wait for the network; using batch") {
		t.Errorf("warnings are %v", w)
	}
	start := time.Now()
	_, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "work")
	span.End()
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("a span took %s", took)
	}
	if err := tel.ForceFlush(t.Context()); err == nil {
		t.Error("nothing is said of the dead one")
	}
	for to, c := range map[string]*telemetrytest.Collector{"one": one, "two": two} {
		c.WaitForSpan("work")
		if got := c.Header("traces").Get("To"); got != to {
			t.Errorf("%s has header %q", to, got)
		}
	}
	if stats := tel.Stats(); stats.Traces.Exported != 2 || stats.Traces.Failed != 1 {
		t.Errorf("stats are %+v", stats.Traces)
	}
}

// A mistake stops no service: it is an error of Setup that says what and
// where, and nothing is exported.
func TestMistake(t *testing.T) { // rule 32
	name := write(t, "file_format: \"1.0\"\ntracer_provider:\n  procesors: []\n")
	tel, _, err := setup(t, name, nil)
	want := `OTEL_CONFIG_FILE="` + name + `": line 3: tracer_provider.procesors: no such key, did you mean processors; want limits, processors or sampler; nothing is exported` + "\n" +
		`OTEL_CONFIG_FILE="` + name + `": line 3: tracer_provider.processors: is missing; nothing is exported`
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("error, -want +got:\n%s", diff)
	}
	_, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "works")
	span.End()
	if err := tel.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err = setup(t, filepath.Join(t.TempDir(), "absent.yaml"), nil); err == nil || !strings.Contains(err.Error(), "absent.yaml\": cannot be read: no such file or directory; nothing is exported") {
		t.Errorf("an absent file: %v", err)
	}
}

// Wrong values are treated as those of variables are, and say where they stand.
func TestWrongValues(t *testing.T) {
	name := write(t, `
file_format: "1.0"
propagator: {composite: [{b3: }, {tracecontext: }]}
tracer_provider:
  processors:
    - batch: {schedule_delay: 0, exporter: {otlp_http: {endpoint: "https://c:4318/v1/traces", compression: brotli, encoding: json, tls: {ca_file: /absent.pem}}}}
    - batch: {exporter: {otlp_grpc: {endpoint: "collector:4317"}}}
    - batch: {exporter: {otlp_grpc: {endpoint: "collector:4317", tls: {insecure: true}}}}
    - batch: {exporter: {otlp_grpc: {endpoint: null, headers: [{name: "a b", value: `+secret+`}]}}}
`)
	tel, _, err := setup(t, name, nil)
	for _, want := range []string{
		name + `: tracer_provider.processors[0].batch.exporter.otlp_http.tls.ca_file="/absent.pem": want a readable file of PEM certificates: no such file or directory; not exporting traces`,
		name + `: tracer_provider.processors[1].batch.exporter.otlp_grpc.endpoint="collector:4317": `,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is\n%v\nwant in it:\n%s", err, want)
		}
	}
	warnings := fmt.Sprint(tel.Warnings())
	for _, want := range []string{
		name + `: propagator="b3,tracecontext": want tracecontext, baggage or none`,
		name + `: tracer_provider.processors[0].batch.schedule_delay="0": want a whole number of milliseconds > 0; using 5s`,
		name + `: tracer_provider.processors[0].batch.exporter.otlp_http.compression="brotli": want gzip or none; using none`,
		name + `: tracer_provider.processors[0].batch.exporter.otlp_http="http/json": want grpc or http/protobuf; using http/protobuf`,
		name + `: tracer_provider.processors[3].batch.exporter.otlp_grpc.headers: want key=value`,
	} {
		if !strings.Contains(warnings, want) {
			t.Errorf("warnings are\n%s\nwant in them:\n%s", warnings, want)
		}
	}
	if strings.Contains(warnings+err.Error(), secret) {
		t.Error("a secret is shown")
	}
	for setting, want := range map[string]string{"traces[2].endpoint": "http://collector:4317", "traces[3].endpoint": "http://localhost:4317", "propagators": "tracecontext", "traces.exporters": "otlp,otlp,otlp,otlp"} {
		if got, _ := tel.Config().Get(setting); got.Value != want {
			t.Errorf("%s is %v, want %s", setting, got, want)
		}
	}
}

// disabled turns all off but propagation.
func TestDisabled(t *testing.T) {
	tel, _, err := setup(t, write(t, "file_format: \"1.0\"\ndisabled: true\ntracer_provider: {processors: [{batch: {exporter: {otlp_grpc: {endpoint: }}}}]}\n"), nil)
	if err != nil || tel.Stats().Traces.State != telemetry.StateOff {
		t.Errorf("error is %v, stats are %+v", err, tel.Stats())
	}
}

// The samplers of a file sample as they say.
func TestSamplers(t *testing.T) {
	for _, tt := range []struct{ yaml, want string }{
		{"{always_on: }", "AlwaysOnSampler"},
		{"{always_off: {}}", "AlwaysOffSampler"},
		{"{trace_id_ratio_based: {ratio: 0.25}}", "TraceIDRatioBased{0.25}"},
		{"{trace_id_ratio_based: }", "AlwaysOnSampler"},
		{"{parent_based: }", "ParentBased{root:AlwaysOnSampler,remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"},
		{"{parent_based: {root: {always_off: }, remote_parent_sampled: {always_off: }, remote_parent_not_sampled: {always_on: }, local_parent_sampled: {trace_id_ratio_based: {ratio: 0.5}}, local_parent_not_sampled: {always_on: }}}",
			"ParentBased{root:AlwaysOffSampler,remoteParentSampled:AlwaysOffSampler,remoteParentNotSampled:AlwaysOnSampler,localParentSampled:TraceIDRatioBased{0.5},localParentNotSampled:AlwaysOnSampler}"},
	} {
		name := write(t, "file_format: \"1.0\"\ntracer_provider: {processors: [], sampler: "+tt.yaml+"}\n")
		tel, _, err := setup(t, name, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.yaml, err)
			continue
		}
		want := telemetry.Setting{Name: "traces.sampler", Value: tt.want, Source: name + ": tracer_provider.sampler"}
		if got, _ := tel.Config().Get("traces.sampler"); got != want {
			t.Errorf("%s: setting is\n%v, want\n%v", tt.yaml, got, want)
		}
	}
}

// Views, limits of cardinality and exemplars.
func TestMetrics(t *testing.T) {
	collector := telemetrytest.NewCollector(t, telemetrytest.OK)
	tel, _, err := setup(t, write(t, strings.ReplaceAll(`
file_format: "1.0"
meter_provider:
  readers:
    - periodic:
        exporter: {otlp_grpc: {endpoint: "COLLECTOR"}}
        cardinality_limits: {default: 2000, counter: 3}
    - pull: {exporter: {prometheus/development: {host: 127.0.0.1, port: 0}}}
  exemplar_filter: always_on
  views:
    - selector: {instrument_name: seconds, instrument_type: histogram, unit: s, meter_name: tests}
      stream:
        name: renamed
        description: described
        aggregation: {explicit_bucket_histogram: {boundaries: [1, 2.5], record_min_max: false}}
        attribute_keys: {included: ["keep*"], excluded: [keep.not]}
    - {selector: {instrument_name: exponential}, stream: {aggregation: {base2_exponential_bucket_histogram: {max_scale: -1}}}}
    - {selector: {instrument_name: dropped}, stream: {aggregation: {drop: }}}
    - {selector: {instrument_name: summed}, stream: {aggregation: {sum: }}}
    - {selector: {instrument_name: bucketed}, stream: {aggregation: {explicit_bucket_histogram: }}}
`, "COLLECTOR", collector.Endpoint())), nil)
	if err != nil {
		t.Fatal(err)
	}
	meter := tel.MeterProvider().Meter("tests")
	record := func(name, unit string, attrs ...attribute.KeyValue) {
		t.Helper()
		h, err := meter.Float64Histogram(name, metric.WithUnit(unit))
		if err != nil {
			t.Fatal(err)
		}
		h.Record(t.Context(), 2, metric.WithAttributes(attrs...))
	}
	record("seconds", "s", attribute.String("keep.this", "x"), attribute.String("keep.not", "x"), attribute.String("not", "x"))
	for _, name := range []string{"exponential", "dropped", "summed", "bucketed"} {
		record(name, "")
	}
	calls, err := meter.Int64Counter("calls")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		calls.Add(t.Context(), 1, metric.WithAttributes(attribute.Int("i", i)))
	}
	if err := tel.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := collector.WaitForMetric("renamed").GetHistogram().GetDataPoints()[0]
	if len(p.GetAttributes()) != 1 || telemetrytest.Attr(p.GetAttributes(), "keep.this") != "x" || p.Min != nil || len(p.GetExemplars()) != 1 {
		t.Errorf("renamed has %v", p)
	}
	if diff := cmp.Diff([]float64{1, 2.5}, p.GetExplicitBounds()); diff != "" {
		t.Errorf("bounds, -want +got:\n%s", diff)
	}
	if h := collector.WaitForMetric("exponential").GetExponentialHistogram(); len(h.GetDataPoints()) != 1 || h.GetDataPoints()[0].GetScale() > -1 || h.GetDataPoints()[0].Min == nil {
		t.Errorf("exponential is %v", h)
	}
	if n := len(collector.WaitForMetric("bucketed").GetHistogram().GetDataPoints()[0].GetExplicitBounds()); n != 15 {
		t.Errorf("bucketed has %d bounds, want the default 15", n)
	}
	if s := collector.WaitForMetric("summed").GetSum(); len(s.GetDataPoints()) != 1 {
		t.Errorf("summed is %v", s)
	}
	if n := len(collector.WaitForMetric("calls").GetSum().GetDataPoints()); n != 3 {
		t.Errorf("calls has %d data points, want the limit of 3", n)
	}
	for _, m := range collector.Metrics() {
		if m.GetName() == "dropped" {
			t.Error("dropped was not")
		}
	}
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "calls_total") {
		t.Errorf("scraping gives %d:\n%s", rec.Code, rec.Body)
	}
}

// The resource's attributes are of the types that the file gives them.
func TestResource(t *testing.T) {
	tel, _, err := setup(t, "testdata/full.yaml", map[string]string{"API_KEY": secret})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, kv := range tel.Resource().Attributes() {
		got[string(kv.Key)] = kv.Value.AsInterface()
	}
	for key, want := range map[string]any{
		"service.name": "users", "team": "core", "text": "1", "on": true, "replicas": int64(3), "ratio": 1.0, "guessed": 2.5,
		"zones": []string{"a", "b"}, "bits": []bool{true, false}, "ports": []int64{80, 443}, "quantiles": []float64{0.5, 1},
	} {
		if diff := cmp.Diff(want, got[key]); diff != "" {
			t.Errorf("%s, -want +got:\n%s", key, diff)
		}
	}
	for setting, want := range map[string]string{
		"diagnostics.level": "warn", "traces.attribute_count": "80", "traces.attribute_value_length": "1000", "traces.event_count": "70", "traces.link_count": "60",
		"traces.event_attribute_count": "50", "traces.link_attribute_count": "40", "logs.attribute_count": "80", "logs.attribute_value_length": "1000",
		"traces.queue_size": "1000", "traces.batch_size": "100", "traces.batch_delay": "100ms", "traces.compression": "gzip", "traces[1].compression": "none",
		"metrics.interval": "1m0s", "metrics.temporality": "delta", "metrics[1].temporality": "lowmemory", "metrics.exemplars": "always_on",
		"metrics.histograms": "base2_exponential_bucket_histogram", "metrics[1].histograms": "explicit_bucket_histogram", "logs.batch_delay": "100ms",
	} {
		if got, _ := tel.Config().Get(setting); got.Value != want {
			t.Errorf("%s is %v, want %s", setting, got, want)
		}
	}
}

// A span of the file's provider carries on what the suite's propagator received.
func TestPropagation(t *testing.T) {
	rec := telemetrytest.New(t, otelconf.File(write(t, "file_format: \"1.0\"\ntracer_provider: {processors: []}\n")))
	ctx, span := rec.Telemetry().TracerProvider().Tracer("t").Start(t.Context(), "server", trace.WithSpanKind(trace.SpanKindServer))
	carrier := carrier{}
	rec.Telemetry().Propagator().Inject(ctx, carrier)
	span.End()
	if carrier["traceparent"] == "" {
		t.Errorf("carried is %v", carrier)
	}
	rec.Spans().Named("server").One().Root()
}

type carrier map[string]string

func (c carrier) Get(k string) string { return c[k] }
func (c carrier) Set(k, v string)     { c[k] = v }
func (c carrier) Keys() []string      { return nil }

// Shutdown of a file's exporters keeps its deadline when nothing answers.
func TestShutdown(t *testing.T) { // rule 34
	hole := telemetrytest.NewCollector(t, telemetrytest.Blackhole)
	tel, _, err := setup(t, write(t, strings.ReplaceAll(`
file_format: "1.0"
tracer_provider: {processors: [{batch: {exporter: {otlp_grpc: {endpoint: "HOLE"}}}}, {batch: {exporter: {otlp_http: {endpoint: "HOLE/v1/traces"}}}}]}
meter_provider: {readers: [{periodic: {exporter: {otlp_grpc: {endpoint: "HOLE"}}}}]}
`, "HOLE", hole.Endpoint())), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "lost")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = tel.Shutdown(ctx)
	if took := time.Since(start); took > 800*time.Millisecond {
		t.Errorf("shutdown took %s", took)
	}
	if err == nil {
		t.Error("nothing was lost")
	}
}
