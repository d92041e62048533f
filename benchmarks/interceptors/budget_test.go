// The race detector allocates too: what is counted under it is not what an
// interceptor costs.

//go:build !race

package main

import "testing"

// An interceptor takes at most three allocations of a call that it lets pass,
// beside what it takes to be called at all.
func TestAllocationBudget(t *testing.T) {
	const budget = 3
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			if s.besidePeer {
				r, err := measure(s)
				if err != nil {
					t.Fatal(err)
				}
				if t.Logf("%.0f allocations, go-grpc-middleware's %.0f", r.ours, r.theirs); r.ours > r.theirs {
					t.Errorf("it takes %.0f allocations, want at most go-grpc-middleware's %.0f", r.ours, r.theirs)
				}
				return
			}
			got, err := added(s)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.2f allocations", got)
			if got > budget+0.2 { // what the runtime does in between
				t.Errorf("a call takes %.2f allocations more, want at most %d", got, budget)
			}
		})
	}
}
