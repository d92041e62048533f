//go:build unix && e2e

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/tests/internal/native"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// TestLab runs a short storm, with a breaker and without, on real back ends: the panels show it, and what the page says of it
// holds.
func TestLab(t *testing.T) {
	const root = "../../.."
	cache, err := native.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	l := lab{root: root, bin: t.TempDir(), lasts: 12 * time.Second, rate: 50, log: t.Output()}
	if l.backends, err = native.Build(t.Context(), root, cache, native.Backends, t.Output()); err != nil {
		t.Fatal(err)
	}
	if err := program.Build(t.Context(), root, l.bin); err != nil {
		t.Fatal(err)
	}
	if l.panels, err = readPanels(filepath.Clean(root)); err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if s.name != "storm" && s.name != "breaker" {
			continue
		}
		r, err := l.run(t.Context(), s)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		page, err := l.page([]result{r})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(r.Facts, s.name+": 600 calls in ", "images/load-"+s.name+".svg") {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %q:\n%s", want, page)
			}
		}
		for _, g := range s.graphs {
			if !strings.Contains(string(r.svg), g.panel) {
				t.Errorf("%s: the picture has no %q", s.name, g.panel)
			}
		}
	}
	// What does not hold is no page.
	wrong := scenario{name: "steady", graphs: []graphed{{byCode, service}}, facts: []fact{{"%s calls failed.", []value{{with(served, `rpc_response_status_code="INTERNAL"`) + " or vector(0)", "", 1, 2}}}}}
	l.lasts = 6 * time.Second
	if _, err := l.run(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "calls failed") || !strings.Contains(err.Error(), "is 0, want 1 to 2") {
		t.Errorf("got %v, want an error that names the sentence, the value, and what it should be", err)
	}
}
