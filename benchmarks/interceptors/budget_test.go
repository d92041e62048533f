// The race detector allocates too: what is counted under it is not what an
// interceptor costs.

//go:build !race

package main

import (
	"cmp"
	"testing"
)

// An interceptor takes at most three allocations of a call that it lets pass, beside
// what it takes to be called at all; LogPayloads three for each of the two messages
// of the call that it logs, each of which is a record. The most that they may take is
// in the scenario where it is not three.
func TestAllocationBudget(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			budget := cmp.Or(s.budget, 3)
			got, err := added(s)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.2f allocations", got)
			if got > float64(budget)+0.2 { // what the runtime does in between
				t.Errorf("a call takes %.2f allocations more, want at most %d", got, budget)
			}
		})
	}
}
