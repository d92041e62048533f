package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is measured lets calls pass, with a connection and without one.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			r, err := newRig(s, s.ours())
			if err != nil {
				t.Fatal(err)
			}
			if err := r.call(3); err != nil {
				t.Error(err)
			}
			if err := r.close(); err != nil {
				t.Error(err)
			}
			a, err := newAlone(s)
			if err != nil {
				t.Fatal(err)
			}
			defer a.cancel()
			if err := a.ours(); err != nil {
				t.Errorf("alone: %v", err)
			}
			if (a.theirs == nil) != (s.peer == "") {
				t.Fatalf("the peer is %q, but is measured: %v", s.peer, a.theirs != nil)
			}
			if a.theirs != nil {
				if err := a.theirs(); err != nil {
					t.Errorf("go-grpc-middleware's: %v", err)
				}
			}
		})
	}
}

func TestTable(t *testing.T) {
	got := table([]*result{
		{scenario: scenario{name: "A", peer: "a"}, added: 1.9, ours: 1, theirs: 0, times: []time.Duration{1000, 3000, 2000}, ratios: []float64{1, 3, 2}},
		{scenario: scenario{name: "B"}, added: -0.1, ours: 3, times: []time.Duration{500}},
	})
	want := "| A | 2 | 1 | 2.00 µs | a | 0 | 2.00 (1.50-2.50) |\n| B | 0 | 3 | 0.50 µs | none |  |  |\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, want)
	}
}

func TestReadmeHasRoomForTheTable(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := costs.Replace(string(text), "a table\n"); err != nil || !strings.Contains(got, "\na table\n\n<!-- end") {
		t.Errorf("got %v, %q", err, got)
	}
}

func BenchmarkInterceptors(b *testing.B) {
	for _, s := range scenarios {
		a, err := newAlone(s)
		if err != nil {
			b.Fatal(err)
		}
		defer a.cancel()
		for name, run := range map[string]func() error{"rpcscope": a.ours, "go-grpc-middleware": a.theirs} {
			if run == nil {
				continue
			}
			b.Run(strings.ReplaceAll(s.name, " ", "_")+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
