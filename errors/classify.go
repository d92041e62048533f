package errors

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A verdict is what an error, or a branch of joined errors, is taken for.
type verdict struct {
	err  *Error
	rank rank
}

// rank says whose word a verdict is: the handler's own counts more than that of
// a service it called, and that more than what a mapper makes of a plain error.
type rank uint8

const (
	nobody rank = iota
	broken      // a nil or OK status
	mapped
	foreign
	own
)

// severity orders codes for joined errors: the fault of the service before what
// may pass, and that before the fault of the caller.
var severity = [...]uint8{
	codes.DataLoss:           16,
	codes.Internal:           15,
	codes.Unknown:            14,
	codes.Unimplemented:      13,
	codes.Unavailable:        12,
	codes.DeadlineExceeded:   11,
	codes.ResourceExhausted:  10,
	codes.Unauthenticated:    9,
	codes.PermissionDenied:   8,
	codes.Aborted:            7,
	codes.FailedPrecondition: 6,
	codes.AlreadyExists:      5,
	codes.NotFound:           4,
	codes.OutOfRange:         3,
	codes.InvalidArgument:    2,
	codes.Canceled:           1,
}

func severityOf(code codes.Code) uint8 {
	if int64(code) < int64(len(severity)) {
		return severity[code]
	}
	return severity[codes.Unknown]
}

// or is the verdict over two branches: the higher rank, then the more severe
// code, then the first, with the field violations of both if the codes are the
// same.
func (v verdict) or(w verdict) verdict {
	switch {
	case v.err == nil || w.err == nil || v.rank != w.rank:
		if w.rank > v.rank {
			return w
		}
		return v
	case v.err.code == w.err.code:
		return verdict{err: v.err.merged(w.err), rank: v.rank}
	case severityOf(w.err.code) > severityOf(v.err.code):
		return w
	}
	return v
}

// merged is e with the field violations of other that it does not have.
func (e *Error) merged(other *Error) *Error {
	has := make(map[string]bool, len(e.fields))
	for _, field := range e.fields {
		has[string(pack(field).GetValue())] = true
	}
	var more []*errdetails.BadRequest_FieldViolation
	for _, field := range other.fields {
		if !has[string(pack(field).GetValue())] {
			more = append(more, field)
		}
	}
	if len(more) == 0 {
		return e
	}
	return e.withFields(more...)
}

// explicit is the outermost *Error or status beneath err, and of several
// branches' the one that rules; its err is nil if there is none. A policy that
// is not nil judges remote errors.
func explicit(err error, policy func(*Error) *Error) verdict {
	for err != nil {
		if v := explicitly(err, policy); v.err != nil {
			return v
		}
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			var v verdict
			for _, branch := range x.Unwrap() {
				v = v.or(explicit(branch, policy))
			}
			return v
		default:
			return verdict{}
		}
	}
	return verdict{}
}

// explicitly is what err itself says, without what is beneath it.
func explicitly(err error, policy func(*Error) *Error) verdict {
	switch x := err.(type) {
	case *Error:
		return judge(x, policy)
	case interface{ GRPCStatus() *status.Status }:
		return fromStatus(x.GRPCStatus(), err)
	case interface{ As(any) bool }:
		var e *Error
		if x.As(&e) {
			return judge(e, policy)
		}
	}
	return verdict{}
}

func judge(e *Error, policy func(*Error) *Error) verdict {
	switch {
	case e == nil:
		return verdict{err: &Error{code: codes.Unknown, message: defaultText(codes.Unknown)}, rank: broken}
	case e.remote && !e.settled && policy != nil:
		return verdict{err: policy(e), rank: foreign}
	}
	return verdict{err: e, rank: own}
}

// fromStatus is what the status of err says. A nil or OK status is Unknown:
// there is an error, and the status denies it (rule 16).
func fromStatus(s *status.Status, err error) verdict {
	if s.Code() == codes.OK {
		return verdict{err: &Error{code: codes.Unknown, message: defaultText(codes.Unknown), cause: err}, rank: broken}
	}
	p := s.Proto()
	e := &Error{code: s.Code(), message: clean(p.GetMessage()), cause: err, over: true, status: s, received: p.GetDetails()}
	for _, detail := range e.received {
		detail.TypeUrl = valid(detail.TypeUrl)
	}
	e.read(e.received)
	return verdict{err: e, rank: own}
}
