package interceptors

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
)

// recovered turns what recover returned, in a deferred function of a call that
// did not return, into the error that the call ends with: the caller learns
// that something went wrong inside, the value and the stack stay here (rule
// 10). nil means runtime.Goexit, which is let go on.
func (r *rpc) recovered(value any) error {
	if value == nil {
		r.exited = true
		exited := errors.Internal(errors.New("interceptors: the handler left with runtime.Goexit"))
		r.own = exited
		return exited
	}
	r.panicked = true
	return errors.Internal(&panicError{value})
}

// convert makes the status of what a call failed with.
func (r *rpc) convert(ctx context.Context, err error) *status.Status {
	st, panicked, failure := r.engine().convert(ctx, err)
	r.own, r.panicked = failure, r.panicked || panicked
	return st
}

// convert returns what err is classified as and its status. A mapper's panic, or
// one of the error's own methods, as where it is a nil pointer of its type, is
// the end of the call and not of the process (rule 10).
func (e *engine) convert(ctx context.Context, err error) (st *status.Status, panicked bool, failure error) {
	defer func() {
		if value := recover(); value != nil {
			internal := errors.Internal(fmt.Errorf("interceptors: converting %T: %w", err, &panicError{value}))
			st, panicked, failure = internal.GRPCStatus(), true, internal
		}
	}()
	failure = e.converter.Convert(ctx, err)
	return e.converter.Status(ctx, failure), false, failure
}

// panicError is the cause of the Internal error that a panic becomes.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// Unwrap returns the value of the panic where it is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// survive is deferred around what is not ours and runs where nobody else would
// recover: a panic would end the process, or a call that has nothing to do with it.
func survive(what string, call *Call) {
	if v := recover(); v != nil {
		defer func() { _ = recover() }() // a report that panics too has nowhere to go
		otel.Handle(fmt.Errorf("interceptors: %s panicked for %s: %v", what, call.FullMethod, v))
	}
}

// hookError keeps the first error with which a hook refused a message; the two
// directions of a stream have a goroutine each.
type hookError struct {
	mu    sync.Mutex
	first error
}

func (h *hookError) set(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first == nil {
		h.first = err
	}
	return err
}

func (h *hookError) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first
}
