package interceptorstest

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// run makes the calls of a situation and returns what was wrong.
func (s *suite) run(c situation) []error {
	found := s.try(c)
	switch {
	case only(found, leavesNoGoroutine.name):
		// A worker that an interceptor starts when it is first needed, for all
		// calls, is not there for the second time.
		return s.try(c)
	case len(found) > 0 && c.ending.together:
		return s.blame(c, found)
	}
	return found
}

func only(found []error, obligation string) bool {
	return len(found) > 0 && !slices.ContainsFunc(found, func(err error) bool {
		var v *Violation
		return !errors.As(err, &v) || v.Obligation != obligation
	})
}

func (s *suite) try(c situation) (found []error) {
	w, err := newWorld(s, c)
	if err != nil {
		return []error{err}
	}
	defer w.close()
	if c.ending.together {
		err = w.together()
	} else {
		err = w.inTurn()
	}
	if err != nil {
		return []error{err}
	}
	for _, r := range w.calls {
		for _, v := range r.judge() {
			if !slices.ContainsFunc(found, func(err error) bool { return only([]error{err}, v.Obligation) }) {
				found = append(found, v) // of the same kind one says enough
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	if stack := w.goroutines(); stack != "" {
		return []error{c.violation(leavesNoGoroutine, "a goroutine that it started still runs %s after the call:\n%s", s.patience, stack)}
	}
	return nil
}

func (w *world) inTurn() error {
	for _, r := range w.calls {
		if err := w.drive(r); err != nil {
			return err
		}
	}
	return nil
}

// hold is how long an interceptor has to return too early.
const hold = 20 * time.Millisecond

// drive makes the call of r and waits until it is over. The error says that it
// never was.
func (w *world) drive(r *record) error {
	ctx, stop := r.callContext()
	defer stop()
	defer r.once(r.release)
	if r.ending.stop == expired {
		stop()
		r.once(r.release)
	}
	go func() {
		defer close(r.done)
		var got caller
		defer func() {
			got.panicked = recover()
			r.note(func() { r.caller.err, r.caller.panicked = got.err, got.panicked })
		}()
		got.err = w.call(ctx, r)
	}()
	if r.ending.stop != never && r.ending.stop != expired {
		w.stop(r, stop)
	}
	if r.ending.stop == abandon {
		within(r.s.patience, r.entered) // nothing else says that the call has begun
	}
	over := within(r.s.patience, r.done)
	if !isClosed(r.entered) {
		return fmt.Errorf("interceptorstest: %s/%s/%s: a call did not get to the interceptor: %w; calls have to be such that nothing given to With refuses them, see WithContext and WithMethod",
			r.side, r.kind, r.ending.name, r.callerError())
	}
	if !within(r.s.patience, r.returned) {
		return r.stuck()
	}
	if !over && !r.exited() {
		return r.violation(ends, "the caller still waited %s after the call ought to have ended", r.s.patience)
	}
	return nil
}

// stop stops the call in the middle.
func (w *world) stop(r *record, stop func()) {
	timer := time.NewTimer(r.s.patience)
	defer timer.Stop()
	select {
	case <-r.reached:
	case <-r.returned:
	case <-timer.C:
	}
	stop()
	if !r.cancelled() {
		_ = w.conn.Close() // nothing else ends the call
	}
	within(hold, r.returned)
	r.once(r.release)
}

// cancelled tells whether the end of the caller's context gets to where the
// context of next goes.
func (r *record) cancelled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.attempts) == 0 {
		return true
	}
	given, inner := r.given, r.attempts[len(r.attempts)-1].ctx
	if slices.ContainsFunc(r.found, func(v *Violation) bool { return v.Obligation == derivesContext.name }) {
		return false
	}
	r.mu.Unlock()
	done := within(r.s.patience, inner.Done())
	r.mu.Lock()
	if !done {
		r.violate(derivesContext, "the context that it gave next was not done %s after the call was stopped (its own: %v)", r.s.patience, given.Err())
	}
	return done
}

// exited tells whether the interceptor left with runtime.Goexit, after which
// gRPC answers nobody.
func (r *record) exited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.completed && r.panicked == nil
}

func (r *record) callerError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.caller.err
}

// stuck says where an interceptor is that does not return, unless the reason is
// known.
func (r *record) stuck() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.attempts)
	switch {
	case len(r.found) > 0:
		return nil
	case n == 0:
		return r.violation(ends, "it has neither returned nor called next after %s (context: %v)", r.s.patience, r.given.Err())
	case r.attempts[n-1].running():
		return r.violation(ends, "next still runs after %s, perhaps in a function given to OnSend or OnReceive", r.s.patience)
	}
	return r.violation(ends, "it has not returned %s after next did (context: %v)", r.s.patience, r.given.Err())
}
