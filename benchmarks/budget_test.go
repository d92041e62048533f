// The race detector allocates too, and keeps pools from keeping: what is counted
// under it is not what the suite costs.

//go:build !race

package main

import (
	"runtime/debug"
	"slices"
	"testing"
)

// TestAllocationBudgets holds the suite's cost to multiples of what others
// allocate for the same calls, counted in the same process.
func TestAllocationBudgets(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools at a moment of its own
	for _, test := range []struct {
		scenario string
		calls    int
		budgets  map[string]float64 // at most so many times what this contender allocates
	}{
		{"unary", 500, map[string]float64{otelgrpcName: 0.90, assembledName: 0.58}},
		{"unary-server", 500, map[string]float64{otelgrpcName: 1.00}},
		{"unary-never", 500, map[string]float64{otelgrpcName: 0.85}},
		{"server-stream", 100, map[string]float64{bareName: 1.11}},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			r := count(t, test.scenario, test.calls, bareName, otelgrpcName, assembledName, oursName)
			for base, budget := range test.budgets {
				got := r.ratio(oursName, base, allocsOf)
				t.Logf("%.1f allocations, %.3f x %s", r.median(oursName, allocsOf), got, base)
				if got > budget {
					t.Errorf("allocates %.3f x %s, want at most %.2f", got, base, budget)
				}
			}
		})
	}
}

// TestAllocationBudgetOfAnInterceptor: one that does nothing takes at most two
// allocations of a unary call.
func TestAllocationBudgetOfAnInterceptor(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const budget = 2
	for scenario, interceptors := range map[string]float64{"unary-server": 4, "unary": 8} {
		t.Run(scenario, func(t *testing.T) {
			r := count(t, scenario, 500, oursName, chainedName)
			each := (r.median(chainedName, allocsOf) - r.median(oursName, allocsOf)) / interceptors
			t.Logf("%.2f allocations for each of %g interceptors", each, interceptors)
			if each > budget {
				t.Errorf("an interceptor allocates %.2f times per call, want at most %d", each, budget)
			}
		})
	}
}

// TestOpenStreamBudget: an open stream has no goroutine more than without the
// suite, and holds no more than with otelgrpc.
func TestOpenStreamBudget(t *testing.T) {
	s := scenarioNamed(t, "open")
	bare, err := measureOpen(s, contendersNamed(t, bareName), 1)
	if err != nil {
		t.Fatal(err)
	}
	var got, want float64
	for range 4 { // what the runtime caches in between differs by more than the two do
		r, err := measureOpen(s, contendersNamed(t, otelgrpcName, oursName), 3)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.median(oursName, goroutinesOf), bare.median(bareName, goroutinesOf); got-want > 0.01 {
			t.Errorf("%.2f goroutines per stream, want bare's %.2f", got, want)
		}
		got, want = r.median(oursName, heapOf), r.median(otelgrpcName, heapOf)
		t.Logf("%.0f bytes of heap per stream, otelgrpc %.0f", got, want)
		if got <= want {
			return
		}
	}
	t.Errorf("%.0f bytes of heap per stream, want at most otelgrpc's %.0f", got, want)
}

// count counts what calls of a scenario allocate.
func count(t *testing.T, scenario string, calls int, contenders ...string) *result {
	t.Helper()
	r, err := measure(scenarioNamed(t, scenario), contendersNamed(t, contenders...), 3, calls)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func scenarioNamed(t *testing.T, name string) scenario {
	t.Helper()
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("no scenario %q", name)
	return scenario{}
}

func contendersNamed(t *testing.T, names ...string) (chosen []contender) {
	t.Helper()
	for _, name := range names {
		i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name })
		if i < 0 {
			t.Fatalf("no contender %q", name)
		}
		chosen = append(chosen, contenders[i])
	}
	return chosen
}
