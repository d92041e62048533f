package telemetry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// setupFile is Setup with a file that says what read returns.
func setupFile(t *testing.T, env Env, read ReadConfigFile, opts ...Option) (*Telemetry, error) {
	t.Helper()
	tel, err := Setup(t.Context(), append([]Option{WithoutGlobals(), noNetwork, env.Option(), WithDiagnostics((&DiagLog{}).Handler()), WithConfigFile("", read)}, opts...)...)
	t.Cleanup(func() { _ = tel.Close() })
	return tel, err
}

var fileEnv = Env{"OTEL_CONFIG_FILE": "otel.yaml", "OTEL_SERVICE_NAME": "ignored", "OTEL_TRACES_EXPORTER": "nonsense", "NAME": "users"}

// What a file says replaces the environment, and wins over options; each
// exporter has settings of its own, which say where they stand.
func TestConfigFile(t *testing.T) { // rule 31
	tel, err := setupFile(t, fileEnv, func(name string, lookup func(string) (string, bool)) (*ConfigFile, error) {
		service, _ := lookup("NAME")
		return &ConfigFile{
			Variables: Variables{"OTEL_SPAN_EVENT_COUNT_LIMIT": {"7", name + ": events"}},
			Traces: []FileExporter{
				{Name: "otlp", Variables: Variables{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"http://one:4317", name + ": one"}, "OTEL_BSP_MAX_QUEUE_SIZE": {"-1", name + ": queue"}}},
				{Name: "otlp", Variables: Variables{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"http://two:4318/v1/traces", name + ": two"}}},
				{Name: "otlp", Variables: Variables{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"three:4317", name + ": three"}}},
			},
			Options:  []Option{WithServiceName(service), nil},
			Warnings: []ConfigError{{Source: name, Reason: "odd", Fallback: "another"}},
		}, nil
	}, WithServiceName("option"), WithSampleRatio(0.5))
	if want := `otel.yaml: three="three:4317"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want in it: %s", err, want)
	}
	var warnings []string
	for _, w := range tel.Warnings() {
		warnings = append(warnings, w.Error())
	}
	if diff := cmp.Diff([]string{"otel.yaml: odd; using another", `otel.yaml: queue="-1": want a whole number > 0; using 2048`}, warnings); diff != "" {
		t.Errorf("warnings, -want +got:\n%s", diff)
	}
	for _, want := range []Setting{
		{"config_file", "otel.yaml", "OTEL_CONFIG_FILE"},
		{"service.name", "users", "WithServiceName"},
		{"traces.exporters", "otlp,otlp,otlp", "OTEL_CONFIG_FILE"},
		{"traces.event_count", "7", "otel.yaml: events"},
		{"traces.endpoint", "http://one:4317", "otel.yaml: one"},
		{"traces.protocol", "grpc", "default"},
		{"traces.queue_size", "2048", "default"},
		{"traces[1].endpoint", "http://two:4318/v1/traces", "otel.yaml: two"},
		{"traces[1].protocol", "http/protobuf", "the endpoint's port"},
		{"traces.sampler", "ParentBased{root:TraceIDRatioBased{0.5},remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}", "WithSampleRatio"},
		{"metrics.exporters", "none", "OTEL_CONFIG_FILE"},
	} {
		if got, _ := tel.Config().Get(want.Name); got != want {
			t.Errorf("setting is %v, want %v", got, want)
		}
	}
	seen := map[string]bool{}
	for _, s := range tel.Config().Settings {
		if seen[s.Name] {
			t.Errorf("%s is listed twice", s.Name)
		}
		seen[s.Name] = true
	}
	stats := tel.Stats()
	if stats.Traces.State != StateIdle || stats.Metrics.State != StateOff || stats.Logs.State != StateOff {
		t.Errorf("states are %s, %s, %s", stats.Traces.State, stats.Metrics.State, stats.Logs.State)
	}
}

// A file that cannot be used is an error for each thing that is wrong with it,
// and nothing is exported; the handle works.
func TestConfigFileUnusable(t *testing.T) { // rule 32
	tel, err := setupFile(t, fileEnv, func(string, func(string) (string, bool)) (*ConfigFile, error) {
		return nil, errors.Join(errors.New("line 3: one"), errors.New("line 7: two"))
	})
	want := `OTEL_CONFIG_FILE="otel.yaml": line 3: one; nothing is exported` + "\n" + `OTEL_CONFIG_FILE="otel.yaml": line 7: two; nothing is exported`
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v\nwant\n%s", err, want)
	}
	if stats := tel.Stats(); stats.Traces.State != StateOff || stats.Metrics.State != StateOff || stats.Logs.State != StateOff {
		t.Errorf("stats are %+v", stats)
	}
	if fields := tel.Propagator().Fields(); len(fields) == 0 {
		t.Error("nothing is propagated")
	}
	_, err = setupFile(t, fileEnv, func(string, func(string) (string, bool)) (*ConfigFile, error) { return nil, nil })
	if err == nil || !strings.Contains(err.Error(), "nothing was read") {
		t.Errorf("a reader that returns nothing: error is %v", err)
	}
}

// Without a reader the variable has no effect, and a warning says what would give it one.
func TestConfigFileWithoutReader(t *testing.T) {
	tel, err := setupFile(t, Env{"OTEL_CONFIG_FILE": "otel.yaml", "OTEL_SERVICE_NAME": "users"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := tel.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), `OTEL_CONFIG_FILE="otel.yaml": `) || !strings.Contains(w[0].Error(), "otelconf.FromEnvironment()") {
		t.Errorf("warnings are %v", w)
	}
	if s, _ := tel.Config().Get("service.name"); s.Value != "users" {
		t.Errorf("service.name is %v", s)
	}
}

// The variable wins over the name that the program gives; without either no file is read.
func TestConfigFileName(t *testing.T) {
	for _, tt := range []struct{ variable, name, want string }{{"", "", ""}, {"", "own.yaml", "own.yaml"}, {"otel.yaml", "own.yaml", "otel.yaml"}} {
		got := ""
		_, err := setupFile(t, Env{"OTEL_CONFIG_FILE": tt.variable}, nil, WithConfigFile(tt.name, func(name string, _ func(string) (string, bool)) (*ConfigFile, error) {
			got = name
			return &ConfigFile{}, nil
		}))
		if err != nil || got != tt.want {
			t.Errorf("%q, %q: read %q, want %q; error %v", tt.variable, tt.name, got, tt.want, err)
		}
	}
}
