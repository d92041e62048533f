package errors

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// standard reads errors for the functions of the package: the default mappers,
// and a remote error as what it is.
var standard Converter

// Code is the code of err as a [Converter] without options classifies it,
// except that a remote error keeps its own: OK for nil, Unknown for an error of
// which nothing is known.
func Code(err error) codes.Code {
	return standard.read(err).Code()
}

// Reason is the identity of err, both empty if it has none.
func Reason(err error) (domain, reason string) {
	e := standard.read(err)
	return e.Domain(), e.Reason()
}

// Message is the text of err that strangers may see, and "" for nil. For an
// error that nobody gave one it is the default text of its code, never
// err.Error().
//
// The message of a remote error is what the other service said, or, if it
// could not be reached, what gRPC says, addresses included; to show an error to
// one's own callers take the message of [Converter.Convert].
func Message(err error) string {
	return standard.read(err).Message()
}

// RetryAfter is how long err asks its caller to wait before the next try, and
// whether it does.
func RetryAfter(err error) (time.Duration, bool) {
	e := standard.read(err)
	if e == nil {
		return 0, false
	}
	return e.retry, e.retries
}

// Detail is the first detail of err that has type T, and whether there is one:
//
//	bad, ok := errors.Detail[*errdetails.BadRequest](err)
//
// The message is the caller's own.
func Detail[T proto.Message](err error) (T, bool) {
	var zero T
	if any(zero) == nil {
		return zero, false // T is an interface and names no type
	}
	name := zero.ProtoReflect().Descriptor().FullName()
	for _, p := range standard.read(err).packed() {
		if p.MessageName() != name {
			continue
		}
		detail := zero.ProtoReflect().New().Interface().(T)
		if p.UnmarshalTo(detail) == nil {
			return detail, true
		}
	}
	return zero, false
}
