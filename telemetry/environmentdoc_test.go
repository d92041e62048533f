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

// names returns the names a variable stands for.
func (v variable) names() []string {
	if !strings.Contains(v.name, "{S}_") {
		return []string{v.name}
	}
	var names []string
	for _, s := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		names = append(names, strings.Replace(v.name, "{S}_", s, 1))
	}
	return names
}

func documentedNames() []string {
	var names []string
	for _, v := range variables(tlsFiles{}) {
		names = append(names, v.names()...)
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
	for _, v := range ignored { // read to be warned of
		if !read[v.name] {
			t.Errorf("%s is not looked at", v.name)
		}
		delete(read, v.name)
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

// Every variable that the specification names is honoured, or listed with the
// reason why not. testdata/specification.txt has the names that occur in
// specification/ of https://github.com/open-telemetry/opentelemetry-specification
// at the commit its first line names.
func TestSpecificationIsCovered(t *testing.T) {
	text, err := os.ReadFile("testdata/specification.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := documentedNames()
	for _, u := range notHonoured {
		known = append(known, u[0])
	}
	for _, x := range elsewhere {
		known = append(known, strings.Split(x[0], ", ")...)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		if !slices.Contains(known, line) {
			t.Errorf("nothing is said of %s", line)
		}
	}
	if n < 60 {
		t.Errorf("the list has only %d names", n)
	}
}

// ENVIRONMENT.md is written by this test: go test -run EnvironmentDocument -update
func TestEnvironmentDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by TestEnvironmentDocument; do not edit. -->\n\n# Environment variables\n\n" +
		"Read once by `telemetry.Setup`. They win over options; an empty one is an unset one, and so is one whose value is wrong and only\n" +
		"warned of. `{S}` is `TRACES`, `METRICS` or `LOGS`; without it (`OTEL_EXPORTER_OTLP_ENDPOINT`) a variable holds for all signals that\n" +
		"have none of their own. The general endpoint is a base URL to which OTLP/HTTP adds `/v1/traces` and so on; a signal's own is used\n" +
		"as it is. White space around a value does not count, nor does the case of a name such as `gzip`. `Telemetry.Config` tells what became\n" +
		"of each, `Telemetry.Warnings` what was wrong.\n\n" +
		"| variable | meaning | default | option | on bad input |\n|---|---|---|---|---|\n")
	for _, v := range variables(tlsFiles{}) {
		def := v.defText
		if def == "" && v.def != "" {
			def = "`" + v.def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", v.name, v.meaning, def, fixed(v.option), v.bad)
	}
	table := func(title, text, head string, rows [][2]string) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| %s |  |\n|---|---|\n", title, text, head)
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s | %s |\n", fixed(r[0]), r[1])
		}
	}
	table("Not honoured", "The specification names these too.", "variable", notHonoured)
	table("Values not taken", "Each is warned of, or an error of Setup, as above.", "value", valuesNotTaken)
	table("Read elsewhere", "From the process's own environment, whatever `WithLookupEnv` says.", "variable", elsewhere)
	golden(t, "../ENVIRONMENT.md", []byte(b.String()))
}

// fixed sets each item of a list in a fixed-width font.
func fixed(list string) string {
	if list == "" || strings.Contains(list, "=") {
		return strings.TrimSuffix("`"+list+"`", "``")
	}
	return "`" + strings.ReplaceAll(list, ", ", "`, `") + "`"
}
