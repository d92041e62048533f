package interceptorstest

import (
	"fmt"
	"slices"

	otelcodes "go.opentelemetry.io/otel/codes"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// judge returns what was wrong with a call that is over: what showed while it
// went on, or else the first thing in which its outcome is not what it has to
// be, since one mistake shows in several.
func (r *record) judge() []*Violation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.found) > 0 {
		return r.found
	}
	for _, test := range []func() *Violation{r.judgeReturn, r.judgeSpan, r.judgeRequests, r.judgeOutcome, r.judgeMessages} {
		if v := test(); v != nil {
			return []*Violation{v}
		}
	}
	return nil
}

// last is the attempt that counts, nil if there was none.
func (r *record) last() *attempt {
	if len(r.attempts) == 0 {
		return nil
	}
	return r.attempts[len(r.attempts)-1]
}

// judgeReturn compares what the interceptor returned with what next did.
func (r *record) judgeReturn() *Violation {
	last := r.last()
	switch {
	case r.s.rejects != codes.OK:
		return r.judgeRejection(last)
	case !r.completed && last != nil && last.panicked:
		if r.s.recovers != codes.OK {
			return r.violation(recovers, "the panic went on; want an error with code %s", r.s.recovers)
		}
		return nil
	case !r.completed && r.panicked == nil:
		return r.violation(doesNotPanic, "it left with runtime.Goexit")
	case !r.completed:
		return r.violation(doesNotPanic, "it panicked: %v", r.panicked)
	case last == nil:
		return r.judgeRefusal()
	case last.panicked:
		return r.judgeRecovery()
	}
	return r.judgeError(last.err)
}

func (r *record) judgeRejection(last *attempt) *Violation {
	switch {
	case last != nil:
		return r.violation(rejects, "it called next and returned %s; want %s without", errors.Code(r.err), r.s.rejects)
	case !r.completed:
		return r.violation(doesNotPanic, "it panicked: %v", r.panicked)
	case errors.Code(r.err) != r.s.rejects:
		return r.violation(rejects, "it returned %s; want %s", errors.Code(r.err), r.s.rejects)
	}
	return nil
}

func (r *record) judgeRefusal() *Violation {
	switch {
	case r.answered():
		return nil
	case r.ending.stop == expired && errors.Code(r.err) == r.mapped(codes.DeadlineExceeded):
		return nil // next need not be called to know that
	case r.err == nil:
		return r.violation(callsNext, "it returned nil without calling next")
	}
	return r.violation(callsNext, "it refused the call with %s: %v", errors.Code(r.err), r.err)
}

// answered tells whether the interceptor answered the call itself, and may.
func (r *record) answered() bool {
	return r.s.mayAnswer && r.kind == interceptors.Unary && len(r.attempts) == 0 && r.completed && r.err == nil
}

func (r *record) judgeRecovery() *Violation {
	switch {
	case r.s.recovers == codes.OK:
		return r.violation(passesPanics, "next panicked and it returned %v", r.err)
	case errors.Code(r.err) != r.s.recovers:
		return r.violation(recovers, "next panicked and it returned %s; want %s", errors.Code(r.err), r.s.recovers)
	}
	return nil
}

func (r *record) judgeError(next error) *Violation {
	got, want := errors.Code(r.err), r.mapped(errors.Code(next))
	if got != want {
		if code := errors.Code(next); code != want {
			return r.violation(returnsError, "next returned %s and it returned %s; MapsErrors makes that %s", code, got, want)
		}
		return r.violation(returnsError, "next returned %s and it returned %s", want, got)
	}
	if next == nil || r.s.mapsErrors != nil || r.ending.stop != never {
		return nil // the error of a context that is done may come from either
	}
	if got, want := described(r.err), described(next); got != want {
		return r.violation(returnsError, "next returned an error with %s and it returned one with %s", want, got)
	}
	return nil
}

// described is what callers of a failed call tell errors apart by.
func described(err error) string {
	domain, reason := errors.Reason(err)
	return fmt.Sprintf("reason %q of domain %q and message %q", reason, domain, errors.Message(err))
}

func (r *record) mapped(code codes.Code) codes.Code {
	if code == codes.OK || r.s.mapsErrors == nil {
		return code
	}
	return r.s.mapsErrors(code)
}

// serverFaults are the codes that make a server's span an error (rule 18).
var serverFaults = []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss}

func (r *record) judgeSpan() *Violation {
	if r.ended {
		return r.violation(leavesSpan, "it ended the span that was in the context it was given")
	}
	code := errors.Code(r.err)
	fault := !r.completed || (code != codes.OK && (r.side == interceptors.ClientSide || slices.Contains(serverFaults, code)))
	for _, status := range r.status {
		switch {
		case status == otelcodes.Ok:
			return r.violation(leavesSpan, "it set the status of the call's span to Ok, which hides what the engine sets")
		case status == otelcodes.Error && !fault:
			return r.violation(leavesSpan, "it set the status of the call's span to Error, which %s is not on a %s", code, r.side)
		}
	}
	return nil
}

// judgeRequests looks at what the caller passed in.
func (r *record) judgeRequests() *Violation {
	if r.s.changesMessages && r.kind != interceptors.Unary {
		return nil // a hook can only change the message it is given
	}
	for n, m := range r.caller.sent {
		if want := number(r.s.request, n+1); !proto.Equal(want, m) {
			return r.violation(keepsRequest, "the caller's %s request {%v} became {%v}", ordinal(n+1), want, m)
		}
	}
	return nil
}

// judgeOutcome compares what the caller was told with what happened.
func (r *record) judgeOutcome() *Violation {
	want := r.outcome()
	switch {
	case r.ending.stop == abandon, r.ending.stop != never && r.answered():
		return nil // nobody asks, or who was first does not matter
	case r.caller.panicked != nil:
		if r.side == interceptors.ClientSide && !r.completed {
			return nil
		}
		return r.violation(doesNotPanic, "the caller's goroutine panicked: %v", r.caller.panicked)
	case errors.Code(r.caller.err) != want:
		return r.violation(returnsError, "the caller got %s (%v); want %s", errors.Code(r.caller.err), r.caller.err, want)
	}
	return nil
}

// outcome is the code that the caller has to see.
func (r *record) outcome() codes.Code {
	switch {
	case r.s.rejects != codes.OK:
		return r.s.rejects
	case r.answered():
		return codes.OK
	case r.ending.panics && r.s.recovers != codes.OK:
		return r.s.recovers
	case r.ending.panics:
		return codes.Internal
	case r.ending.stop == cancel && r.side == interceptors.ServerSide:
		return codes.Canceled // whatever the server says, it is not heard
	case r.ending.stop == cancel:
		return r.mapped(codes.Canceled)
	case r.ending.stop == expire && r.side == interceptors.ServerSide:
		return codes.DeadlineExceeded
	case r.ending.stop == expire, r.ending.stop == expired:
		return r.mapped(codes.DeadlineExceeded)
	case len(r.services) == 0:
		return r.mapped(r.code)
	}
	return r.mapped(r.services[len(r.services)-1].code)
}

// judgeMessages compares what arrived with what was sent.
func (r *record) judgeMessages() *Violation {
	if r.s.rejects != codes.OK || r.ending.stop == expired {
		return nil
	}
	var heard *service
	if n := len(r.services); n > 0 {
		heard = r.services[n-1]
	}
	if heard != nil && !(r.side == interceptors.ServerSide && len(r.services) > 1) {
		if v := r.judgeRequestsArrived(heard); v != nil {
			return v
		}
	}
	replies := 0
	switch {
	case r.answered():
		replies = 1
	case heard != nil:
		replies = heard.sent
	}
	whole := r.ending.stop == never && !r.ending.panics
	if got := len(r.caller.got); whole && got != replies {
		return r.violation(keepsMessages, "%d of %d replies arrived", got, replies)
	}
	for n, got := range r.caller.got {
		if want := number(r.s.reply, n+1); !r.s.changesMessages && !proto.Equal(want, got) {
			return r.violation(keepsMessages, "the %s reply {%v} arrived as {%v}", ordinal(n+1), want, got)
		}
	}
	return nil
}

func (r *record) judgeRequestsArrived(heard *service) *Violation {
	whole := r.ending.stop == never && !r.ending.panics && !r.ending.midStream && heard.code == codes.OK
	if got, want := len(heard.got), r.requests(); whole && got != want {
		return r.violation(keepsMessages, "%d of %d requests arrived", got, want)
	}
	for n, got := range heard.got {
		want := number(r.s.request, n+1)
		m, ok := got.(proto.Message)
		if !ok {
			return r.violation(keepsMessages, "the %s request {%v} arrived as a %T", ordinal(n+1), want, got)
		}
		if !r.s.changesMessages && !proto.Equal(want, m) {
			return r.violation(keepsMessages, "the %s request {%v} arrived as {%v}", ordinal(n+1), want, m)
		}
	}
	return nil
}
