package interceptorstest

import (
	"errors"
	"sync"
)

// together makes the calls at the same time: all are in their handlers before
// the first one goes on.
func (w *world) together() error {
	errs := make([]error, len(w.calls))
	var calls sync.WaitGroup
	for n, r := range w.calls {
		calls.Go(func() {
			defer w.gate.skip(r)
			errs[n] = w.drive(r)
		})
	}
	if !within(w.s.patience/2, w.gate.open) {
		w.gate.mu.Lock()
		missing := w.gate.missing
		w.gate.mu.Unlock()
		for _, r := range w.calls {
			r.once(r.release)
		}
		calls.Wait()
		if missing > 0 {
			return w.violation(concurrent, "of %d calls made at the same time %d did not get to their handler while the others were there", len(w.calls), missing)
		}
	}
	calls.Wait()
	return errors.Join(errs...)
}

// blame finds out whether it is because calls were made together that something
// was wrong with them.
func (s *suite) blame(c situation, found []error) []error {
	alone := c
	alone.ending.together = false
	if found := s.try(alone); len(found) > 0 {
		return found
	}
	var v *Violation
	if errors.As(found[0], &v) && v.Obligation != concurrent.name {
		return []error{c.violation(concurrent, "only when calls overlap: %s: %s", v.Obligation, v.Got)}
	}
	return found[:1]
}

// gate keeps handlers until all of the calls have reached one.
type gate struct {
	mu      sync.Mutex
	missing int
	gone    map[*record]bool
	open    chan struct{}
}

// arrive waits for the others.
func (g *gate) arrive(r *record) {
	g.skip(r)
	select {
	case <-g.open:
	case <-r.release:
	}
}

// skip waits for r no longer: it has arrived, or never will.
func (g *gate) skip(r *record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone == nil {
		g.gone = map[*record]bool{}
	}
	if g.gone[r] {
		return
	}
	g.gone[r] = true
	if g.missing--; g.missing == 0 {
		close(g.open)
	}
}
