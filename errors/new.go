package errors

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// Define makes an error with an identity, usually for a package variable:
//
//	var ErrUserNotFound = errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} does not exist")
//
// The identity is the pair of domain and reason; it goes over the wire as
// google.rpc.ErrorInfo, and [Is] compares it on both sides. A {key} in message
// is filled by [Error.With]; one that was not filled stays as it is. An empty
// message is the default text of the code.
//
// Define panics if the code is OK.
func Define(code codes.Code, domain, reason, message string) *Error {
	if code == codes.OK {
		panic(fmt.Sprintf("errors: Define of %q in domain %q: code is OK, want a code that is an error", reason, domain))
	}
	return &Error{code: code, domain: valid(domain), reason: valid(reason), message: textOr(code, message), template: true}
}

// Coded makes an error with a code and a public text, formatted as by
// [fmt.Errorf]; an empty text is the default text of the code. The text is sent
// to the caller, so it must hold nothing that is private. An argument of %w is
// private: it becomes the cause, and where it stands the text has its
// [Message] if it is an *Error or has a status, and else nothing. So it is for
// all errors among the arguments, then:
//
//	errors.NotFound("user %d: %w", id, sql.ErrNoRows) // "user 7"
//
// A code OK is taken as Unknown. For Internal, Unknown and DataLoss the stack
// is captured, see [Error.Stack].
func Coded(code codes.Code, format string, args ...any) *Error {
	return newf(code, format, args...)
}

// Canceled makes an error for an operation that was cancelled, typically by
// the caller. See [Coded] for the format.
func Canceled(format string, args ...any) *Error { return newf(codes.Canceled, format, args...) }

// InvalidArgument makes an error for a request that is wrong whatever the
// state of the system; [Error.WithField] says where. See [Coded] for the
// format.
func InvalidArgument(format string, args ...any) *Error {
	return newf(codes.InvalidArgument, format, args...)
}

// DeadlineExceeded makes an error for an operation that took too long. See
// [Coded] for the format.
func DeadlineExceeded(format string, args ...any) *Error {
	return newf(codes.DeadlineExceeded, format, args...)
}

// NotFound makes an error for something that does not exist. See [Coded] for
// the format.
func NotFound(format string, args ...any) *Error { return newf(codes.NotFound, format, args...) }

// AlreadyExists makes an error for something to be created that exists. See
// [Coded] for the format.
func AlreadyExists(format string, args ...any) *Error {
	return newf(codes.AlreadyExists, format, args...)
}

// PermissionDenied makes an error for a caller who is known and may not do
// this. See [Coded] for the format.
func PermissionDenied(format string, args ...any) *Error {
	return newf(codes.PermissionDenied, format, args...)
}

// ResourceExhausted makes an error for a quota or a resource that is used up;
// [Error.WithRetry] says when to come again. See [Coded] for the format.
func ResourceExhausted(format string, args ...any) *Error {
	return newf(codes.ResourceExhausted, format, args...)
}

// FailedPrecondition makes an error for a system that is not in the state the
// operation needs; repeating it does not help until that is changed. See
// [Coded] for the format.
func FailedPrecondition(format string, args ...any) *Error {
	return newf(codes.FailedPrecondition, format, args...)
}

// Aborted makes an error for an operation that lost against a concurrent one;
// the caller may repeat the whole of it. See [Coded] for the format.
func Aborted(format string, args ...any) *Error { return newf(codes.Aborted, format, args...) }

// OutOfRange makes an error for an operation past the valid range. See [Coded]
// for the format.
func OutOfRange(format string, args ...any) *Error { return newf(codes.OutOfRange, format, args...) }

// Unimplemented makes an error for an operation that is not supported here.
// See [Coded] for the format.
func Unimplemented(format string, args ...any) *Error {
	return newf(codes.Unimplemented, format, args...)
}

// Unavailable makes an error for a service that cannot be used at present; the
// caller may try again, [Error.WithRetry] says when. See [Coded] for the
// format.
func Unavailable(format string, args ...any) *Error {
	return newf(codes.Unavailable, format, args...)
}

// Unauthenticated makes an error for a caller who did not prove who they are.
// See [Coded] for the format.
func Unauthenticated(format string, args ...any) *Error {
	return newf(codes.Unauthenticated, format, args...)
}

// Internal makes an error for a fault of the service itself. The text of cause
// never leaves the process: callers see "internal error". The stack is
// captured, see [Error.Stack]. A nil cause is allowed and gives an error all
// the same.
func Internal(cause error) *Error { return fault(codes.Internal, cause) }

// Unknown makes an error for a fault of which nothing is known; it is like
// [Internal] in all else.
func Unknown(cause error) *Error { return fault(codes.Unknown, cause) }

// DataLoss makes an error for data that is lost or damaged beyond recovery; it
// is like [Internal] in all else.
func DataLoss(cause error) *Error { return fault(codes.DataLoss, cause) }

// Wrap gives err the code, the public text and the identity of as, with err as
// the private cause. A nil err stays nil, so a call can be wrapped as it is
// returned; a nil as leaves err as it is. For Internal, Unknown and DataLoss
// the stack is captured, see [Error.Stack].
func Wrap(err error, as *Error) error {
	if err == nil {
		return nil
	}
	if as == nil {
		return err
	}
	e := as.WithCause(err)
	if isFault(e.code) && e.stack == nil {
		e.stack = captureBeneath(err, 1)
	}
	return e
}

func newf(code codes.Code, format string, args ...any) *Error {
	if code == codes.OK {
		code = codes.Unknown
	}
	err := fmt.Errorf(format, args...)
	text, cause := err.Error(), unwrapAny(err)
	if cause != nil {
		text = publicText(format, args)
	}
	e := &Error{code: code, message: textOr(code, text), cause: cause}
	if isFault(code) {
		e.stack = captureBeneath(cause, 2)
	}
	return e
}

func fault(code codes.Code, cause error) *Error {
	return &Error{code: code, message: defaultText(code), cause: cause, stack: captureBeneath(cause, 2)}
}

// isFault reports whether errors of that code, made here, know where: it costs
// about 2 us, so only those that someone will search the reason of do.
func isFault(code codes.Code) bool {
	return code == codes.Internal || code == codes.Unknown || code == codes.DataLoss
}

// unwrapAny is what err wraps, one or several, or nil.
func unwrapAny(err error) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return Join(several.Unwrap()...)
	}
	return Unwrap(err)
}

// publicText formats args with what is public of the errors among them.
func publicText(format string, args []any) string {
	args = slices.Clone(args)
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = publicError{err}
		}
	}
	return strings.Trim(fmt.Errorf(format, args...).Error(), " ,:;")
}

// publicError prints as what strangers may see of an error.
type publicError struct{ error }

func (e publicError) Error() string {
	if found := explicit(e.error, nil); found.err != nil {
		return found.err.Message()
	}
	return ""
}
