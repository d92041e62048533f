package interceptorstest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

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
	within(r.s.patience, r.release)
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
	case owner != r:
		r.violate(derivesContext, "the context that it gave next does not have the values of its own")
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
