package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Every program becomes ready, and says what its set-up took: package
// telemetry allocates less than either of the others. That does not depend on
// the machine, as times do.
func TestPrograms(t *testing.T) {
	results, err := measure(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*result{}
	for _, r := range results {
		by[r.name] = r
		if r.size < 1e6 || r.modules == 0 || len(r.millis) != 3 || r.millis[0] <= 0 || len(r.allocs) != 4 {
			t.Errorf("%s: %+v", r.name, r)
		}
		if r.name != "bare" && quartiles(r.allocs)[1] < 100 {
			t.Errorf("%s sets nothing up: %v allocations", r.name, r.allocs)
		}
	}
	for _, pair := range [][2]string{{"rpcscope", "autoexport"}, {"rpcscope-file", "otelconf"}} {
		ours, theirs := by[pair[0]], by[pair[1]]
		if quartiles(ours.allocs)[1] >= quartiles(theirs.allocs)[1] || quartiles(ours.bytes)[1] >= quartiles(theirs.bytes)[1] {
			t.Errorf("%s allocates %v, %v bytes; %s %v, %v", ours.name, ours.allocs, ours.bytes, theirs.name, theirs.allocs, theirs.bytes)
		}
	}
}

// Programs with a file see no variable that says the same, and the machine's own none.
func TestEnvironment(t *testing.T) {
	own := []string{"PATH=/bin", "OTEL_TRACES_EXPORTER=none"}
	got := environment(own, true)
	if !slices.Equal(got, []string{"PATH=/bin", "OTEL_CONFIG_FILE=otel.yaml"}) {
		t.Errorf("with a file: %q", got)
	}
	if got := environment(own, false); slices.Contains(got, own[1]) || !slices.Contains(got, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc") {
		t.Errorf("without: %q", got)
	}
}

func TestTable(t *testing.T) {
	got := table([]*result{{program: program{title: "one"}, size: 12_340_000, modules: 5, millis: []float64{3, 1, 2}, ratios: []float64{1, 2, 3}, allocs: []float64{10, 30, 20}, bytes: []float64{4000, 5000, 6000}}})
	want := "| one | 12.3 MB | 5 | 2.0 ms | 2.00 (2.00-3.00) | 20, 5 KB |\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The README has the place that the table is written to, and a text without it is an error.
func TestReplace(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	got, err := replace(string(readme), "TABLE\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, tableBegin+"\nTABLE\n\n"+tableEnd) {
		t.Error("the table is not between its lines")
	}
	if _, err := replace("nothing", ""); err == nil {
		t.Error("no error without the lines")
	}
}
