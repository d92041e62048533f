package protovalidate

import (
	"context"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// New returns a validator for [interceptors.Validate] that asks v, or
// [protovalidate.GlobalValidator] if v is nil. It is safe for concurrent use.
//
// Rules are compiled when a message of their type is first seen, and kept. To have
// that done, and mistakes found, when the program starts, make v with
// [protovalidate.WithMessages] and [protovalidate.WithDisableLazy]; to stop at the
// first violation, with [protovalidate.WithFailFast].
//
// What is no protocol buffer, and what has no rules, is valid.
func New(v protovalidate.Validator) interceptors.Validator {
	if v == nil {
		v = protovalidate.GlobalValidator
	}
	return interceptors.ValidatorFunc(func(_ context.Context, msg any) error {
		m, ok := msg.(proto.Message)
		if !ok {
			return nil
		}
		err := v.Validate(m)
		if err == nil {
			return nil
		}
		if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
			return refusal(invalid)
		}
		return errors.Internal(err)
	})
}

// maxViolations is how many are told; the budget of a status has room for fewer.
const maxViolations = 100

func refusal(invalid *protovalidate.ValidationError) error {
	var fields []*errdetails.BadRequest_FieldViolation
	for _, v := range invalid.Violations[:min(len(invalid.Violations), maxViolations)] {
		fields = append(fields, &errdetails.BadRequest_FieldViolation{
			Field:       protovalidate.FieldPathString(v.Proto.GetField()),
			Reason:      reason(v.Proto.GetRuleId()),
			Description: v.Proto.GetMessage(),
		})
	}
	failure := interceptors.ErrInvalid.WithDetails(&errdetails.BadRequest{FieldViolations: fields})
	if len(invalid.Violations) == 0 {
		return failure.WithCause(invalid)
	}
	text := "the message is invalid: " + invalid.Violations[0].String()
	if more := len(invalid.Violations) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return failure.WithMessage(text)
}

// reason is the id of a rule as google.rpc.BadRequest has its reasons, in upper
// snake case and at most 63 bytes:
// https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
func reason(rule string) string {
	upper := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, rule)
	return strings.Trim(upper[:min(len(upper), 63)], "_")
}
