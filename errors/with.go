package errors

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// With returns a copy of e with a value of ErrorInfo metadata, which also fills
// {key} in the text of a defined error. The value is public; it is formatted as
// by [fmt.Sprint], but of an error only its [Message] is taken. The values of
// authorization, cookie and the like are replaced by "[redacted]". The key
// "truncated" is set by [Converter.Status] when it had to shorten.
func (e *Error) With(key string, value any) *Error {
	if e == nil {
		return nil
	}
	c := e.changed()
	c.metadata = make(map[string]string, len(e.metadata)+1)
	maps.Copy(c.metadata, e.metadata)
	c.metadata[valid(key)] = metadataText(key, value)
	return c
}

// WithReason returns a copy of e with another identity.
func (e *Error) WithReason(domain, reason string) *Error {
	if e == nil {
		return nil
	}
	c := e.changed()
	c.domain, c.reason = valid(domain), valid(reason)
	return c
}

// WithMessage returns a copy of e with another public text. A {key} in it is
// filled by [Error.With]; an empty text is the default text of the code.
func (e *Error) WithMessage(message string) *Error {
	if e == nil {
		return nil
	}
	c := e.changed()
	c.message, c.template = textOr(e.code, message), true
	return c
}

// WithCause returns a copy of e with a private cause, which [Is], [As] and
// [Unwrap] see, and logs and spans show; it is never sent. It takes the place
// of the cause that e had.
func (e *Error) WithCause(cause error) *Error {
	if e == nil {
		return nil
	}
	c := e.copied()
	c.cause, c.over = cause, false
	return c
}

// WithField returns a copy of e with one more violation in google.rpc.BadRequest:
// the path of the field in the request ("user.emails[0]"), a reason in upper
// snake case, and a text for people.
func (e *Error) WithField(path, reason, description string) *Error {
	if e == nil {
		return nil
	}
	return e.withFields(&errdetails.BadRequest_FieldViolation{Field: valid(path), Reason: valid(reason), Description: clean(description)})
}

// WithRetry returns a copy of e that asks its caller to wait for d before the
// next try (google.rpc.RetryInfo). A negative d is zero: try at once.
func (e *Error) WithRetry(d time.Duration) *Error {
	if e == nil {
		return nil
	}
	c := e.changed()
	c.retry, c.retries = max(d, 0), true
	return c
}

// WithDetails returns a copy of e with further details. There is at most one of
// each type: a detail takes the place of the one of its type, and the
// violations of a google.rpc.BadRequest are added to those there are. An
// ErrorInfo sets domain, reason and metadata, a RetryInfo the delay.
// A google.rpc.DebugInfo is sent only where [WithDebugInfo] says so. An
// [anypb.Any] stands for what it holds, known type or not. Nil messages are
// skipped, as is what cannot be encoded. The messages are copied.
func (e *Error) WithDetails(details ...proto.Message) *Error {
	if e == nil {
		return nil
	}
	c := e.changed()
	c.add(details)
	return c
}

// WithStack returns a copy of e with the stack of the caller, see
// [Error.Stack]. It is for errors whose code does not make them capture it.
func (e *Error) WithStack() *Error {
	if e == nil {
		return nil
	}
	c := e.copied()
	c.stack = capture(1)
	return c
}

func (e *Error) withFields(fields ...*errdetails.BadRequest_FieldViolation) *Error {
	c := e.changed()
	c.fields = append(slices.Clip(c.fields), fields...)
	return c
}

func metadataText(key string, value any) string {
	if secretKey(key) {
		return redacted
	}
	switch v := value.(type) {
	case string:
		return clean(v)
	case error:
		return Message(v)
	}
	return clean(fmt.Sprint(value))
}
