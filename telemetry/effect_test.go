package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// What a variable says is what happens: the cases of TestVariables look at
// Config, these at what is sent.

// send sets up with env and a collector, calls use, and closes.
func send(t *testing.T, env map[string]string, use func(context.Context, *telemetry.Telemetry), opts ...telemetry.Option) *telemetrytest.Collector {
	t.Helper()
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	all := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint()}
	for k, v := range env {
		all[k] = v
	}
	tel := setup(t, all, append([]telemetry.Option{telemetry.WithRuntimeMetrics(false)}, opts...)...)
	use(t.Context(), tel)
	if err := tel.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return c
}

// bigSpan has 5 attributes, 5 events and 5 links with 5 attributes each.
func bigSpan(ctx context.Context, tel *telemetry.Telemetry) {
	attrs := make([]attribute.KeyValue, 5)
	for i := range attrs {
		attrs[i] = attribute.String(fmt.Sprint("k", i), "12345")
	}
	links := make([]trace.Link, 5)
	for i := range links {
		links[i] = trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{byte(i + 1)}}), Attributes: attrs}
	}
	_, span := tel.TracerProvider().Tracer("").Start(ctx, "big", trace.WithAttributes(attrs...), trace.WithLinks(links...))
	for range 5 {
		span.AddEvent("e", trace.WithAttributes(attrs...))
	}
	span.End()
}

func TestSpanLimits(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want string // attributes/length events/attributes links/attributes
	}{
		{nil, "5/5 5/5 5/5"},
		{map[string]string{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}, "2/5 5/5 5/5"},
		{map[string]string{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0"}, "0/0 5/5 5/5"},
		{map[string]string{"OTEL_ATTRIBUTE_COUNT_LIMIT": "3"}, "3/5 5/5 5/5"},
		{map[string]string{"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}, "2/5 5/5 5/5"},
		{map[string]string{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"}, "5/4 5/5 5/5"},
		{map[string]string{"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"}, "5/3 5/5 5/5"},
		{map[string]string{"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"}, "5/5 1/5 5/5"},
		{map[string]string{"OTEL_SPAN_LINK_COUNT_LIMIT": "4"}, "5/5 5/5 4/5"},
		{map[string]string{"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "2"}, "5/5 5/2 5/5"},
		{map[string]string{"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1"}, "5/5 5/5 5/1"},
	}
	for _, tt := range tests {
		span := send(t, tt.env, bigSpan).WaitForSpan("big")
		length := 0
		for _, kv := range span.GetAttributes() {
			length = len(kv.GetValue().GetStringValue())
		}
		got := fmt.Sprintf("%d/%d %d/%d %d/%d", len(span.GetAttributes()), length,
			len(span.GetEvents()), len(span.GetEvents()[0].GetAttributes()), len(span.GetLinks()), len(span.GetLinks()[0].GetAttributes()))
		if got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.env, got, tt.want)
		}
	}
}

func TestLogLimits(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want string // attributes/length
	}{
		{nil, "3/5"},
		{map[string]string{"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2"}, "2/5"},
		{map[string]string{"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"}, "3/4"},
		{map[string]string{"OTEL_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2"}, "1/2"},
		{map[string]string{"OTEL_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2"}, "2/5"},
	}
	for _, tt := range tests {
		log := send(t, tt.env, func(_ context.Context, tel *telemetry.Telemetry) {
			slog.New(tel.SlogHandler(nil)).Info("m", "a", "12345", "b", "12345", "c", "12345")
		}).WaitForLog("m")
		if got := fmt.Sprintf("%d/%d", len(log.GetAttributes()), len(log.GetAttributes()[0].GetValue().GetStringValue())); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.env, got, tt.want)
		}
	}
}

func TestExemplarFilter(t *testing.T) {
	for filter, want := range map[string]string{"": "1 0", "trace_based": "1 0", "always_on": "1 1", "always_off": "0 0"} {
		c := send(t, map[string]string{"OTEL_METRICS_EXEMPLAR_FILTER": filter}, func(ctx context.Context, tel *telemetry.Telemetry) {
			meter := tel.MeterProvider().Meter("")
			inside, _ := meter.Int64Counter("inside")
			outside, _ := meter.Int64Counter("outside")
			outside.Add(ctx, 1)
			ctx, span := tel.TracerProvider().Tracer("").Start(ctx, "s")
			inside.Add(ctx, 1)
			span.End()
		})
		exemplars := func(name string) int { return len(c.WaitForMetric(name).GetSum().GetDataPoints()[0].GetExemplars()) }
		if got := fmt.Sprint(exemplars("inside"), " ", exemplars("outside")); got != want {
			t.Errorf("%s: %s exemplars within and without a trace, want %s", filter, got, want)
		}
	}
}

func TestTemporality(t *testing.T) {
	for preference, want := range map[string]string{"": "C C C C", "Cumulative": "C C C C", "delta": "D D D C", "LowMemory": "D D C C"} {
		c := send(t, map[string]string{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference}, func(ctx context.Context, tel *telemetry.Telemetry) {
			meter := tel.MeterProvider().Meter("")
			counter, _ := meter.Int64Counter("counter")
			counter.Add(ctx, 1)
			histogram, _ := meter.Int64Histogram("histogram")
			histogram.Record(ctx, 1)
			observe := func(_ context.Context, o metric.Int64Observer) error { o.Observe(1); return nil }
			_, _ = meter.Int64ObservableCounter("observed", metric.WithInt64Callback(observe))
			level, _ := meter.Int64UpDownCounter("level")
			level.Add(ctx, 1)
		})
		letter := map[metricspb.AggregationTemporality]string{
			metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE: "C", metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA: "D",
		}
		got := strings.Join([]string{
			letter[c.WaitForMetric("counter").GetSum().GetAggregationTemporality()], letter[c.WaitForMetric("histogram").GetHistogram().GetAggregationTemporality()],
			letter[c.WaitForMetric("observed").GetSum().GetAggregationTemporality()], letter[c.WaitForMetric("level").GetSum().GetAggregationTemporality()],
		}, " ")
		if got != want {
			t.Errorf("%s: got %s, want %s", preference, got, want)
		}
	}
}

// The variable beats the option, in both directions.
func TestHistogramAggregation(t *testing.T) { // rules 31, 37
	const variable = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
	for _, tt := range []struct {
		value       string
		opts        []telemetry.Option
		exponential bool
	}{
		{"", nil, false},
		{"base2_exponential_bucket_histogram", nil, true},
		{"", []telemetry.Option{telemetry.WithExponentialHistograms()}, true},
		{"explicit_bucket_histogram", []telemetry.Option{telemetry.WithExponentialHistograms()}, false},
	} {
		m := send(t, map[string]string{variable: tt.value}, func(ctx context.Context, tel *telemetry.Telemetry) {
			h, _ := tel.MeterProvider().Meter("").Int64Histogram("h")
			h.Record(ctx, 1)
		}, tt.opts...).WaitForMetric("h")
		if (m.GetExponentialHistogram() != nil) != tt.exponential || (m.GetHistogram() != nil) == tt.exponential {
			t.Errorf("%q, %d options: got %v", tt.value, len(tt.opts), m)
		}
	}
}

// Batches are of the size that is allowed; spans wait no longer than they may.
func TestBatches(t *testing.T) {
	spans := func(ctx context.Context, tel *telemetry.Telemetry) {
		for range 6 {
			_, span := tel.TracerProvider().Tracer("").Start(ctx, "s")
			span.End()
		}
	}
	only := map[string]string{"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
	if c := send(t, only, spans); len(c.Spans()) != 6 || c.Requests() != 3 {
		t.Errorf("%d spans in %d requests, want 6 in 3", len(c.Spans()), c.Requests())
	}
	logs := func(_ context.Context, tel *telemetry.Telemetry) {
		for range 6 {
			slog.New(tel.SlogHandler(nil)).Info("m")
		}
	}
	only = map[string]string{"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "3", "OTEL_BLRP_SCHEDULE_DELAY": "3600000"}
	if c := send(t, only, logs); len(c.Logs()) != 6 || c.Requests() != 2 {
		t.Errorf("%d log records in %d requests, want 6 in 2", len(c.Logs()), c.Requests())
	}
}

// Without anybody flushing: after the delay, at the interval.
func TestDelays(t *testing.T) {
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	tel := setup(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint(), "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BLRP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "20",
	})
	emit(t, tel)
	c.WaitForSpan("work")
	c.WaitForLog("done")
	c.WaitForMetric("things")
}

// A batch is given up after its time-out, whichever of the two ends first.
func TestTimeouts(t *testing.T) {
	for _, env := range []map[string]string{
		{"OTEL_EXPORTER_OTLP_TIMEOUT": "50"},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "0"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT": "0", "OTEL_BSP_EXPORT_TIMEOUT": "50", "OTEL_BLRP_EXPORT_TIMEOUT": "50", "OTEL_METRIC_EXPORT_TIMEOUT": "50"},
		{"OTEL_BSP_EXPORT_TIMEOUT": "50", "OTEL_BLRP_EXPORT_TIMEOUT": "50", "OTEL_METRIC_EXPORT_TIMEOUT": "50"},
	} {
		for signal, stats := range map[string]func(telemetry.Stats) telemetry.SignalStats{
			"TRACES":  func(s telemetry.Stats) telemetry.SignalStats { return s.Traces },
			"METRICS": func(s telemetry.Stats) telemetry.SignalStats { return s.Metrics },
			"LOGS":    func(s telemetry.Stats) telemetry.SignalStats { return s.Logs },
		} {
			if _, other := env["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"]; other && signal != "TRACES" {
				continue
			}
			c := telemetrytest.NewCollector(t, telemetrytest.Stall)
			env := maps.Clone(env)
			for _, s := range []string{"TRACES", "METRICS", "LOGS"} {
				env["OTEL_"+s+"_EXPORTER"] = "none"
			}
			env["OTEL_EXPORTER_OTLP_ENDPOINT"], env["OTEL_"+signal+"_EXPORTER"] = c.Endpoint(), "otlp"
			tel := setup(t, env, telemetry.WithShutdownTimeout(10*time.Second))
			emit(t, tel)
			start := time.Now()
			err := tel.ForceFlush(t.Context())
			if took, st := time.Since(start), stats(tel.Stats()); err == nil || took < 50*time.Millisecond || took > 5*time.Second || st.Failed == 0 || st.Exported > 0 {
				t.Errorf("%s, %v: ForceFlush returned %v after %s; stats %+v", signal, env, err, took, st)
			}
		}
	}
}

func TestSamplerOfTheEnvironment(t *testing.T) { // rule 31
	tests := []struct {
		env  map[string]string
		want int
	}{
		{nil, 10},
		{map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, 0},
		{map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, 0},
		{map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, 10},
		{map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, 10},
	}
	for _, tt := range tests {
		c := send(t, tt.env, func(ctx context.Context, tel *telemetry.Telemetry) {
			for range 10 {
				_, span := tel.TracerProvider().Tracer("").Start(ctx, "s")
				span.End()
			}
		}, telemetry.WithSampleRatio(1))
		if got := len(c.Spans()); got != tt.want {
			t.Errorf("%v: %d spans of 10, want %d", tt.env, got, tt.want)
		}
	}
}

// An exporter that cannot be had costs itself; the others have everything.
func TestOneFaultyExporter(t *testing.T) { // rule 32
	taken := httptest.NewServer(nil)
	defer taken.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(taken.URL, "http://"), ":")
	for _, tt := range []struct {
		env  map[string]string
		want string // arrives
		text string // of the error
	}{
		{map[string]string{"OTEL_METRICS_EXPORTER": "otlp,prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": port}, all,
			`OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT="127.0.0.1:` + port + `": cannot listen: bind: address already in use; want a free host:port; using Telemetry.MetricsHandler alone`},
		{map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "collector"}, "1 spans, 0 metrics, 1 logs",
			`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="collector": want a scheme: http://collector for plaintext or https://collector for TLS; not exporting metrics`},
		{map[string]string{"OTEL_TRACES_EXPORTER": "jaeger"}, "0 spans, 1 metrics, 1 logs", `OTEL_TRACES_EXPORTER="jaeger": want otlp, console or none, or a list of them; not exporting traces`},
		{map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "unix:///x", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}, "1 spans, 1 metrics, 0 logs",
			`OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="unix:///x": want http:// or https:// with protocol http/protobuf; sockets need grpc; not exporting logs`},
	} {
		c := telemetrytest.NewCollector(t, telemetrytest.OK)
		env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint()}
		for k, v := range tt.env {
			env[k] = v
		}
		tel, err := telemetry.Setup(t.Context(), telemetry.WithoutGlobals(), telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()),
			telemetry.WithLookupEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok }))
		if err == nil || err.Error() != tt.text {
			t.Errorf("%v: error is %v, want %s", tt.env, err, tt.text)
		}
		emit(t, tel)
		if err := tel.Close(); err != nil {
			t.Errorf("%v: Close: %v", tt.env, err)
		}
		if got := received(c); got != tt.want {
			t.Errorf("%v: received %s, want %s", tt.env, got, tt.want)
		}
	}
}
