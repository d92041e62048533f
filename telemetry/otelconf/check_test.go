package otelconf

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// fullFile parses testdata/full.yaml.
func fullFile(t *testing.T) *yaml.Node {
	t.Helper()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// asFile writes a document to a file.
func asFile(t *testing.T, root *yaml.Node) string {
	t.Helper()
	text, err := yaml.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(text))
}

// fullEnv holds what full.yaml refers to.
var fullEnv = environment{"API_KEY": secret}

const secret = "hunter2-s3cr3t"

// full.yaml has every key of every type: what the tests below do to each of
// its keys and values they do to each of the schema's.
func TestFullIsFull(t *testing.T) {
	present := map[string]bool{}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				present[child.Value] = true
			}
			walk(child)
		}
	}
	walk(fullFile(t))
	seen := map[reflect.Type]bool{}
	var need func(rt reflect.Type)
	need = func(rt reflect.Type) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct || seen[rt] {
			return
		}
		seen[rt] = true
		for _, k := range keys(rt) {
			if !present[k.name] {
				t.Errorf("full.yaml lacks %s of %s", k.name, rt.Name())
			}
			need(k.t)
		}
	}
	need(configuration)
	if len(seen) < 35 {
		t.Errorf("the schema has %d types only", len(seen))
	}
	f, err := Read("testdata/full.yaml", fullEnv.lookup)
	if err != nil {
		t.Fatalf("full.yaml: %v", err)
	}
	if len(f.Traces) != 3 || len(f.Metrics) != 4 || len(f.Logs) != 3 {
		t.Errorf("exporters are %d, %d, %d", len(f.Traces), len(f.Metrics), len(f.Logs))
	}
	var warnings []string
	for _, w := range f.Warnings {
		warnings = append(warnings, strings.TrimPrefix(w.Error(), "testdata/full.yaml: "))
	}
	want := []string{
		"distribution: is not supported; using the rest of the file",
		"meter_provider.readers[3].pull.exporter.prometheus/development.without_scope_info: is experimental and not supported; using the rest of the file",
		"instrumentation/development: is experimental and not supported; using the rest of the file",
		"resource.schema_url: is not supported; using the schema of the detected resource",
		"meter_provider.readers[0].periodic.producers: is not supported; using the rest of the file",
		"meter_provider.readers[3].pull.cardinality_limits: is not supported; using no limit",
		"meter_provider.readers[3].pull.producers: is not supported; using the rest of the file",
		"meter_provider.views[0].stream.aggregation_cardinality_limit: is not supported; a reader has cardinality_limits; using those of the reader",
		"logger_provider.processors[2].simple: every call would wait for the network; using batch",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings, -want +got:\n%s", diff)
	}
}

// Each key of the full file, misspelt, is an error that names the line, the
// path, and the key that was meant.
func TestMisspeltKeyAnywhere(t *testing.T) { // rule 32
	root := fullFile(t)
	n := 0
	var walk func(node *yaml.Node, path string)
	walk = func(node *yaml.Node, path string) {
		for i, child := range node.Content {
			switch {
			case node.Kind == yaml.SequenceNode:
				walk(child, fmt.Sprintf("%s[%d]", path, i))
			case node.Kind == yaml.MappingNode && i%2 == 0:
				at := join(path, child.Value)
				if node.Content[i+1].Kind != yaml.AliasNode && child.Value != "distribution" && child.Value != "instrumentation/development" {
					walk(node.Content[i+1], at)
				}
				if path == "" && child.Value == "file_format" {
					continue
				}
				right := child.Value
				child.Value = right[:len(right)-1] + "q"
				wrong := join(path, child.Value)
				_, err := Read(asFile(t, root), fullEnv.lookup)
				child.Value = right
				want := wrong + ": no such key, did you mean " + right + "; want "
				if strings.HasPrefix(right, "without_scope") { // experimental: not among those that are allowed
					want = wrong + ": no such key; want host or port"
				} else if right == "instrumentation/development" {
					want = wrong + ": no such key; want "
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s for %s: error is\n%v\nwant in it: %s", wrong, right, err, want)
				}
				n++
			}
		}
	}
	walk(root, "")
	if n < 150 {
		t.Errorf("%d keys were tried only", n)
	}
	t.Logf("%d keys", n)
}

// Values that are wrong are errors or warnings that do not show them: any
// could be a secret, or hold one by mistake.
func TestNoValueIsShown(t *testing.T) { // rules 29, 32
	root := fullFile(t)
	n := 0
	var walk func(node *yaml.Node, key string)
	walk = func(node *yaml.Node, key string) {
		for i, child := range node.Content {
			name := key
			if node.Kind == yaml.MappingNode {
				if i%2 == 0 {
					continue
				}
				name = node.Content[i-1].Value
			}
			if child.Kind != yaml.ScalarNode {
				walk(child, name)
				continue
			}
			old := *child
			for _, wrong := range []yaml.Node{
				{Kind: yaml.ScalarNode, Value: secret},
				{Kind: yaml.ScalarNode, Value: "${API_KEY}"},
				{Kind: yaml.ScalarNode, Value: "${API_KEY:?" + secret + "}"},
				{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: secret}}},
				{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "k"}, {Kind: yaml.ScalarNode, Value: secret}}},
			} {
				*child = wrong
				f, err := Read(asFile(t, root), fullEnv.lookup)
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s: %v", name, err)
				}
				if f != nil && strings.Contains(fmt.Sprint(f.Warnings), secret) {
					t.Errorf("%s: %v", name, f.Warnings)
				}
				n++
			}
			*child = old
		}
	}
	walk(root, "")
	if n < 500 {
		t.Errorf("%d values were tried only", n)
	}
}

func TestProblems(t *testing.T) {
	exporter := "exporter: {console: }"
	for _, tt := range []struct{ name, text, want string }{
		{"the line and the path", lines("tracer_provider:", "  processors:", "    - batch:", "        exporter:", "          otlp_grpc:", "            endpoints: x"),
			"line 7: tracer_provider.processors[0].batch.exporter.otlp_grpc.endpoints: no such key, did you mean endpoint; want compression, endpoint, headers, headers_list, timeout or tls\n" +
				"line 7: tracer_provider.processors[0].batch.exporter.otlp_grpc.endpoint: is missing"},
		{"nothing near", lines("qqq: 1"), "line 2: qqq: no such key; want attribute_limits, disabled, distribution, file_format, log_level, logger_provider, meter_provider, propagator, resource or tracer_provider"},
		{"all at once", lines("disabled: maybe", "log_level: loud"), "line 2: disabled: want true or false\n" +
			"line 3: log_level: want debug, debug2, debug3, debug4, error, error2, error3, error4, fatal, fatal2, fatal3, fatal4, info, info2, info3, info4, trace, trace2, trace3, trace4, warn, warn2, warn3 or warn4"},
		{"twice", lines("disabled: true", "disabled: false"), "line 3: disabled: stands there twice"},
		{"a list", lines("tracer_provider: {processors: {}}"), "line 2: tracer_provider.processors: want a list"},
		{"keys", lines("tracer_provider: 1"), "line 2: tracer_provider: want limits, processors or sampler, as a key"},
		{"missing", lines("tracer_provider: {}"), "line 2: tracer_provider.processors: is missing"},
		{"null", lines("logger_provider: {processors: [{batch: {exporter: }}]}"), "line 2: logger_provider.processors[0].batch.exporter: want one of console, otlp_grpc or otlp_http"},
		{"a whole number", lines("attribute_limits: {attribute_count_limit: many}"), "line 2: attribute_limits.attribute_count_limit: want a whole number >= 0"},
		{"a negative number", lines("tracer_provider: {processors: [{batch: {max_queue_size: 0, " + exporter + "}}]}"), "line 2: tracer_provider.processors[0].batch.max_queue_size: want a whole number >= 1"},
		{"too large a number", lines("attribute_limits: {attribute_count_limit: 99999999999}"), "line 2: attribute_limits.attribute_count_limit: want a whole number >= 0"},
		{"a ratio", lines("tracer_provider: {processors: [], sampler: {trace_id_ratio_based: {ratio: 10}}}"), "line 2: tracer_provider.sampler.trace_id_ratio_based.ratio: want a number from 0 to 1"},
		{"not a number", lines("tracer_provider: {processors: [], sampler: {trace_id_ratio_based: {ratio: .nan}}}"), "line 2: tracer_provider.sampler.trace_id_ratio_based.ratio: want a number from 0 to 1"},
		{"a number", lines("meter_provider: {readers: [], views: [{selector: {instrument_name: x}, stream: {aggregation: {explicit_bucket_histogram: {boundaries: [a]}}}}]}"),
			"line 2: meter_provider.views[0].stream.aggregation.explicit_bucket_histogram.boundaries[0]: want a number"},
		{"a text", lines("resource: {attributes: [{name: [a], value: 1}]}"), "line 2: resource.attributes[0].name: want a text"},
		{"no value", lines("propagator: {composite: [{baggage: 1}]}"), "line 2: propagator.composite[0].baggage: takes no value"},
		{"an attribute", lines("resource: {attributes: [{name: a, value: {b: 1}}]}"), "line 2: resource.attributes[0].value: want a text, a number, true, false or a list"},
		{"an attribute's name", lines("resource: {attributes: [{name: '', value: 1}]}"), "line 2: resource.attributes[0].name: want a text that is not empty"},
		{"an attribute's type", lines("resource: {attributes: [{name: a, value: x, type: int}, {name: b, value: 1, type: int_array}, {name: c, value: [1], type: int}, {name: d, value: [1, x]}]}"),
			"line 2: resource.attributes[0].value: want what type says: int\n" +
				"line 2: resource.attributes[1].value: want a list, as type is int_array\n" +
				"line 2: resource.attributes[2].value: want one value, as type is int\n" +
				"line 2: resource.attributes[3].value: want what type says: int_array"},
		{"one processor", lines("tracer_provider: {processors: [{}, {batch: {" + exporter + "}, simple: {" + exporter + "}}]}"),
			"line 2: tracer_provider.processors[0]: want one of batch or simple\nline 2: tracer_provider.processors[1]: want one of batch or simple"},
		{"one exporter", lines("tracer_provider: {processors: [{batch: {exporter: {console: , otlp_grpc: {endpoint: }}}}]}"), "line 2: tracer_provider.processors[0].batch.exporter: want one of console, otlp_grpc or otlp_http"},
		{"one reader", lines("meter_provider: {readers: [{}]}"), "line 2: meter_provider.readers[0]: want one of periodic or pull"},
		{"one sampler", lines("tracer_provider: {processors: [], sampler: {parent_based: {root: {}}}}"), "line 2: tracer_provider.sampler.parent_based.root: want one of always_on, always_off, parent_based or trace_id_ratio_based"},
		{"a scraped exporter", lines("meter_provider: {readers: [{pull: {exporter: {}}}]}"), "line 2: meter_provider.readers[0].pull.exporter: want prometheus/development"},
		{"one scraped exporter", lines("meter_provider: {readers: [{pull: {exporter: {prometheus/development: }}}, {pull: {exporter: {prometheus/development: }}}]}"),
			"line 2: meter_provider.readers[1].pull.exporter.prometheus/development: want one for all"},
		{"an empty selector", lines("meter_provider: {readers: [], views: [{selector: {}, stream: {}}]}"), `line 2: meter_provider.views[0].selector: want at least one key; instrument_name: "*" selects every instrument`},
		{"a name for many", lines("meter_provider: {readers: [], views: [{selector: {instrument_name: 'a*'}, stream: {name: b}}]}"), "line 2: meter_provider.views[0].stream.name: several instruments cannot have one name; want an instrument_name without * and ?"},
		{"a certificate without its key", lines("tracer_provider: {processors: [{batch: {exporter: {otlp_http: {endpoint: , tls: {cert_file: a}}}}}]}"),
			"line 2: tracer_provider.processors[0].batch.exporter.otlp_http.tls: want cert_file and key_file, or neither"},
		{"a header", lines("tracer_provider: {processors: [{batch: {exporter: {otlp_http: {endpoint: , headers: [{name: 'a=b', value: x}]}}}}]}"),
			"line 2: tracer_provider.processors[0].batch.exporter.otlp_http.headers[0].name: want the name of a header"},
		{"an aliased key", lines("x: &x {endpoint: , quick: 1}", "tracer_provider: {processors: [{batch: {exporter: {otlp_http: *x}}}]}"), "line 2: x: no such key; want"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := problems(t, tt.text, nil)
			if strings.HasSuffix(tt.want, "; want") && strings.HasPrefix(got, tt.want) {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Files that are no configuration at all.
func TestUnusableFiles(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", `is empty; want at least file_format: "1.0" and the providers of the signals`},
		{"comments only", "# nothing\n", `is empty; want at least file_format: "1.0" and the providers of the signals`},
		{"null", "---\n", `is empty; want at least file_format: "1.0" and the providers of the signals`},
		{"no YAML", "a: b: c\n", "is no YAML: mapping values are not allowed in this context"},
		{"two documents", lines() + "---\nfile_format: x\n", "has more than one document; want one"},
		{"a list", "- a\n", `line 1: want keys and values, file_format: "1.0" among them`},
		{"no version", "disabled: true\n", `line 1: file_format: is missing; want "1.0"`},
		{"a misspelt version", "disabled: true\nfile_fromat: '1.0'\n", `line 1: file_format: is missing; want "1.0"; line 2 has "file_fromat"`},
		{"an old version", "file_format: '0.3'\nqqq: 1\n", `line 1: file_format: want "1.0"`},
		{"a newer version", "file_format: '1.1'\n", `line 1: file_format: want "1.0"`},
		{"no text", "file_format: [1.0]\n", `line 1: file_format: want "1.0"`},
		{"a number", "file_format: 1.0\n", ""},
		{"a candidate", "file_format: 1.0-rc.3\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := problems(t, tt.text, nil); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	_, err := Read(filepath.Join(t.TempDir(), "absent.yaml"), environment{}.lookup)
	if err == nil || err.Error() != "cannot be read: no such file or directory" {
		t.Errorf("an absent file: %v", err)
	}
	if _, err = Read(t.TempDir(), environment{}.lookup); err == nil || !strings.HasPrefix(err.Error(), "cannot be read: ") {
		t.Errorf("a folder: %v", err)
	}
}

// Keys may be shared with anchors, aliases and merges.
func TestMerge(t *testing.T) {
	f, err := Read(file(t, lines(
		"tracer_provider: {processors: [{batch: {exporter: {otlp_grpc: &x {endpoint: http://one:4317, timeout: 1}}}}, {batch: {exporter: {otlp_grpc: {<<: *x, timeout: 2}}}}]}",
		"logger_provider: {processors: [{batch: {exporter: {otlp_grpc: *x}}}, {batch: {exporter: {otlp_grpc: {<<: [{timeout: 3}, *x]}}}}]}")), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range slices.Concat(f.Traces, f.Logs) {
		for _, signal := range []string{"TRACES", "LOGS"} {
			if v, ok := x.Variables["OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT"]; ok {
				got = append(got, v.Value+" "+x.Variables["OTEL_EXPORTER_OTLP_"+signal+"_TIMEOUT"].Value)
			}
		}
	}
	want := []string{"http://one:4317 1", "http://one:4317 2", "http://one:4317 1", "http://one:4317 3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"processors", "procesors", 1}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) is %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
