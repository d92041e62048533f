package telemetry

import (
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// quiet is an environment that exports nothing, with kv on top.
func quiet(kv Env) Env {
	all := Env{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
	for k, v := range kv {
		all[k] = v
	}
	return all
}

// configure sets up with env and returns the handle, closed, and Setup's error.
func configure(t *testing.T, env Env, opts ...Option) (*Telemetry, error) {
	t.Helper()
	var diag DiagLog
	tel, err := Setup(t.Context(), append([]Option{WithoutGlobals(), env.Option(), WithDiagnostics(diag.Handler()), WithRuntimeMetrics(false), noNetwork}, opts...)...)
	if closeErr := tel.Close(); closeErr != nil && !errors.Is(closeErr, ErrDataLost) {
		t.Errorf("Close: %v", closeErr)
	}
	for _, w := range tel.Warnings() {
		if text := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w.Error()); !strings.Contains(diag.String(), text) {
			t.Errorf("not reported: %s; reported:\n%s", w, &diag)
		}
	}
	return tel, err
}

// noNetwork refuses every OTLP/gRPC connection: something may listen on the
// default port of the machine that runs the tests.
var noNetwork = WithGRPCDialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
	return nil, syscall.ECONNREFUSED
}))

// Wrong numbers and enums warn, in one form, and the default is used.
func TestWrongValuesWarn(t *testing.T) { // rule 32
	tests := []struct {
		env     Env
		want    string // the warning
		setting string // "name=value" that is in force
	}{
		{Env{"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, `OTEL_BSP_MAX_QUEUE_SIZE="-1": want a whole number > 0; using 2048`, "traces.queue_size=2048"},
		{Env{"OTEL_BSP_MAX_QUEUE_SIZE": "99999999999999999999"}, `OTEL_BSP_MAX_QUEUE_SIZE="99999999999999999999": want a whole number > 0; using 2048`, "traces.queue_size=2048"},
		{Env{"OTEL_BSP_SCHEDULE_DELAY": "0"}, `OTEL_BSP_SCHEDULE_DELAY="0": want a whole number of milliseconds > 0; using 5s`, "traces.batch_delay=5s"},
		{Env{"OTEL_BSP_SCHEDULE_DELAY": "5s"}, `OTEL_BSP_SCHEDULE_DELAY="5s": want a whole number of milliseconds > 0; using 5s`, "traces.batch_delay=5s"},
		{Env{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5000"}, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5000": want at most the queue size; using 2048`, "traces.batch_size=2048"},
		{Env{"OTEL_BLRP_EXPORT_TIMEOUT": "x"}, `OTEL_BLRP_EXPORT_TIMEOUT="x": want a whole number of milliseconds, or 0 for no limit; using 30s`, "logs.batch_timeout=30s"},
		{Env{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"}, `OTEL_TRACES_SAMPLER_ARG="10%": want a number from 0 to 1, as in 0.1; using 1 (every trace is sampled)`, "traces.sampler=TraceIDRatioBased{1}"},
		{Env{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, `OTEL_TRACES_SAMPLER_ARG="NaN": want a number from 0 to 1, as in 0.1; using 1 (every trace is sampled)`, ""},
		{Env{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, `OTEL_TRACES_SAMPLER="jaeger_remote": want always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio; using ParentBased`, ""},
		{Env{"OTEL_TRACES_SAMPLER_ARG": "0.5"}, `OTEL_TRACES_SAMPLER_ARG="0.5": has no effect without OTEL_TRACES_SAMPLER; using ParentBased`, ""},
		{Env{"OTEL_PROPAGATORS": "b3"}, `OTEL_PROPAGATORS="b3": want tracecontext, baggage or none (others: WithPropagation); using tracecontext,baggage`, "propagators=tracecontext,baggage"},
		{Env{"OTEL_PROPAGATORS": "b3, tracecontext"}, `OTEL_PROPAGATORS="b3, tracecontext": want tracecontext, baggage or none (others: WithPropagation); using tracecontext`, "propagators=tracecontext"},
		{Env{"OTEL_METRIC_EXPORT_INTERVAL": "-5"}, `OTEL_METRIC_EXPORT_INTERVAL="-5": want a whole number of milliseconds > 0; using 15s`, "metrics.interval=15s"},
		{Env{"OTEL_METRICS_EXEMPLAR_FILTER": "some"}, `OTEL_METRICS_EXEMPLAR_FILTER="some": want trace_based, always_on or always_off; using trace_based`, "metrics.exemplars=trace_based"},
		{Env{"OTEL_SDK_DISABLED": "yes"}, `OTEL_SDK_DISABLED="yes": want true or false; using false`, "disabled=false"},
		{Env{"OTEL_RESOURCE_ATTRIBUTES": "a=1,b"}, `OTEL_RESOURCE_ATTRIBUTES: want key=value,key=value with percent-encoded values; member 2 is not; using the other attributes`, ""},
		{Env{"OTEL_LOG_LEVEL": "verbose"}, `OTEL_LOG_LEVEL="verbose": want none, error, warn, info or debug; using info`, "diagnostics.level=info"},
		{Env{"OTEL_SPAN_EVENT_COUNT_LIMIT": "-1"}, `OTEL_SPAN_EVENT_COUNT_LIMIT="-1": want a whole number >= 0; using 128`, "traces.event_count=128"},
		{Env{"OTEL_TRACES_EXPORTER": "none,console"}, `OTEL_TRACES_EXPORTER="none,console": none excludes the others; using none`, "traces.exporters=none"},
	}
	for _, tt := range tests {
		t.Run(tt.want[:strings.IndexByte(tt.want, ':')], func(t *testing.T) {
			tel, err := configure(t, quiet(tt.env))
			if err != nil {
				t.Fatalf("Setup: %v", err)
			}
			if len(tel.Warnings()) != 1 || !strings.HasPrefix(tel.Warnings()[0].Error(), tt.want) {
				t.Errorf("warnings are %q, want %q", tel.Warnings(), tt.want)
			}
			name, want, _ := strings.Cut(tt.setting, "=")
			if got, _ := tel.Config().Get(name); got.Value != want {
				t.Errorf("%s is %+v, want %s", name, got, want)
			}
			if _, err := configure(t, quiet(tt.env), WithStrict()); err == nil {
				t.Error("WithStrict: no error")
			}
		})
	}
}

// OTLP settings are checked only where OTLP is used.
func TestWrongOTLPValuesWarn(t *testing.T) { // rule 32
	tests := []struct {
		env  Env
		want string
	}{
		{Env{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, `OTEL_EXPORTER_OTLP_PROTOCOL="http/json": want grpc or http/protobuf; using http/protobuf`},
		{Env{"OTEL_EXPORTER_OTLP_PROTOCOL": "thrift"}, `OTEL_EXPORTER_OTLP_PROTOCOL="thrift": want grpc or http/protobuf; using grpc`},
		{Env{"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, `OTEL_EXPORTER_OTLP_COMPRESSION="zstd": want gzip or none; using none`},
		{Env{"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, `OTEL_EXPORTER_OTLP_TIMEOUT="-1": want a whole number of milliseconds, or 0 for no limit; using 10s`},
		{Env{"OTEL_EXPORTER_OTLP_HEADERS": "a=b,S3CRET"}, `OTEL_EXPORTER_OTLP_HEADERS: want key=value,key=value with percent-encoded values; member 2 is not; using the other headers`},
		{Env{"OTEL_EXPORTER_OTLP_HEADERS": "a=%0ab"}, `OTEL_EXPORTER_OTLP_HEADERS: want key=value,key=value with percent-encoded values; member 1 is not; using the other headers`},
		{Env{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such"}, `OTEL_EXPORTER_OTLP_CERTIFICATE="/no/such": has no effect on a plaintext endpoint (http://localhost:4317); using no TLS`},
	}
	for _, tt := range tests {
		t.Run(tt.want[:20], func(t *testing.T) {
			tt.env["OTEL_TRACES_EXPORTER"] = "otlp"
			tel, err := configure(t, quiet(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if len(tel.Warnings()) != 1 || tel.Warnings()[0].Error() != tt.want {
				t.Errorf("warnings are %q, want %q", tel.Warnings(), tt.want)
			}
		})
	}
}

// What cannot be used turns its signal off, names itself, and spares the others.
func TestUnusableValuesAreErrors(t *testing.T) { // rule 32
	tests := []struct {
		env    Env
		signal string
		want   string
	}{
		{Env{"OTEL_TRACES_EXPORTER": "zipkin"}, signalTraces, `OTEL_TRACES_EXPORTER="zipkin": want otlp, console or none, or a list of them; not exporting traces`},
		{Env{"OTEL_METRICS_EXPORTER": "otlp,statsd"}, signalMetrics, `OTEL_METRICS_EXPORTER="otlp,statsd": want otlp, prometheus, console or none, or a list of them; not exporting metrics`},
		{Env{"OTEL_LOGS_EXPORTER": "prometheus"}, signalLogs, `OTEL_LOGS_EXPORTER="prometheus": want otlp, console or none, or a list of them; not exporting logs`},
		{Env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:4317"}, signalTraces, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="collector:4317": want a scheme: http://collector:4317 for plaintext or https://collector:4317 for TLS; not exporting traces`},
		{Env{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://u:p@collector"}, signalLogs, `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="[redacted]": want no user, password or query in the URL; credentials go into OTEL_EXPORTER_OTLP_HEADERS; not exporting logs`},
		{Env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://localhost:1", "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE": "/no/such.pem"}, signalMetrics, `OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE="/no/such.pem": want a readable file of PEM certificates: no such file or directory; not exporting metrics`},
		{Env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://localhost:1", "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY": "/no/such.key"}, signalMetrics, `OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY="/no/such.key": want OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE beside it; not exporting metrics`},
	}
	for _, tt := range tests {
		t.Run(tt.want[:30], func(t *testing.T) {
			tel, err := configure(t, tt.env)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("got error %v, want %s", err, tt.want)
			}
			ce, ok := errors.AsType[*ConfigError](err)
			if !ok || ce.Signal != tt.signal {
				t.Errorf("got %#v, want a *ConfigError of %s", err, tt.signal)
			}
			var value ConfigError
			if !errors.As(err, &value) || value != *ce {
				t.Errorf("got %#v, want it as a value too", value)
			}
			for name, st := range map[string]SignalStats{signalTraces: tel.Stats().Traces, signalMetrics: tel.Stats().Metrics, signalLogs: tel.Stats().Logs} {
				if off := st.State == StateOff; off != (name == tt.signal) {
					t.Errorf("%s: state is %s", name, st.State)
				}
			}
		})
	}
}

// One wrong setting is one line, however many signals share it, and an error of each.
func TestSettingOfSeveralSignals(t *testing.T) { // rule 32
	const (
		endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
		want     = `OTEL_EXPORTER_OTLP_ENDPOINT="collector:4317": want a scheme: http://collector:4317 for plaintext or https://collector:4317 for TLS; not exporting traces, logs
OTEL_METRICS_EXPORTER="x": want otlp, prometheus, console or none, or a list of them; not exporting metrics`
	)
	_, err := configure(t, Env{endpoint: "collector:4317", "OTEL_METRICS_EXPORTER": "x"})
	if err == nil || err.Error() != want {
		t.Fatalf("got error\n%v, want\n%s", err, want)
	}
	first, ok := errors.AsType[*ConfigError](err)
	if !ok || first.Source != endpoint || first.Signal != signalTraces {
		t.Errorf("got %#v, want the error of traces first", first)
	}
	for signal, is := range map[string]bool{signalTraces: true, signalMetrics: false, signalLogs: true} {
		one := ConfigError{Signal: signal, Source: endpoint, Value: "collector:4317", Reason: "want a scheme: http://collector:4317 for plaintext or https://collector:4317 for TLS"}
		if errors.Is(err, one) != is || errors.Is(err, &one) != is {
			t.Errorf("errors.Is of %s is not %t", signal, is)
		}
	}

	_, err = configure(t, Env{endpoint: "collector:4317", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, WithStrict())
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 2 || !strings.HasSuffix(lines[0], "; not exporting traces, metrics, logs") || !strings.HasSuffix(lines[1], "; using 2048") {
		t.Errorf("strict: got error\n%v, want a line for each setting", err)
	}

	defer func() {
		if p, ok := recover().(error); !ok || strings.Count(p.Error(), "collector:4317\":") != 1 {
			t.Errorf("MustSetup panicked with %v, want one line", p)
		}
	}()
	MustSetup(t.Context(), WithoutGlobals(), Env{endpoint: "collector:4317"}.Option(), WithRuntimeMetrics(false))
	t.Error("MustSetup returned")
}

// Environment, option, detected, default; empty is unset; each names its source.
func TestPrecedence(t *testing.T) { // rule 31
	opts := []Option{
		WithServiceName("from-option"), WithSampleRatio(0.5), WithMetricInterval(3 * time.Second),
		WithEndpoint("http://127.0.0.1:1"), WithProtocol("http/protobuf"),
	}
	get := func(tel *Telemetry, names ...string) (out []Setting) {
		for _, n := range names {
			s, _ := tel.Config().Get(n)
			out = append(out, s)
		}
		return out
	}
	names := []string{"service.name", "traces.sampler", "metrics.interval", "traces.endpoint", "traces.protocol"}
	tests := []struct {
		name string
		env  Env
		opts []Option
		want []Setting
	}{
		{"environment", Env{
			"OTEL_SERVICE_NAME": " from-env ", "OTEL_RESOURCE_ATTRIBUTES": "service.name=loses", "OTEL_TRACES_SAMPLER": "always_off",
			"OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC",
		}, opts, []Setting{
			{"service.name", "from-env", "OTEL_SERVICE_NAME"},
			{"traces.sampler", "AlwaysOffSampler", "OTEL_TRACES_SAMPLER"},
			{"metrics.interval", "1s", "OTEL_METRIC_EXPORT_INTERVAL"},
			{"traces.endpoint", "http://localhost:1", "OTEL_EXPORTER_OTLP_ENDPOINT"},
			{"traces.protocol", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL"},
		}},
		{"option", Env{"OTEL_SERVICE_NAME": "", "OTEL_TRACES_SAMPLER": " ", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, opts, []Setting{
			{"service.name", "from-option", "WithServiceName"},
			{"traces.sampler", sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.5)).Description(), "WithSampleRatio"},
			{"metrics.interval", "3s", "WithMetricInterval"},
			{"traces.endpoint", "http://127.0.0.1:1/v1/traces", "WithEndpoint"},
			{"traces.protocol", "http/protobuf", "WithProtocol"},
		}},
		{"default", Env{}, nil, []Setting{
			{"service.name", "unknown_service:telemetry.test", "detected"},
			{"traces.sampler", sdktrace.ParentBased(sdktrace.AlwaysSample()).Description(), "default"},
			{"metrics.interval", "15s", "default"},
			{"traces.endpoint", "http://localhost:4317", "default"},
			{"traces.protocol", "grpc", "default"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tel, err := configure(t, tt.env, tt.opts...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, get(tel, names...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What only options say is in Config too.
func TestOptionSettings(t *testing.T) { // rule 31
	names := []string{"metrics.runtime", "logs.min_level", "shutdown_timeout", "globals"}
	get := func(opts ...Option) (out []Setting) {
		tel, err := Setup(t.Context(), append([]Option{quiet(nil).Option(), WithServiceName("s")}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer tel.Close()
		for _, n := range names {
			s, _ := tel.Config().Get(n)
			out = append(out, s)
		}
		return out
	}
	defaults := []Setting{{"metrics.runtime", "true", "default"}, {"logs.min_level", "INFO", "default"}, {"shutdown_timeout", "5s", "default"}, {"globals", "true", "default"}}
	if diff := cmp.Diff(defaults, get()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	options := []Setting{{"metrics.runtime", "false", "WithRuntimeMetrics"}, {"logs.min_level", "WARN", "WithMinLogLevel"}, {"shutdown_timeout", "1s", "WithShutdownTimeout"}, {"globals", "false", "WithoutGlobals"}}
	if diff := cmp.Diff(options, get(WithRuntimeMetrics(false), WithMinLogLevel(slog.LevelWarn), WithShutdownTimeout(time.Second), WithoutGlobals())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Options are checked as the environment is, and named.
func TestWrongOptions(t *testing.T) { // rule 32
	tests := []struct {
		opt  Option
		want string // a warning, or, with "not exporting" or "alone", an error
	}{
		{WithProtocol("thrift"), `WithProtocol="thrift": want grpc or http/protobuf; using grpc`},
		{WithHeaders(map[string]string{"x-key": "S3CRET\n"}), `WithHeaders="x-key": want a name of letters, digits, - _ and ., and a value of printable ASCII; using the other headers`},
		{WithHeaders(map[string]string{"Bearer S3CRET": ""}), `WithHeaders: want a name of letters, digits, - _ and ., and a value of printable ASCII; using the other headers`},
		{WithEndpoint("collector:4317"), `WithEndpoint="collector:4317": want a scheme: http://collector:4317 for plaintext or https://collector:4317 for TLS; not exporting traces`},
		{WithEndpoint("https://collector?key=S3CRET"), `WithEndpoint="[redacted]": want no user, password or query in the URL; credentials go into OTEL_EXPORTER_OTLP_HEADERS; not exporting traces`},
		{WithPrometheus("127.0.0.1:http-or-so"), `WithPrometheus="127.0.0.1:http-or-so": cannot listen: lookup tcp/http-or-so: unknown port; want a free host:port; using Telemetry.MetricsHandler alone`},
		{WithEndpoint("  "), ``},
		{WithProtocol(""), ``},
		{WithMetricInterval(-1), ``},
		{WithShutdownTimeout(0), ``},
	}
	for _, tt := range tests {
		tel, err := configure(t, Env{"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, tt.opt)
		got := fmt.Sprint(errors.Join(tel.Warnings()...))
		fails := strings.Contains(tt.want, "not exporting") || strings.Contains(tt.want, "alone")
		if fails {
			got = fmt.Sprint(err)
		}
		if want := stdcmp.Or(tt.want, "<nil>"); got != want || (err != nil) != fails {
			t.Errorf("got %s (error %v), want %s", got, err, want)
		}
	}
}

func TestExporterLists(t *testing.T) { // rule 31
	tests := []struct {
		name string
		env  Env
		opts []Option
		want string
	}{
		{name: "default", want: "otlp"},
		{name: "list", env: Env{"OTEL_METRICS_EXPORTER": " otlp , Console, otlp"}, want: "otlp,console"},
		{name: "none", env: Env{"OTEL_METRICS_EXPORTER": "none"}, want: "none"},
		{name: "empty is unset", env: Env{"OTEL_METRICS_EXPORTER": " "}, want: "otlp"},
		{name: "without", opts: []Option{WithoutMetrics()}, want: "none"},
		{name: "environment beats without", env: Env{"OTEL_METRICS_EXPORTER": "otlp"}, opts: []Option{WithoutMetrics()}, want: "otlp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tel, err := configure(t, tt.env, tt.opts...)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := tel.Config().Get("metrics.exporters"); got.Value != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// OTEL_SDK_DISABLED turns all signals off; the propagator stays.
func TestDisabled(t *testing.T) { // rule 31
	tel, err := configure(t, Env{"OTEL_SDK_DISABLED": "TRUE"}, WithPrometheus(""))
	if err != nil {
		t.Fatal(err)
	}
	if got := tel.Stats(); got.Traces.State != StateOff || got.Metrics.State != StateOff || got.Logs.State != StateOff {
		t.Errorf("stats are %+v", got)
	}
	if _, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "s"); span.IsRecording() {
		t.Error("spans are recorded")
	}
	if !contains(tel.Propagator().Fields(), "traceparent") {
		t.Errorf("propagated fields are %q", tel.Propagator().Fields())
	}
}

func TestPropagators(t *testing.T) { // rule 31
	tests := []struct {
		value                string
		traceparent, baggage bool
	}{
		{"", true, true},
		{" tracecontext , tracecontext ", true, false},
		{"baggage", false, true},
		{"none", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			tel, err := configure(t, quiet(Env{"OTEL_PROPAGATORS": tt.value}))
			if err != nil || len(tel.Warnings()) > 0 {
				t.Fatal(err, tel.Warnings())
			}
			fields := tel.Propagator().Fields()
			if contains(fields, "traceparent") != tt.traceparent || contains(fields, "baggage") != tt.baggage {
				t.Errorf("fields are %q", fields)
			}
		})
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestSampleRatioOutOfRange(t *testing.T) { // rule 32
	for _, ratio := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		tel, err := configure(t, quiet(nil), WithSampleRatio(ratio), WithSpanProcessor(NewConsole(nil)))
		if err != nil || len(tel.Warnings()) != 1 {
			t.Fatalf("%v: error %v, warnings %q", ratio, err, tel.Warnings())
		}
		if w := tel.Warnings()[0].Error(); !strings.HasPrefix(w, "WithSampleRatio=") || !strings.HasSuffix(w, "using 1") {
			t.Errorf("warning is %s", w)
		}
	}
}

// The handle of a failed Setup works.
func TestHandleIsAlwaysUsable(t *testing.T) {
	tel, err := Setup(t.Context(), WithoutGlobals(), WithDiagnostics((&DiagLog{}).Handler()), Env{
		"OTEL_TRACES_EXPORTER": "x", "OTEL_METRICS_EXPORTER": "x", "OTEL_LOGS_EXPORTER": "x",
	}.Option())
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got error %v, want three lines", err)
	}
	ctx, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "s")
	span.End()
	tel.SlogHandler(nil).Enabled(ctx, 0)
	if err := errors.Join(tel.ForceFlush(ctx), tel.Shutdown(ctx), tel.Close()); err != nil {
		t.Error(err)
	}
	expired, cancel := context.WithCancel(ctx)
	cancel()
	if err := tel.Shutdown(expired); err != nil {
		t.Error(err)
	}
}

func TestSamplers(t *testing.T) { // rule 31
	for kind, want := range map[string]sdktrace.Sampler{
		"always_on":                sdktrace.AlwaysSample(),
		"ALWAYS_OFF":               sdktrace.NeverSample(),
		"traceidratio":             sdktrace.TraceIDRatioBased(0.25),
		"parentbased_always_on":    sdktrace.ParentBased(sdktrace.AlwaysSample()),
		"parentbased_always_off":   sdktrace.ParentBased(sdktrace.NeverSample()),
		"parentbased_traceidratio": sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.25)),
	} {
		vars := Env{"OTEL_TRACES_SAMPLER": kind}
		if strings.HasSuffix(kind, "ratio") {
			vars["OTEL_TRACES_SAMPLER_ARG"] = "0.25"
		}
		e := &environment{lookup: vars.lookup}
		if got := e.sampler(newOptions([]Option{WithSampler(sdktrace.NeverSample())})); got.Description() != want.Description() || len(e.warnings) > 0 {
			t.Errorf("%s: got %s, want %s; warnings %q", kind, got.Description(), want.Description(), e.warnings)
		}
	}
	o := newOptions([]Option{WithSampleRatio(0.5), WithSampler(sdktrace.NeverSample()), nil})
	if got := (&environment{lookup: Env{}.lookup}).sampler(o); got != sdktrace.NeverSample() {
		t.Errorf("WithSampler: got %s", got.Description())
	}
}
