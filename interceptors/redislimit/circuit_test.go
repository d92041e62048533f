package redislimit

import (
	"testing"
	"time"
)

// Three failures in a row, a pause, one that tries, and on success all again.
func TestCircuit(t *testing.T) {
	var c circuit
	now := time.Unix(0, 0)
	step := func(r result) {
		t.Helper()
		if !c.enter(now) {
			t.Fatal("not let in")
		}
		c.leave(r, now)
	}
	for range 5 { // never three in a row
		step(failed)
		step(failed)
		step(answered)
	}
	step(failed)
	step(unknown) // says nothing
	step(failed)
	step(failed)
	for round := range 3 {
		if c.enter(now) || c.enter(now.Add(pause*3/4-1)) {
			t.Fatalf("round %d: let in during the pause", round)
		}
		now = now.Add(pause * 5 / 4)
		if !c.enter(now) {
			t.Fatalf("round %d: nobody tries after the pause", round)
		}
		if c.enter(now) {
			t.Fatalf("round %d: two try at the same time", round)
		}
		c.leave(failed, now)
	}
	now = now.Add(pause * 5 / 4)
	step(unknown) // the one who tried left: the next one tries
	step(answered)
	for range 10 {
		if !c.enter(now) {
			t.Fatal("Redis answers, and is not asked")
		}
	}
}
