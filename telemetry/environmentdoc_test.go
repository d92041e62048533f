package telemetry

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The variables Setup reads. {S} stands for TRACES, METRICS and LOGS, or for
// nothing: the general variable.
var documented = []struct{ name, meaning, def, bad string }{
	{"OTEL_SDK_DISABLED", "`true` turns all signals off; propagation stays", "`false`", warned},
	{"OTEL_CONFIG_FILE", "declarative configuration, which replaces all of these; read with `otelconf.FromEnvironment()`, see telemetry/otelconf", "", "error of Setup; nothing is exported"},
	{"OTEL_SERVICE_NAME", "resource attribute `service.name`", "`unknown_service:` and the executable, with a hint", ""},
	{"OTEL_RESOURCE_ATTRIBUTES", "`key=value,...`, values percent-encoded; wins over options", "", "warned of; none of it is used"},
	{"OTEL_PROPAGATORS", "`tracecontext`, `baggage`, a list of them, or `none`", "`tracecontext,baggage`", warned},
	{"OTEL_LOG_LEVEL", "level of the diagnostics on stderr: `none`, `error`, `warn`, `info`, `debug`", "`info`", warned},
	{"OTEL_TRACES_EXPORTER", "`otlp`, `console`, a list of them, or `none`", "`otlp`", failing},
	{"OTEL_METRICS_EXPORTER", "`otlp`, `prometheus`, `console`, a list of them, or `none`", "`otlp`", failing},
	{"OTEL_LOGS_EXPORTER", "`otlp`, `console`, a list of them, or `none`", "`otlp`", failing},
	{"OTEL_EXPORTER_OTLP_{S}_ENDPOINT", "`http://` is plaintext, `https://` TLS, `unix:///path` a socket; `host:port` is plaintext on loopback", "`http://localhost:4317`", failing},
	{"OTEL_EXPORTER_OTLP_{S}_PROTOCOL", "`grpc` or `http/protobuf`", "`grpc`; `http/protobuf` on port 4318", warned},
	{"OTEL_EXPORTER_OTLP_{S}_HEADERS", "`key=value,...`, values percent-encoded; never shown", "", "warned of without its value; the others are used"},
	{"OTEL_EXPORTER_OTLP_{S}_COMPRESSION", "`gzip` or `none`", "`none`", warned},
	{"OTEL_EXPORTER_OTLP_{S}_TIMEOUT", "milliseconds for one batch, retries included", "`10000`", warned},
	{"OTEL_EXPORTER_OTLP_{S}_INSECURE", "`true` or `false`: plaintext or TLS, for an endpoint without a scheme", "", warned},
	{"OTEL_EXPORTER_OTLP_{S}_CERTIFICATE", "file of PEM certificates that the server's is checked against", "the system's", failing},
	{"OTEL_EXPORTER_OTLP_{S}_CLIENT_CERTIFICATE", "file of the client's PEM certificate, for mTLS", "", failing},
	{"OTEL_EXPORTER_OTLP_{S}_CLIENT_KEY", "file of its key", "", failing},
	{"OTEL_TRACES_SAMPLER", "`always_on`, `always_off`, `traceidratio`, or each with `parentbased_`", "`parentbased_always_on`", warned},
	{"OTEL_TRACES_SAMPLER_ARG", "ratio from 0 to 1", "`1`", "warned of; everything is sampled"},
	{"OTEL_BSP_MAX_QUEUE_SIZE", "spans that wait; more are dropped", "`2048`", warned},
	{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "spans of a batch", "`512`", warned},
	{"OTEL_BSP_SCHEDULE_DELAY", "milliseconds until a smaller batch is sent", "`5000`", warned},
	{"OTEL_BSP_EXPORT_TIMEOUT", "milliseconds for one batch, all exporters' own limits aside", "`30000`", warned},
	{"OTEL_BLRP_MAX_QUEUE_SIZE", "log records that wait; more are dropped", "`2048`", warned},
	{"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "log records of a batch", "`512`", warned},
	{"OTEL_BLRP_SCHEDULE_DELAY", "milliseconds until a smaller batch is sent", "`1000`", warned},
	{"OTEL_BLRP_EXPORT_TIMEOUT", "milliseconds for one batch, all exporters' own limits aside", "`30000`", warned},
	{"OTEL_METRIC_EXPORT_INTERVAL", "milliseconds between exports", "`15000`", warned},
	{"OTEL_METRIC_EXPORT_TIMEOUT", "milliseconds for one export", "`30000`", warned},
	{"OTEL_METRICS_EXEMPLAR_FILTER", "`trace_based`, `always_on` or `always_off`", "`trace_based`", warned},
	{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "`cumulative`, `delta` or `lowmemory`", "`cumulative`", warned},
	{"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "`explicit_bucket_histogram` or `base2_exponential_bucket_histogram`", "`explicit_bucket_histogram`", warned},
	{"OTEL_EXPORTER_PROMETHEUS_HOST", "host to serve `/metrics` on", "`localhost`", failing},
	{"OTEL_EXPORTER_PROMETHEUS_PORT", "port to serve `/metrics` on", "`9464`", warned + "; occupied: " + failing},
	{"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "longest text of an attribute, spans and logs", "no limit", warned},
	{"OTEL_ATTRIBUTE_COUNT_LIMIT", "attributes of a span or log record", "`128`", warned},
	{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "the same for spans only", "no limit", warned},
	{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "the same for spans only", "`128`", warned},
	{"OTEL_SPAN_EVENT_COUNT_LIMIT", "events of a span", "`128`", warned},
	{"OTEL_SPAN_LINK_COUNT_LIMIT", "links of a span", "`128`", warned},
	{"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "attributes of an event", "`128`", warned},
	{"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "attributes of a link", "`128`", warned},
	{"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "the same for log records only", "no limit", warned},
	{"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "the same for log records only", "`128`", warned},
}

const (
	warned  = "warned of; the default is used"
	failing = "error of Setup; that exporter is off"
)

func documentedNames() []string {
	var names []string
	for _, v := range documented {
		if !strings.Contains(v.name, "{S}_") {
			names = append(names, v.name)
			continue
		}
		for _, s := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
			names = append(names, strings.Replace(v.name, "{S}_", s, 1))
		}
	}
	slices.Sort(names)
	return names
}

// Every variable that is read is documented, and the other way round.
func TestEnvironmentIsDocumented(t *testing.T) {
	var mu sync.Mutex
	read := map[string]bool{}
	set := Env{
		"OTEL_METRICS_EXPORTER": "otlp,prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
	}
	tel, err := Setup(t.Context(), WithoutGlobals(), noNetwork, WithLookupEnv(func(name string) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(name, "OTEL_") {
			read[name] = true
		}
		v, ok := set[name]
		return v, ok
	}), WithDiagnostics((&DiagLog{}).Handler()))
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.Close(); err != nil {
		t.Error(err)
	}
	var names []string
	for name := range read {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(documentedNames(), names); diff != "" {
		t.Errorf("-documented +read:\n%s", diff)
	}
}

// ENVIRONMENT.md is written by this test: go test -run EnvironmentDocument -update
func TestEnvironmentDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by TestEnvironmentDocument; do not edit. -->\n\n# Environment variables\n\n" +
		"Read once by `telemetry.Setup`. They win over options; an empty one is an unset one. `{S}` is `TRACES`, `METRICS` or `LOGS`;\n" +
		"without it (`OTEL_EXPORTER_OTLP_ENDPOINT`) a variable holds for all signals that have none of their own. The general endpoint\n" +
		"is a base URL to which OTLP/HTTP adds `/v1/traces` and so on; a signal's own is used as it is.\n\n" +
		"| variable | meaning | default | wrong value |\n|---|---|---|---|\n")
	for _, v := range documented {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.name, v.meaning, v.def, v.bad)
	}
	if *update {
		if err := os.WriteFile("ENVIRONMENT.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("ENVIRONMENT.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("ENVIRONMENT.md, -there +written:\n%s", diff)
	}
}
