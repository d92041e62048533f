package interceptors

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rpcscope/rpcscope/errors"
)

// ErrInvalid is what a call with an invalid message ends with. Its violations
// are those of a google.rpc.BadRequest, on the server and for its caller:
//
//	if bad, ok := errors.Detail[*errdetails.BadRequest](err); ok && errors.Is(err, interceptors.ErrInvalid) { ... }
//
// A [Validator] makes one of its own with [errors.Error.WithField].
var ErrInvalid = errors.Define(codes.InvalidArgument, "rpcscope", "INVALID_MESSAGE", "the message is invalid")

// Validator tells what is wrong with a message; nil is nothing. It is called by
// many goroutines at the same time and must not change the message.
//
// An error that has a code of its own, such as [ErrInvalid] with fields or an
// Unavailable of a database, ends the call as it is, and so does a context's
// error. Any other one is [ErrInvalid] with what the error says of fields: it, or
// those that it joins, may have the methods of protoc-gen-validate's errors,
// Field() and Reason(), Cause() for the field of a field, and AllErrors().
// The text of an error that says nothing of fields is for span and log only.
type Validator interface {
	Validate(ctx context.Context, msg any) error
}

// ValidatorFunc is a function that is a [Validator].
type ValidatorFunc func(ctx context.Context, msg any) error

// Validate calls f.
func (f ValidatorFunc) Validate(ctx context.Context, msg any) error { return f(ctx, msg) }

// Validate lets no invalid message pass: on a server none that is received
// reaches the handler, on a client none that is to be sent leaves. It looks at
// every message of a stream, and the first invalid one ends the call. What a
// server sends and a client receives is not looked at.
//
// All of v have to agree, in their order; nil ones are skipped. Without any,
// messages validate themselves: with ValidateAll() error, or else Validate()
// error, as protoc-gen-validate generates them; a message without either is
// valid, and a nil one is what it is on the wire, empty. What a message's own
// method says is told to the caller, also without fields.
//
// The error is [ErrInvalid]. A server counts the call in
// rpcscope.server.rejected with the reason "invalid", unless the code that
// the validator chose says that the fault is the server's. Span and access log
// name the fields, not their values, in rpcscope.invalid.fields; there are at
// most 10 of them, and at most 100 in the error.
//
// A validator that panics ends the call as a handler does.
func Validate(v ...Validator) Interceptor {
	validators := slices.DeleteFunc(slices.Clone(v), isNil[Validator])
	if len(validators) == 0 {
		validators = []Validator{ValidatorFunc(itself)}
	}
	return func(ctx context.Context, call *Call, next Next) error {
		if call.Kind == Unary {
			if err := validate(ctx, validators, call.Request); err != nil {
				call.invalid(ctx, err)
				return err
			}
			return next(ctx)
		}
		var refused hookError
		look := func(msg any) error {
			if err := validate(ctx, validators, msg); err != nil {
				return refused.set(err)
			}
			return nil
		}
		if call.Side == ClientSide {
			call.OnSend(look)
		} else {
			call.OnReceive(look)
		}
		err := next(ctx)
		if refusal := refused.get(); refusal != nil {
			call.invalid(ctx, refusal)
		}
		return err
	}
}

func validate(ctx context.Context, validators []Validator, msg any) error {
	for _, v := range validators {
		if err := v.Validate(ctx, msg); err != nil {
			return invalid(msg, err)
		}
	}
	return nil
}

// itself has the message validate itself.
func itself(_ context.Context, msg any) error {
	var err error
	switch m := msg.(type) {
	case interface{ ValidateAll() error }:
		err = present(m).ValidateAll()
	case interface{ Validate() error }:
		err = present(m).Validate()
	}
	if err == nil || explicit(err) || len(violations(nil, msg, err)) > 0 {
		return err
	}
	return ErrInvalid.WithMessage(err.Error()).WithCause(err)
}

// present is m, or if that is nil an empty message.
func present[M any](m M) M {
	if p, ok := any(m).(proto.Message); ok && !p.ProtoReflect().IsValid() {
		if empty, ok := p.ProtoReflect().New().Interface().(M); ok {
			return empty
		}
	}
	return m
}

// invalid makes the error that the call ends with of what a validator said.
func invalid(msg any, err error) error {
	if explicit(err) {
		return err
	}
	failure := ErrInvalid.WithCause(err)
	fields := violations(nil, msg, err)
	if len(fields) == 0 {
		return failure
	}
	text := fmt.Sprintf("the message is invalid: %s: %s", fields[0].GetField(), fields[0].GetDescription())
	if more := len(fields) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return failure.WithMessage(text).WithDetails(&errdetails.BadRequest{FieldViolations: fields})
}

// explicit tells whether err has a code of its own.
func explicit(err error) bool {
	return coded(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// maxViolations is how many are told; the budget of a status has room for fewer.
const maxViolations = 100

// violations are what err says of the fields of msg.
func violations(fields []*errdetails.BadRequest_FieldViolation, msg any, err error) []*errdetails.BadRequest_FieldViolation {
	var in protoreflect.MessageDescriptor
	if m, ok := msg.(proto.Message); ok {
		in = m.ProtoReflect().Descriptor()
	}
	return appendViolations(fields, "", in, err)
}

func appendViolations(fields []*errdetails.BadRequest_FieldViolation, path string, in protoreflect.MessageDescriptor, err error) []*errdetails.BadRequest_FieldViolation {
	switch e := err.(type) { //nolint:errorlint // what is wrapped is looked at in its turn
	case interface{ AllErrors() []error }:
		return appendAll(fields, path, in, e.AllErrors())
	case interface{ Unwrap() []error }:
		return appendAll(fields, path, in, e.Unwrap())
	case interface {
		Field() string
		Reason() string
	}:
		name, inner := fieldName(in, e.Field())
		if path != "" {
			name = path + "." + name
		}
		if c, ok := err.(interface{ Cause() error }); ok && c.Cause() != nil {
			if deeper := appendViolations(fields, name, inner, c.Cause()); len(deeper) > len(fields) {
				return deeper
			}
		}
		return append(fields, &errdetails.BadRequest_FieldViolation{Field: name, Reason: "INVALID", Description: e.Reason()})
	case interface{ Unwrap() error }:
		return appendViolations(fields, path, in, e.Unwrap())
	}
	return fields
}

func appendAll(fields []*errdetails.BadRequest_FieldViolation, path string, in protoreflect.MessageDescriptor, errs []error) []*errdetails.BadRequest_FieldViolation {
	for _, err := range errs {
		if len(fields) >= maxViolations {
			break
		}
		fields = appendViolations(fields, path, in, err)
	}
	return fields
}

// fieldName is the name that a field, or a oneof, has in the .proto file, for the
// one that protoc-gen-validate calls it by, which is Go's: of Emails[0] it makes
// emails[0]. It returns the descriptor of the field's message too, if it is one.
func fieldName(in protoreflect.MessageDescriptor, name string) (string, protoreflect.MessageDescriptor) {
	if in == nil {
		return name, nil
	}
	goName, index := name, ""
	if i := strings.IndexByte(name, '['); i >= 0 {
		goName, index = name[:i], name[i:]
	}
	is := func(d protoreflect.Descriptor) bool {
		return strings.EqualFold(strings.ReplaceAll(string(d.Name()), "_", ""), strings.ReplaceAll(goName, "_", ""))
	}
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		if !is(f) {
			continue
		}
		inner := f.Message()
		if f.IsMap() {
			inner = f.MapValue().Message()
		}
		return string(f.Name()) + index, inner
	}
	for i := range in.Oneofs().Len() {
		if o := in.Oneofs().Get(i); is(o) {
			return string(o.Name()), nil
		}
	}
	return name, nil
}

// invalidFieldsKey names the fields of a message that was refused.
const invalidFieldsKey = attribute.Key("rpcscope.invalid.fields")

const (
	maxInvalidFields = 10
	maxFieldName     = 128 // bytes: the key of a map may be in it
)

// invalid notes that the call is refused for err.
func (c *Call) invalid(ctx context.Context, err error) {
	if code := errors.Code(err); code == codes.Canceled || serverFault(code) {
		return
	}
	c.reject(ctx, "invalid")
	bad, ok := errors.Detail[*errdetails.BadRequest](err)
	if !ok {
		return
	}
	var names []string
	for _, f := range bad.GetFieldViolations() {
		if len(names) == maxInvalidFields {
			break
		}
		names = append(names, strings.ToValidUTF8(f.GetField()[:min(len(f.GetField()), maxFieldName)], ""))
	}
	c.AddAttributes(invalidFieldsKey.StringSlice(names))
}
