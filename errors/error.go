package errors

import (
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// An Error is an error with a code, a text for strangers, an identity that
// survives the wire and a private cause.
//
// It is immutable: the methods that begin with With return a changed copy, so a
// package variable made by [Define] may be used by any number of goroutines.
// All methods are safe on a nil *Error, which reads as no error (code OK) and
// whose copies are nil. The zero value is not useful: make one with [Define],
// [Coded] or a constructor such as [NotFound].
type Error struct {
	code     codes.Code
	template bool // message has {placeholders}
	over     bool // read from its cause, whose text says everything
	remote   bool
	settled  bool // the remote policy has had its say
	retries  bool // retry is set

	domain, reason, message string

	metadata map[string]string
	fields   []*errdetails.BadRequest_FieldViolation
	retry    time.Duration
	details  []*anypb.Any // but ErrorInfo, RetryInfo and BadRequest

	cause  error
	stack  []uintptr
	origin *Error // what this is a changed copy of, to the first

	// What was read, until something is changed.
	received []*anypb.Any
	status   *status.Status
}

// Code is the code of e, never OK unless e is nil. Codes that gRPC does not
// define keep their number.
func (e *Error) Code() codes.Code {
	if e == nil {
		return codes.OK
	}
	return e.code
}

// Domain is the domain of e's identity, by convention the name of the service
// or the product that made it: "users.example.com". It is empty for an error
// without one.
func (e *Error) Domain() string {
	if e == nil {
		return ""
	}
	return e.domain
}

// Reason is the reason of e's identity, by convention in upper snake case:
// "USER_NOT_FOUND". It is empty for an error without one.
func (e *Error) Reason() string {
	if e == nil {
		return ""
	}
	return e.reason
}

// Message is the text of e for strangers: all of e's text that reaches the
// wire. It holds nothing of the cause.
func (e *Error) Message() string {
	if e == nil {
		return ""
	}
	if e.template {
		return fill(e.message, e.metadata)
	}
	return e.message
}

// Metadata is what [Error.With] added, the metadata of e's ErrorInfo. The map
// is the caller's own; it is nil when there is none.
func (e *Error) Metadata() map[string]string {
	if e == nil {
		return nil
	}
	return maps.Clone(e.metadata)
}

// Details are the details of e as they go over the wire: for an error made
// here google.rpc.ErrorInfo first, then RetryInfo, BadRequest, and the others
// in the order they were added. A detail of a type that is not linked into the
// program, or whose bytes cannot be read, is an [anypb.Any]. The messages are
// the caller's own. See [Detail] for one by its type.
func (e *Error) Details() []proto.Message {
	packed := e.packed()
	if len(packed) == 0 {
		return nil
	}
	details := make([]proto.Message, len(packed))
	for i, p := range packed {
		m, err := p.UnmarshalNew()
		if err != nil {
			m = proto.CloneOf(p)
		}
		details[i] = m
	}
	return details
}

// Remote reports whether e is the outcome of a call to another service, made
// by [Converter.FromRPC]. A remote error that a handler returns is not sent to
// the handler's caller as it is, see [RemotePolicy] and [Forward]. The call need
// not have reached the service, nor have been sent: interceptors that refuse one on
// its behalf, as an open circuit breaker, say so with a remote error as well.
func (e *Error) Remote() bool { return e != nil && e.remote }

// Unwrap is the private cause of e, or nil.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.cause
}

// Is reports whether target is the same error as e: an *Error with the same
// domain and reason, on whichever side of a connection each was made. A target
// that has a reason but no domain is the same in any domain, so that
// [WithDomain] does not change what an error is. A target without a reason is
// the same as the copies made of it, in this process only.
//
// Like any Is method it does not look at the cause; [Is] does.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	switch {
	case !ok || e == nil || t == nil:
		return false
	case t.reason == "":
		return e.first() == t.first()
	}
	return e.reason == t.reason && (t.domain == "" || e.domain == t.domain)
}

// GRPCStatus is the status of e, so that [status.FromError] and [status.Code]
// read it and gRPC without this suite's interceptors sends it. For a remote
// error it is the status that was received. It is not limited in size, and
// has no DebugInfo unless it was received with it; a [Converter] sees to both.
// It is nil for a nil e.
func (e *Error) GRPCStatus() *status.Status {
	switch {
	case e == nil:
		return nil
	case e.status != nil && e.status.Message() == e.message:
		return e.status
	case e.status != nil:
		return newStatus(e.code, e.message, e.received)
	}
	return newStatus(e.code, e.Message(), without(e.packed(), debugInfo))
}

// first is the error that e is a copy of, or e.
func (e *Error) first() *Error {
	if e.origin != nil {
		return e.origin
	}
	return e
}

// copied is a shallow copy of e, for a change to its cause or its standing.
func (e *Error) copied() *Error {
	c := *e
	c.origin = e.first()
	return &c
}

// changed is a copy of e for a change to what is sent: it no longer is what was
// read from the cause.
func (e *Error) changed() *Error {
	c := e.copied()
	c.status, c.received, c.over = nil, nil, false
	return c
}

// hasInfo reports whether e has an ErrorInfo.
func (e *Error) hasInfo() bool {
	return e.reason != "" || e.domain != "" || len(e.metadata) > 0
}
