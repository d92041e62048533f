package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRatiosArePaired(t *testing.T) {
	// The machine is ten times slower in the last round, for both.
	r := &result{samples: map[string][]sample{
		"base":  {{time: 100}, {time: 100}, {time: 1000}},
		"other": {{time: 150}, {time: 200}, {time: 2500}},
	}}
	if diff := cmp.Diff([]float64{1.5, 2, 2.5}, r.ratios("other", "base", timeOf)); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
	if got, want := r.spread("other", "base", timeOf), "2.00 (1.75-2.25)"; got != want {
		t.Errorf("spread is %s, want %s", got, want)
	}
	if got, want := r.median("other", timeOf), 200.0; got != want {
		t.Errorf("median is %v, want %v", got, want)
	}
}

func TestTurns(t *testing.T) {
	first := make(map[int]bool)
	for round := range 6 {
		var order []int
		seen := make(map[int]bool)
		for i := range 3 {
			order = append(order, turn(round, i, 3))
			seen[order[i]] = true
		}
		if len(seen) != 3 {
			t.Errorf("round %d: %v leaves somebody out", round, order)
		}
		first[order[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v are ever first", first)
	}
}

func TestTables(t *testing.T) {
	samples := make(map[string][]sample)
	for i, c := range contenders {
		n := float64(i + 1)
		samples[c.name] = []sample{{time: 1000 * n, cpu: 2000 * n, allocs: 10 * n, bytes: 100 * n, goroutines: n, heap: 1000 * n, stack: 2000 * n}}
	}
	of := func(s scenario) *result {
		return &result{scenario: s, contenders: contenders, calls: 7, samples: samples}
	}
	got := readmeTables([]*result{
		of(scenario{name: "unary", call: unary, ratio: 0.01, serverOnly: true, readme: true}),
		of(scenario{name: "bidi-tcp", call: bidi, ratio: 1, tcp: true}),
		of(scenario{name: "open", call: bidi, ratio: 1, open: 5}),
	})
	const want = `| allocations per call | bare | otelgrpc | grpc's own | assembled | rpcscope | rpcscope on otelgrpc | rpcscope + 4 interceptors |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| unary, 1 % sampled, server only | 10 | 20 | 30 | 40 | 50 | 60 | 70 |

| CPU time per call, in otelgrpc's | bare | otelgrpc | grpc's own | assembled | rpcscope | rpcscope on otelgrpc | rpcscope + 4 interceptors |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| unary, 1 % sampled, server only | 0.50 (0.50-0.50) | 1.00 (1.00-1.00) | 1.50 (1.50-1.50) | 2.00 (2.00-2.00) | 2.50 (2.50-2.50) | 3.00 (3.00-3.00) | 3.50 (3.50-3.50) |

| per open stream | bare | otelgrpc | grpc's own | assembled | rpcscope | rpcscope on otelgrpc | rpcscope + 4 interceptors |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| goroutines | 1.00 | 2.00 | 3.00 | 4.00 | 5.00 | 6.00 | 7.00 |
| heap KB | 1.00 | 2.00 | 3.00 | 4.00 | 5.00 | 6.00 | 7.00 |
| stack KB | 2.00 | 4.00 | 6.00 | 8.00 | 10.00 | 12.00 | 14.00 |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README (-want +got):\n%s", diff)
	}
	results := resultsFile([]*result{of(scenario{name: "bidi-tcp", call: bidi, ratio: 1, tcp: true})}, []string{"Go: go1"})
	for _, want := range []string{
		"- Go: go1\n",
		"## bidi-tcp: bidi stream of 100, TCP (1 rounds of 7)\n",
		"| rpcscope | 50.0 | 500 | 10.0 | 5.0 | 5.000 | 5.00 (5.00-5.00) | 5.00 (5.00-5.00) | 2.500 |",
	} {
		if !strings.Contains(results, want) {
			t.Errorf("RESULTS.md lacks %q:\n%s", want, results)
		}
	}
}

func TestREADMETakesTables(t *testing.T) {
	readme, err := os.ReadFile(readmePath)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := tables.Replace(string(readme), "| new |\n"); err != nil || !strings.Contains(changed, "\n| new |\n\n<!-- end") {
		t.Errorf("got %v, %q", err, changed)
	}
}

func TestChoose(t *testing.T) {
	name := func(s string) string { return s }
	all := []string{"unary", "unary-tcp", "open"}
	got, err := choose(all, "open,unary*", name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("chosen (-want +got):\n%s", diff)
	}
	if _, err := choose(all, "bidi", name); err == nil || !strings.Contains(err.Error(), "unary, unary-tcp, open") {
		t.Errorf("error %v, want one that names what there is", err)
	}
}
