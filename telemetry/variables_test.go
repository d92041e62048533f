package telemetry

import "strings"

// variable is a variable that Setup reads: a row of ENVIRONMENT.md, and the
// cases of TestVariables.
type variable struct {
	name    string // {S} stands for TRACES, METRICS and LOGS, {S}_ also for nothing: the general variable
	meaning string
	def     string // as it would be written in the variable
	defText string // in place of def, where that does not say it all
	option  string // the option that says the same
	bad     string // what becomes of a wrong value

	setting         string // of Config; {s} stands for the signal
	source          string // of that setting, where it is not the variable
	env             Env    // without which the variable does nothing; {S} as above
	beside          Env    // goes with the variable, and not without it
	elsewhere       bool   // the documented default is tested elsewhere
	with            []Option
	good, shown     string // a value, and what Config makes of it
	wrong, reported string // a wrong value, and what is said of it after the variable's name
	opt             Option // the option, set to something else
	optShown        string // what Config makes of that
	both            string // of variable and option, where not the variable alone counts
}

const (
	warned  = "warned of; the default is used"
	failing = "error of Setup; that exporter is off"
)

// Where nobody listens.
const nowhere, nowhereTLS = "http://127.0.0.1:1", "https://127.0.0.1:1"

const (
	wantCount   = `="-1": want a whole number >= 0; using `
	wantSize    = `="0": want a whole number > 0; using `
	wantDelay   = `="0": want a whole number of milliseconds > 0; using `
	wantTimeout = `="-1": want a whole number of milliseconds, or 0 for no limit; using `
)

// variables are in the order of the specification, version 1.60:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/
func variables(files tlsFiles) []variable {
	exporter := func(signal, also string, without Option) variable {
		list := []string{"`otlp`", "`console`"}
		if also != "" {
			list = []string{"`otlp`", "`" + also + "`", "`console`"}
		}
		want := strings.ReplaceAll(strings.Join(list, ", "), "`", "") + " or none"
		return variable{
			name: "OTEL_" + signal + "_EXPORTER", meaning: strings.Join(list, ", ") + ", a list of them, or `none`", def: "otlp", bad: failing,
			option: "Without" + signal[:1] + strings.ToLower(signal[1:]), setting: strings.ToLower(signal) + ".exporters", with: []Option{noNetwork},
			good: "otlp, Console ,otlp", shown: "otlp,console", opt: without, optShown: "none",
			wrong: "otlp,zipkin", reported: `="otlp,zipkin": want ` + want + ", or a list of them; not exporting " + strings.ToLower(signal),
		}
	}
	batch := func(prefix, signal, items, delay, delayShown string) []variable {
		return []variable{
			{name: prefix + "SCHEDULE_DELAY", meaning: "milliseconds until a smaller batch is sent", def: delay, bad: warned,
				setting: signal + ".batch_delay", good: "200", shown: "200ms", wrong: "0", reported: wantDelay + delayShown},
			{name: prefix + "EXPORT_TIMEOUT", meaning: "milliseconds for one batch, all exporters' own limits aside; 0 for no limit", def: "30000", bad: warned,
				setting: signal + ".batch_timeout", good: "0", shown: "no limit", wrong: "-1", reported: wantTimeout + "30s"},
			{name: prefix + "MAX_QUEUE_SIZE", meaning: items + " that wait; more are dropped", def: "2048", bad: warned,
				setting: signal + ".queue_size", good: "4096", shown: "4096", wrong: "0", reported: wantSize + "2048"},
			{name: prefix + "MAX_EXPORT_BATCH_SIZE", meaning: items + " of a batch, at most the queue size", def: "512", bad: warned,
				setting: signal + ".batch_size", good: "100", shown: "100", wrong: "2049", reported: `="2049": want at most the queue size; using 2048`},
		}
	}
	limit := func(name, setting, meaning string) variable {
		return variable{name: name, meaning: meaning, def: "128", bad: warned, setting: setting, good: "3", shown: "3", wrong: "-1", reported: wantCount + "128"}
	}
	length := func(name, setting, meaning string) variable {
		return variable{name: name, meaning: meaning, defText: "no limit", bad: warned, setting: setting, good: "3", shown: "3", wrong: "-1", reported: wantCount + "no limit"}
	}
	const otlp = "OTEL_EXPORTER_OTLP_{S}_"

	var all []variable
	add := func(v ...variable) { all = append(all, v...) }
	add(
		variable{name: "OTEL_CONFIG_FILE", meaning: "declarative configuration, which replaces all of these; read with `otelconf.FromEnvironment()`, see telemetry/otelconf", option: "WithConfigFile", bad: "error of Setup; nothing is exported"},
		variable{name: "OTEL_SDK_DISABLED", meaning: "`true` turns all signals off; propagation stays", def: "false", bad: warned,
			setting: "disabled", good: "TRUE", shown: "true", wrong: "yes", reported: `="yes": want true or false; using false`},
		variable{name: "OTEL_RESOURCE_ATTRIBUTES", meaning: "`key=value,...`, percent-encoded; wins over options", bad: "warned of; the other attributes are used",
			option: "WithResourceAttributes, WithEnvironment, WithServiceVersion", setting: "deployment.environment.name", good: "deployment.environment.name=a%2Cb", shown: "a,b",
			wrong: "S3CRET", reported: ": want key=value,key=value with percent-encoded values; member 1 is not; using the other attributes", opt: WithEnvironment("o"), optShown: "o"},
		variable{name: "OTEL_SERVICE_NAME", meaning: "resource attribute `service.name`; wins over `OTEL_RESOURCE_ATTRIBUTES`", defText: "`unknown_service:` and the executable, with a hint",
			option: "WithServiceName", setting: "service.name", env: Env{"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=n"}, good: "users", shown: "users", opt: WithServiceName("o"), optShown: "o"},
		variable{name: "OTEL_LOG_LEVEL", meaning: "level of the diagnostics on stderr: `none`, `error`, `warn`, `info`, `debug`", def: "info", bad: warned,
			option: "WithDiagnostics", setting: "diagnostics.level", good: "WARN", shown: "warn", wrong: "loud", reported: `="loud": want none, error, warn, info or debug; using info`},
		variable{name: "OTEL_PROPAGATORS", meaning: "`tracecontext`, `baggage`, a list of them, or `none`", def: "tracecontext,baggage", bad: warned,
			option: "WithPropagation", setting: "propagators", good: "Baggage, baggage", shown: "baggage", wrong: "b3", reported: `="b3": want tracecontext, baggage or none (others: WithPropagation); using tracecontext,baggage`},
		variable{name: "OTEL_TRACES_SAMPLER", meaning: "`always_on`, `always_off`, `traceidratio`, or each with `parentbased_`", def: "parentbased_always_on", bad: warned,
			option: "WithSampler, WithSampleRatio", setting: "traces.sampler", good: "always_off", shown: "AlwaysOffSampler", wrong: "jaeger_remote",
			reported: `="jaeger_remote": want always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio; using ParentBased`,
			opt:      WithSampleRatio(0.5), optShown: "ParentBased{root:TraceIDRatioBased{0.5},remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"},
		variable{name: "OTEL_TRACES_SAMPLER_ARG", meaning: "ratio from 0 to 1", def: "1", bad: "warned of; everything is sampled",
			option: "WithSampleRatio", setting: "traces.sampler", source: "OTEL_TRACES_SAMPLER", env: Env{"OTEL_TRACES_SAMPLER": "traceidratio"}, good: "0.25", shown: "TraceIDRatioBased{0.25}",
			wrong: "10%", reported: `="10%": want a number from 0 to 1, as in 0.1; using 1 (every trace is sampled)`},
		exporter("TRACES", "", WithoutTraces()),
		exporter("METRICS", exporterPrometheus, WithoutMetrics()),
		exporter("LOGS", "", WithoutLogs()),
	)
	add(
		variable{name: otlp + "ENDPOINT", meaning: "`http://` is plaintext, `https://` TLS, `unix:///path` a socket; `host:port` is plaintext on loopback", def: "http://localhost:4317", bad: failing,
			option: "WithEndpoint", setting: "{s}.endpoint", with: []Option{noNetwork}, good: "https://collector.example.com", shown: "https://collector.example.com:443",
			wrong: "collector:4317", reported: `="collector:4317": want a scheme: http://collector:4317 for plaintext or https://collector:4317 for TLS; not exporting {s}`,
			opt: WithEndpoint(nowhere), optShown: nowhere},
		variable{name: otlp + "PROTOCOL", meaning: "`grpc` or `http/protobuf`", def: "grpc", defText: "`grpc`; `http/protobuf` on port 4318", bad: warned,
			option: "WithProtocol", setting: "{s}.protocol", env: Env{otlp + "ENDPOINT": nowhere}, good: "HTTP/protobuf", shown: "http/protobuf",
			wrong: "thrift", reported: `="thrift": want grpc or http/protobuf; using grpc`, opt: WithProtocol("http/protobuf"), optShown: "http/protobuf"},
		variable{name: otlp + "HEADERS", meaning: "`key=value,...`, values percent-encoded; never shown", bad: "warned of without its value; the others are used",
			option: "WithHeaders", setting: "{s}.headers", with: []Option{noNetwork}, good: "K=v%20w", shown: "k=[redacted]",
			wrong: "S3CRET", reported: ": want key=value,key=value with percent-encoded values; member 1 is not; using the other headers",
			opt: WithHeaders(map[string]string{"o": "x"}), optShown: "o=[redacted]", both: "k=[redacted],o=[redacted]"},
		variable{name: otlp + "COMPRESSION", meaning: "`gzip` or `none`", def: "none", bad: warned,
			setting: "{s}.compression", with: []Option{noNetwork}, good: "GZIP", shown: "gzip", wrong: "zstd", reported: `="zstd": want gzip or none; using none`},
		variable{name: otlp + "TIMEOUT", meaning: "milliseconds for one batch, retries included; 0 for no limit", def: "10000", bad: warned,
			setting: "{s}.timeout", with: []Option{noNetwork}, good: "3000", shown: "3s", wrong: "-1", reported: wantTimeout + "10s"},
		variable{name: otlp + "INSECURE", meaning: "`true` or `false`: plaintext or TLS, for an endpoint without a scheme", bad: "warned of; the endpoint's scheme decides",
			option: "WithEndpoint", setting: "{s}.endpoint", source: otlp + "ENDPOINT", env: Env{otlp + "ENDPOINT": "localhost:1"}, good: "False", shown: "https://localhost:1",
			wrong: "no", reported: `="no": want true or false; using the endpoint's scheme`},
		variable{name: otlp + "CERTIFICATE", meaning: "file of PEM certificates that the server's is checked against", defText: "the system's", bad: failing,
			option: "WithTLSConfig", setting: "{s}.certificate", env: Env{otlp + "ENDPOINT": nowhereTLS}, good: files.ca, shown: files.ca,
			wrong: "/no/such", reported: `="/no/such": want a readable file of PEM certificates: no such file or directory; not exporting {s}`, opt: WithTLSConfig(nil), optShown: "the system's"},
		variable{name: otlp + "CLIENT_CERTIFICATE", meaning: "file of the client's PEM certificate, for mTLS", bad: failing,
			option: "WithTLSConfig", setting: "{s}.client_certificate", env: Env{otlp + "ENDPOINT": nowhereTLS}, beside: Env{otlp + "CLIENT_KEY": files.key}, good: files.cert, shown: files.cert,
			wrong: "/no/such", reported: `="/no/such": want a readable file of a PEM certificate: no such file or directory; not exporting {s}`},
		variable{name: otlp + "CLIENT_KEY", meaning: "file of its key", bad: failing,
			option: "WithTLSConfig", setting: "{s}.client_key", env: Env{otlp + "ENDPOINT": nowhereTLS}, beside: Env{otlp + "CLIENT_CERTIFICATE": files.cert}, good: files.key, shown: files.key,
			wrong: "/no/such", reported: `="/no/such": want a readable file of a PEM key: no such file or directory; not exporting {s}`},
	)
	add(batch("OTEL_BSP_", signalTraces, "spans", "5000", "5s")...)
	add(batch("OTEL_BLRP_", signalLogs, "log records", "1000", "1s")...)
	add(
		length("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "logs.attribute_value_length", "longest text of an attribute, spans and logs"),
		limit("OTEL_ATTRIBUTE_COUNT_LIMIT", "logs.attribute_count", "attributes of a span or log record"),
		length("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "traces.attribute_value_length", "the same for spans only"),
		limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "traces.attribute_count", "the same for spans only"),
		limit("OTEL_SPAN_EVENT_COUNT_LIMIT", "traces.event_count", "events of a span"),
		limit("OTEL_SPAN_LINK_COUNT_LIMIT", "traces.link_count", "links of a span"),
		limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "traces.event_attribute_count", "attributes of an event"),
		limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "traces.link_attribute_count", "attributes of a link"),
		length("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "logs.attribute_value_length", "the same for log records only"),
		limit("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "logs.attribute_count", "the same for log records only"),
	)
	add(
		variable{name: "OTEL_METRIC_EXPORT_INTERVAL", meaning: "milliseconds between exports (the specification's default is 60000)", def: "15000", bad: warned,
			option: "WithMetricInterval", setting: "metrics.interval", good: "1000", shown: "1s", wrong: "0", reported: wantDelay + "15s", opt: WithMetricInterval(3e9), optShown: "3s"},
		variable{name: "OTEL_METRIC_EXPORT_TIMEOUT", meaning: "milliseconds for one export; 0 for no limit", def: "30000", bad: warned,
			setting: "metrics.export_timeout", good: "1000", shown: "1s", wrong: "-1", reported: wantTimeout + "30s"},
		variable{name: "OTEL_METRICS_EXEMPLAR_FILTER", meaning: "`trace_based`, `always_on` or `always_off`", def: "trace_based", bad: warned,
			setting: "metrics.exemplars", good: "Always_On", shown: "always_on", wrong: "some", reported: `="some": want trace_based, always_on or always_off; using trace_based`},
		variable{name: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", meaning: "`cumulative`, `delta` or `lowmemory`", def: "cumulative", bad: warned,
			setting: "metrics.temporality", good: "LowMemory", shown: "lowmemory", wrong: "x", reported: `="x": want cumulative, delta or lowmemory; using cumulative`},
		variable{name: "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", meaning: "`explicit_bucket_histogram` or `base2_exponential_bucket_histogram`", def: "explicit_bucket_histogram", bad: warned,
			option: "WithExponentialHistograms", setting: "metrics.histograms", good: "explicit_bucket_histogram", shown: "explicit_bucket_histogram",
			wrong: "x", reported: `="x": want explicit_bucket_histogram or base2_exponential_bucket_histogram; using explicit_bucket_histogram`,
			opt: WithExponentialHistograms(), optShown: "base2_exponential_bucket_histogram"},
		variable{name: "OTEL_EXPORTER_PROMETHEUS_HOST", meaning: "host to serve `/metrics` on", def: "localhost", bad: "error of Setup; nothing is served there",
			option: "WithPrometheus", setting: "metrics.prometheus", env: Env{"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}, source: "OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT",
			good: "127.0.0.1", shown: "127.0.0.1:0", wrong: "not a host", reported: `="not a host:0": cannot listen: lookup not a host: `, opt: WithPrometheus("127.0.0.1:0"), optShown: "127.0.0.1:0"},
		variable{name: "OTEL_EXPORTER_PROMETHEUS_PORT", meaning: "port to serve `/metrics` on; 0 for any", def: "9464", bad: warned + "; occupied: error of Setup, nothing is served there",
			option: "WithPrometheus", setting: "metrics.prometheus", env: Env{"OTEL_METRICS_EXPORTER": "prometheus"}, with: []Option{WithPrometheus("127.0.0.1:0")}, source: "WithPrometheus, OTEL_EXPORTER_PROMETHEUS_PORT", elsewhere: true,
			good: files.port, shown: "127.0.0.1:" + files.port, wrong: "65536", reported: `="65536": want a port from 0 to 65535; using 0`},
	)
	return all
}

// tlsFiles are what some cases need to be there.
type tlsFiles struct{ ca, cert, key, port string }

// notHonoured are what the specification names and nobody here honours.
var notHonoured = [][2]string{
	{"OTEL_ENTITIES", "the OpenTelemetry SDK for Go has no entities yet; warned of. `OTEL_RESOURCE_ATTRIBUTES` sets the attributes"},
	{"OTEL_EXPERIMENTAL_CONFIG_FILE", "has become `OTEL_CONFIG_FILE`; warned of"},
	{"OTEL_EXPORTER_ZIPKIN_ENDPOINT", "the specification has deprecated the Zipkin exporter; a collector speaks to Zipkin, or `WithSpanExporter`. `OTEL_TRACES_EXPORTER=zipkin` is an error"},
	{"OTEL_EXPORTER_ZIPKIN_TIMEOUT", "likewise"},
	{"OTEL_EXPORTER_ZIPKIN_PROTOCOL", "likewise; reserved, without a meaning"},
	{"OTEL_EXPORTER_OTLP_SPAN_INSECURE", "obsolete name of `OTEL_EXPORTER_OTLP_TRACES_INSECURE`"},
	{"OTEL_EXPORTER_OTLP_METRIC_INSECURE", "obsolete name of `OTEL_EXPORTER_OTLP_METRICS_INSECURE`"},
}

// valuesNotTaken are values of the specification that are wrong here.
var valuesNotTaken = [][2]string{
	{"OTEL_PROPAGATORS=b3, b3multi, jaeger, xray, ottrace", "each is a module of its own: `WithPropagation(propagation.WithTraceContext(b3.New()))`"},
	{"OTEL_TRACES_SAMPLER=jaeger_remote, parentbased_jaeger_remote, xray", "likewise: `WithSampler`, with `OTEL_TRACES_SAMPLER` unset"},
	{"OTEL_TRACES_EXPORTER=zipkin", "deprecated; `WithSpanExporter` takes any exporter"},
	{"OTEL_{S}_EXPORTER=logging", "deprecated name of `console`"},
	{"OTEL_{S}_EXPORTER=otlp/stdout", "in development, and the OpenTelemetry SDK for Go has no such exporter"},
	{"OTEL_EXPORTER_OTLP_{S}_PROTOCOL=http/json", "the exporters for Go speak protobuf only; warned of, and `http/protobuf` is used"},
	{"OTEL_EXPORTER_OTLP_{S}_ENDPOINT=dns:///host", "and gRPC's other target forms, but `unix:`: they do not say whether TLS is meant. `http://host` is resolved by DNS too"},
}

// elsewhere are variables that other code reads, from the process's own environment.
var elsewhere = [][2]string{
	{"OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "package interceptors: `logs` has a server's faults in the access log, `logs/dup` in both places; by default they are events of the span"},
	{"OTEL_SEMCONV_STABILITY_OPT_IN", "otelgrpc, where `interceptors.WithOTelGRPC` is used: `rpc/dup`, `rpc/old`. The suite's own engine emits the current conventions of RPC only"},
	{"OTEL_RESOURCE_ATTRIBUTES", "the SDK adds attributes that are in the process's environment, also where `WithLookupEnv` does not show it"},
	{"OTEL_GO_X_OBSERVABILITY, OTEL_GO_X_CARDINALITY_LIMIT, OTEL_GO_X_PER_SERIES_START_TIMESTAMPS, OTEL_GO_X_DEPRECATED_RUNTIME_METRICS", "experiments of the SDK and of the runtime instrumentation"},
	{"HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "OTLP over both protocols goes through the proxy that they name"},
	{"NO_COLOR, TERM", "the console: no colours where NO_COLOR is not empty or TERM is `dumb`"},
	{"KUBERNETES_SERVICE_HOST", "the resource: its presence says that the host is a pod"},
}
