package otelconf

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/contrib/otelconf"
	"go.yaml.in/yaml/v3"

	"github.com/rpcscope/rpcscope/telemetry"
)

var configuration = reflect.TypeFor[otelconf.OpenTelemetryConfiguration]()

// checker holds a document against the types it will be decoded into: the
// decoder itself passes over keys that it does not know.
type checker struct {
	name     string
	problems []error
	warnings []telemetry.ConfigError
	lines    map[string]int        // by path
	seen     map[visit]bool        // an alias is checked once
	scraped  map[string]prometheus // by path
}

type visit struct {
	node *yaml.Node
	t    reflect.Type
}

func (c *checker) problemAt(line int, path, reason string) {
	if path != "" {
		path += ": "
	}
	err := fmt.Errorf("line %d: %s%s", line, path, reason)
	if !slices.ContainsFunc(c.problems, func(have error) bool { return have.Error() == err.Error() }) {
		c.problems = append(c.problems, err)
	}
}

// problem is problemAt for a path that has been checked.
func (c *checker) problem(path, reason string) { c.problemAt(c.lines[path], path, reason) }

func (c *checker) warn(path, reason, fallback string) {
	c.warnings = append(c.warnings, telemetry.ConfigError{Source: c.source(path), Reason: reason, Fallback: fallback})
}

// source names a place in the file.
func (c *checker) source(path string) string { return c.name + ": " + path }

var version = regexp.MustCompile(`^1\.0(-.*)?$`)

// format checks file_format, before the keys: other versions have others.
func (c *checker) format(root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		c.problemAt(root.Line, "", `want keys and values, file_format: "1.0" among them`)
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "file_format" {
			continue
		}
		if v := resolve(root.Content[i+1]); v.Kind != yaml.ScalarNode || !version.MatchString(v.Value) {
			c.problemAt(v.Line, "file_format", `want "1.0"`)
		}
		return
	}
	near := ""
	for i := 0; i+1 < len(root.Content); i += 2 {
		if k := root.Content[i]; distance(k.Value, "file_format") <= 3 {
			near = fmt.Sprintf("; line %d has %q", k.Line, k.Value)
		}
	}
	c.problemAt(root.Line, "file_format", `is missing; want "1.0"`+near)
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// enums are the types of which some texts only are values.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[otelconf.AttributeType]():                       {"string", "bool", "int", "double", "string_array", "bool_array", "int_array", "double_array"},
	reflect.TypeFor[otelconf.ExemplarFilter]():                      {"always_on", "always_off", "trace_based"},
	reflect.TypeFor[otelconf.ExporterDefaultHistogramAggregation](): {"explicit_bucket_histogram", "base2_exponential_bucket_histogram"},
	reflect.TypeFor[otelconf.ExporterTemporalityPreference]():       {"cumulative", "delta", "low_memory"},
	reflect.TypeFor[otelconf.InstrumentType]():                      {"counter", "gauge", "histogram", "observable_counter", "observable_gauge", "observable_up_down_counter", "up_down_counter"},
	reflect.TypeFor[otelconf.OTLPHttpEncoding]():                    {"protobuf", "json"},
	reflect.TypeFor[otelconf.SeverityNumber]():                      slices.Sorted(maps.Keys(levels)),
}

// check holds n, the value at path, against t.
func (c *checker) check(n *yaml.Node, t reflect.Type, path string) {
	n = resolve(n)
	c.lines[path] = n.Line
	nullable := false
	for t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	if c.seen[visit{n, t}] {
		return
	}
	c.seen[visit{n, t}] = true
	null := n.ShortTag() == "!!null"
	if null && (t.Kind() == reflect.Map || t.Kind() == reflect.Struct && !needs(t)) {
		*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line} // a key alone: all of its defaults
		null = false
	}
	switch {
	case null && nullable:
	case t == reflect.TypeFor[otelconf.Distribution]():
		c.warn(path, "is not supported", "the rest of the file")
	case t.Kind() == reflect.Struct:
		c.checkKeys(n, t, path)
		if t == reflect.TypeFor[prometheus]() {
			var p prometheus
			_ = n.Decode(&p) // what is wrong with it is a problem already
			c.scraped[path] = p
		}
	case t.Kind() == reflect.Map:
		if n.Kind != yaml.MappingNode || len(n.Content) > 0 {
			c.problemAt(n.Line, path, "takes no value")
		}
	case t.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			c.problemAt(n.Line, path, "want a list")
			return
		}
		for i, item := range n.Content {
			c.check(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		if want := c.wantScalar(n, t, path); want != "" {
			c.problemAt(n.Line, path, "want "+want)
		}
	}
}

// wantScalar returns what the value should be, "" if it is.
func (c *checker) wantScalar(n *yaml.Node, t reflect.Type, path string) string {
	tag := n.ShortTag()
	scalar := n.Kind == yaml.ScalarNode && tag != "!!null"
	switch t.Kind() {
	case reflect.Bool:
		if tag != "!!bool" {
			return "true or false"
		}
	case reflect.Int:
		low := bound(path)
		if v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 32); tag != "!!int" || err != nil || v < low {
			return fmt.Sprintf("a whole number >= %d", low)
		}
	case reflect.Float64:
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		number := (tag == "!!float" || tag == "!!int") && err == nil
		if strings.HasSuffix(path, ".ratio") && (!number || !(v >= 0 && v <= 1)) {
			return "a number from 0 to 1"
		}
		if !number {
			return "a number"
		}
	case reflect.String:
		allowed := enums[t]
		if allowed != nil && (!scalar || !slices.Contains(allowed, n.Value)) {
			return orList(allowed)
		}
		if !scalar {
			return "a text"
		}
	case reflect.Interface: // of an attribute
		if !scalar && n.Kind != yaml.SequenceNode {
			return "a text, a number, true, false or a list"
		}
	}
	return ""
}

// bound is the least value of a whole number.
func bound(path string) int64 {
	_, key := cutLast(path, ".")
	switch {
	case key == "max_scale":
		return -10
	case key == "max_size":
		return 2
	case key == "max_queue_size", key == "max_export_batch_size", strings.Contains(path, "cardinality_limit"):
		return 1
	}
	return 0
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	return s[:max(i, 0)], s[i+1:]
}

// key is a key of a mapping.
type key struct {
	name     string
	t        reflect.Type
	required bool
}

// prometheus is what is known here of an exporter that is experimental, and
// missing in the types for that reason.
type prometheus struct {
	Host *string `yaml:"host,omitempty"`
	Port *int    `yaml:"port,omitempty"`
}

const prometheusKey = "prometheus/development"

// keys returns the keys of a struct. Those without omitempty are required.
func keys(t reflect.Type) []key {
	if t == reflect.TypeFor[otelconf.PullMetricExporter]() {
		return []key{{name: prometheusKey, t: reflect.TypeFor[*prometheus]()}}
	}
	var out []key
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		// Null is the default endpoint; nothing at all is more likely forgotten.
		required := options != "omitempty" || name == "endpoint"
		out = append(out, key{name, f.Type, required})
	}
	slices.SortFunc(out, func(a, b key) int { return strings.Compare(a.name, b.name) })
	return out
}

// needs reports whether a struct has required keys.
func needs(t reflect.Type) bool {
	return slices.ContainsFunc(keys(t), func(k key) bool { return k.required })
}

// experimental are the keys of the schema that no type here has. Files are
// shared between languages: what stands there for others is no mistake.
var experimental = []string{
	"composite/development", "detection/development", "instrumentation/development", "jaeger_remote/development",
	"logger_configurator/development", "meter_configurator/development", "otlp_file/development", "probability/development",
	"tracer_configurator/development", "translation_strategy", "with_resource_constant_labels",
	"without_scope_info", "without_target_info", "without_target_info/development",
}

func (c *checker) checkKeys(n *yaml.Node, t reflect.Type, path string) {
	known := keys(t)
	if n.Kind != yaml.MappingNode {
		c.problemAt(n.Line, path, "want "+orList(names(known))+", as a key")
		return
	}
	found := map[string]bool{}
	var flat []*yaml.Node // without merges, which some of the decoder's types do not see
	c.eachKey(n, func(k, v *yaml.Node) {
		flat = append(flat, k, v)
		at := join(path, k.Value)
		i := slices.IndexFunc(known, func(one key) bool { return one.name == k.Value })
		switch {
		case found[k.Value]:
			c.problemAt(k.Line, at, "stands there twice")
		case i >= 0:
			c.check(v, known[i].t, at)
		case slices.Contains(experimental, k.Value):
			c.warn(at, "is experimental and not supported", "the rest of the file")
		default:
			c.problemAt(k.Line, at, unknown(k.Value, names(known)))
		}
		found[k.Value] = true
	})
	n.Content = flat
	for _, k := range known {
		if k.required && !found[k.name] {
			c.problemAt(n.Line, join(path, k.name), "is missing")
		}
	}
}

// eachKey visits the keys of a mapping, and those that it merges with "<<",
// unless the mapping has them itself.
func (c *checker) eachKey(n *yaml.Node, visit func(k, v *yaml.Node)) {
	own := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		if k.ShortTag() != "!!merge" {
			own[k.Value] = true
			visit(k, n.Content[i+1])
			continue
		}
		if v.Kind == yaml.SequenceNode {
			merged = append(merged, v.Content...)
		} else {
			merged = append(merged, v)
		}
	}
	for _, m := range merged {
		c.eachKey(resolve(m), func(k, v *yaml.Node) {
			if !own[k.Value] {
				own[k.Value] = true
				visit(k, v)
			}
		})
	}
}

func names(keys []key) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.name)
	}
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknown says what a key that does not exist was probably meant to be.
func unknown(name string, allowed []string) string {
	near, least := "", len(name)/2+1
	for _, a := range allowed {
		if d := distance(name, a); d < least {
			near, least = a, d
		}
	}
	if near != "" {
		near = ", did you mean " + near
	}
	return "no such key" + near + "; want " + orList(allowed)
}

// distance is the number of edits between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// orList renders "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
