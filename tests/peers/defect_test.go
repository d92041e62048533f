package peers

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// outcome is what came of a scenario, one "name: value" for each thing seen.
type outcome []string

// defect is a scenario that goes wrong elsewhere.
type defect struct {
	name  string
	what  string  // happens, for the README
	right outcome // and why, in a comment that cites the rule
	calm  outcome // of the same scenario with nothing wrong in it, on every stack
	ours  stack
	peers []stack
	run   func(t *testing.T, s stack, trouble bool) outcome
}

// defects in the order in which the README has them.
var defects = slices.Concat(
	streamDefects,
	callDefects,
	signalDefects,
	serverDefects,
	baggageDefects,
	failureDefects,
)

// observe plays the scenario on s, in a bubble of its own.
func (d defect) observe(t *testing.T, s stack, trouble bool) (seen outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { seen = d.run(t, s, trouble) })
	return seen
}

func TestDefects(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			for _, s := range append([]stack{d.ours}, d.peers...) {
				if diff := cmp.Diff(d.calm, d.observe(t, s, false)); diff != "" {
					t.Errorf("%s, with nothing wrong (-want +got):\n%s", s.name, diff)
				}
			}
			if diff := cmp.Diff(d.right, d.observe(t, d.ours, true)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", d.ours.name, diff)
			}
			for _, s := range d.peers {
				seen := d.observe(t, s, true)
				t.Logf("%s: %q", s.name, seen)
				if cmp.Equal(d.right, seen) {
					t.Errorf("%s now does what is right, %q: take it out of this defect's peers and run go generate ./peers", s.name, seen)
				}
			}
		})
	}
}
