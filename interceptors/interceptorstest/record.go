package interceptorstest

import (
	"context"
	"fmt"
	"io"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
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

type givenKey struct{}

// labelKey marks the goroutines that the interceptor starts.
const labelKey = "interceptorstest"

// watch is the interceptor around the tested one.
func (r *record) watch(ctx context.Context, call *interceptors.Call, next interceptors.Next) (err error) {
	before := identify(call)
	given := context.WithValue(ctx, givenKey{}, r)
	given = trace.ContextWithSpan(given, &span{Span: trace.SpanFromContext(ctx), r: r})
	given, cancel := context.WithCancel(given)
	defer cancel()
	given = pprof.WithLabels(given, pprof.Labels(labelKey, r.label))
	r.mu.Lock()
	if r.given != nil { // an interceptor given to With repeats the call: a new attempt
		r.mu.Unlock()
		return r.s.interceptor(ctx, call, next)
	}
	r.given, r.goroutine = given, goroutine()
	close(r.entered)
	r.mu.Unlock()

	completed := false
	defer func() {
		var value any
		if !completed {
			value = recover()
		}
		r.leave(call, before, err, completed, value)
		cancel()
		r.settle()
		if value != nil {
			panic(value)
		}
	}()
	pprof.SetGoroutineLabels(given)
	defer pprof.SetGoroutineLabels(ctx)
	err = r.s.interceptor(given, call, func(attempt context.Context) error {
		pprof.SetGoroutineLabels(ctx) // what gRPC and the handler start is not the interceptor's
		defer pprof.SetGoroutineLabels(given)
		return r.next(attempt, call, next)
	})
	completed = true
	return err
}

// leave looks at what the interceptor leaves behind.
func (r *record) leave(call *interceptors.Call, before identity, err error, completed bool, panicked any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.completed, r.panicked = err, completed, panicked
	close(r.returned)
	for n, a := range r.attempts {
		if a.running() {
			r.violate(waitsForNext, "it returned %v while next was still running", err)
		} else if a.ctx.Done() != r.given.Done() && a.ctx.Done() != nil && a.ctx.Err() == nil {
			r.violate(releasesContext, "the context that next was given the %s time is not done", ordinal(n+1))
		}
	}
	r.identical(before, identify(call))
}

// settle waits for what an interceptor that returned too early left running:
// the call must not end before.
func (r *record) settle() {
	r.mu.Lock()
	attempts := r.attempts
	r.mu.Unlock()
	for _, a := range attempts {
		if a.running() {
			r.once(r.release)
			within(r.s.patience, a.over)
		}
	}
}

// identity is what no interceptor may change.
type identity struct {
	method string
	kind   interceptors.Kind
	side   interceptors.Side
	filled bool // a stream's Request or Response is not nil
}

func identify(call *interceptors.Call) identity {
	return identity{call.FullMethod, call.Kind, call.Side, call.Kind != interceptors.Unary && (call.Request != nil || call.Response != nil)}
}

func (r *record) identical(before, after identity) {
	switch {
	case after.filled:
		r.violate(keepsCall, "it set Request or Response of a stream")
	case before != after:
		r.violate(keepsCall, "%s of a %s-side %s call became %s of a %s-side %s call",
			before.method, before.side, before.kind, after.method, after.side, after.kind)
	}
}

// next is what the tested interceptor calls.
func (r *record) next(ctx context.Context, call *interceptors.Call, next interceptors.Next) (err error) {
	a, err := r.attempt(&ctx, call)
	if a == nil {
		return err
	}
	completed := false
	defer func() {
		if isClosed(r.reached) {
			r.hold()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !completed && goroutine() != r.goroutine && recover() != nil {
			r.violate(waitsForNext, "it called next in another goroutine, where a panic ends the process")
			err = errMisused
		}
		a.err, a.panicked = err, !completed
		close(a.over)
	}()
	err = next(r.mark(ctx))
	if r.ending.panics && r.side == interceptors.ClientSide {
		panic(thePanic)
	}
	completed = true
	return err
}

// thePanic is what the rest of the call panics with.
const thePanic = "interceptorstest: this panic is part of the test"

// hold keeps next from returning for a moment after the call was stopped: an
// interceptor that does not wait for it gets the chance to show that.
func (r *record) hold() {
	timer := time.NewTimer(r.s.patience)
	defer timer.Stop()
	select {
	case <-r.release:
	case <-r.returned:
	case <-timer.C:
	}
}

// attempt begins one, or returns nil and what next returns instead where it
// must not be called.
func (r *record) attempt(ctx *context.Context, call *interceptors.Call) (*attempt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if isClosed(r.returned) {
		r.violate(waitsForNext, "it called next after it had returned")
		return nil, errMisused
	}
	if n := len(r.attempts); n > 0 {
		last := r.attempts[n-1]
		switch {
		case last.running():
			r.violate(nextOnce, "it called next while next was running")
			return nil, errMisused
		case !r.s.retries:
			r.violate(nextOnce, "it called next again, after next had returned %v", last.err)
			return nil, last.err
		case last.err == nil:
			r.violate(nextAgain, "it called next again although next had returned nil")
			return nil, nil
		case r.given.Err() != nil:
			r.violate(nextAgain, "it called next again although the context was done (%v)", r.given.Err())
			return nil, last.err
		}
	}
	if *ctx == nil {
		r.violate(derivesContext, "it gave next a nil context")
		*ctx = r.given
	}
	a := &attempt{ctx: *ctx, metadata: travelling(*ctx, r.side), over: make(chan struct{})}
	r.derived(a)
	r.identical(identity{r.s.method, r.kind, r.side, false}, identify(call))
	r.attempts = append(r.attempts, a)
	return a, nil
}

var errMisused = errors.Internal(errors.New("interceptorstest: next must not be called now"))

// derived tests the context of an attempt.
func (r *record) derived(a *attempt) {
	given, limited := r.given.Deadline()
	deadline, limits := a.ctx.Deadline()
	owner, _ := a.ctx.Value(givenKey{}).(*record)
	switch {
	case owner != nil && owner != r:
		r.violate(concurrent, "it gave next the context of another call")
	case owner == nil:
		r.violate(derivesContext, "the context that it gave next has lost the values of its own")
	case a.ctx.Done() == nil:
		r.violate(derivesContext, "the context that it gave next cannot be cancelled, its own can")
	case limited && (!limits || deadline.After(given)):
		r.violate(derivesContext, "the context that it gave next has lost the deadline of its own")
	case !slices.Equal(a.metadata[idHeader], []string{r.id}):
		r.violate(keepsMetadata, "metadata of the caller, %s: %q, became %q", idHeader, r.id, a.metadata[idHeader])
	case len(r.attempts) > 0:
		first := r.attempts[0].metadata
		for key, values := range a.metadata {
			if len(values) > len(first[key]) && len(first[key]) > 0 {
				r.violate(keepsMetadata, "at the %s attempt the metadata has %d values of %s, at the first %d", ordinal(len(r.attempts)+1), len(values), key, len(first[key]))
			}
		}
	}
}

func ordinal(n int) string {
	if n >= 1 && n <= 3 {
		return [...]string{"first", "second", "third"}[n-1]
	}
	return fmt.Sprintf("%dth", n)
}

// idHeader tells the server which of the test's calls it has before it, and is
// metadata that every interceptor has to keep.
const idHeader = "interceptorstest-call"

func travelling(ctx context.Context, side interceptors.Side) (md metadata.MD) {
	if side == interceptors.ServerSide {
		md, _ = metadata.FromIncomingContext(ctx)
	} else {
		md, _ = metadata.FromOutgoingContext(ctx)
	}
	return md
}

// mark makes the call be recognised by those inside, whatever the interceptor
// has done to its context.
func (r *record) mark(ctx context.Context) context.Context {
	if r.side == interceptors.ClientSide {
		md := travelling(ctx, r.side)
		if md == nil {
			md = metadata.MD{}
		}
		md.Set(idHeader, r.id)
		return metadata.NewOutgoingContext(ctx, md)
	}
	return context.WithValue(ctx, recordKey{}, r)
}

// span watches what the interceptor does to the span of the call.
type span struct {
	trace.Span
	r *record
}

func (s *span) End(options ...trace.SpanEndOption) {
	s.r.note(func() { s.r.ended = true })
	s.Span.End(options...)
}

func (s *span) SetStatus(code otelcodes.Code, description string) {
	s.r.note(func() { s.r.status = append(s.r.status, code) })
	s.Span.SetStatus(code, description)
}

// peer is what a handler of any kind talks to.
type peer interface {
	context() context.Context
	receive() (any, error)
	send(proto.Message) error
}

// serve is the handler.
func (r *record) serve(p peer) error {
	v := r.begin()
	if v.code != codes.OK && !r.ending.midStream {
		return failure(v.code)
	}
	for n := 1; ; n++ {
		m, err := p.receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		r.note(func() { v.got = append(v.got, m) })
		if n == 1 && (r.ending.midStream || r.ending.panics || r.ending.stop != never) {
			return r.interrupt(p, v)
		}
		if r.kind == interceptors.BidiStream {
			if err := r.answer(p, v, n); err != nil {
				return err
			}
		}
	}
	if r.kind == interceptors.BidiStream {
		return nil
	}
	for n := range r.replies() {
		if err := r.answer(p, v, n+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) begin() *service {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &service{code: r.code}
	if r.ending.recovers && len(r.services) > 0 {
		v.code = codes.OK
	}
	r.services = append(r.services, v)
	return v
}

func (r *record) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// interrupt is what happens in the middle of a call.
func (r *record) interrupt(p peer, v *service) error {
	if r.kind == interceptors.ServerStream || r.kind == interceptors.BidiStream {
		if err := r.answer(p, v, 1); err != nil {
			return err
		}
	}
	switch {
	case r.ending.panics && r.side == interceptors.ServerSide:
		panic(thePanic)
	case r.ending.stop != never:
		r.once(r.reached)
		select {
		case <-p.context().Done():
			return p.context().Err()
		case <-r.release:
			return errors.Internal(errors.New("interceptorstest: nobody stopped the handler"))
		}
	case v.code != codes.OK:
		return failure(v.code)
	}
	if r.kind == interceptors.Unary || r.kind == interceptors.ClientStream {
		return r.answer(p, v, 1)
	}
	return nil
}

func (r *record) answer(p peer, v *service, n int) error {
	err := p.send(number(r.s.reply, n))
	if err == nil {
		r.note(func() { v.sent++ })
	}
	return err
}

// messages is how many a stream has in each direction.
const messages = 3

func (r *record) requests() int {
	if r.kind == interceptors.ClientStream || r.kind == interceptors.BidiStream {
		return messages
	}
	return 1
}

func (r *record) replies() int {
	if r.kind == interceptors.ServerStream || r.kind == interceptors.BidiStream {
		return messages
	}
	return 1
}

// failure is what a handler fails with: an error with all that an interceptor
// might lose.
func failure(code codes.Code) error {
	return errors.Coded(code, "this error is part of the test").WithReason("interceptorstest", "PART_OF_THE_TEST")
}
