package interceptorstest

import (
	"context"
	"slices"
	"sync"
	"time"

	otelcodes "go.opentelemetry.io/otel/codes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// record is one call, and all that was seen of it: by the interceptor around
// the tested one, by the handler and by the caller.
type record struct {
	situation
	s     *suite
	id    string
	label string     // of what the world's interceptor starts
	code  codes.Code // what the handler ends with

	entered  chan struct{} // the tested interceptor was called
	returned chan struct{} // and is done
	reached  chan struct{} // the handler waits for the caller to stop the call
	release  chan struct{} // and need not wait any longer
	done     chan struct{} // the caller is done

	mu    sync.Mutex
	found []*Violation // at once, while the call went on

	given     context.Context // to the interceptor
	goroutine string          // in which it runs
	attempts  []*attempt
	err       error // what it returned
	completed bool  // it did return
	panicked  any   // or else, what it panicked with; nil for runtime.Goexit
	ended     bool  // it ended the call's span
	status    []otelcodes.Code

	services []*service
	caller   caller
}

// attempt is one call of next.
type attempt struct {
	ctx      context.Context
	metadata metadata.MD
	over     chan struct{}
	err      error
	panicked bool // when over
}

func (a *attempt) running() bool { return !isClosed(a.over) }

// service is one run of the handler.
type service struct {
	got  []any
	sent int
	code codes.Code
}

// caller is what the caller knows at the end.
type caller struct {
	sent     []proto.Message
	got      []proto.Message
	err      error
	panicked any
}

func (w *world) newRecord(code codes.Code) *record {
	return &record{
		situation: w.situation, s: w.s, id: newID(), label: w.label, code: code,
		entered: make(chan struct{}), returned: make(chan struct{}), reached: make(chan struct{}),
		release: make(chan struct{}), done: make(chan struct{}),
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// within tells whether c is closed before d has passed.
func within(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return isClosed(c)
	}
}

// once closes c if it is not closed yet; r.mu is not held.
func (r *record) once(c chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !isClosed(c) {
		close(c)
	}
}

// violate notes a violation, the first of each obligation; r.mu is held.
func (r *record) violate(o *obligation, format string, args ...any) {
	if !slices.ContainsFunc(r.found, func(v *Violation) bool { return v.Obligation == o.name }) {
		r.found = append(r.found, r.violation(o, format, args...))
	}
}

func (r *record) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}
