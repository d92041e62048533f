package errors

import (
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The details this package reads or writes itself.
const (
	errorInfo           = "google.rpc.ErrorInfo"
	retryInfo           = "google.rpc.RetryInfo"
	badRequest          = "google.rpc.BadRequest"
	quotaFailure        = "google.rpc.QuotaFailure"
	preconditionFailure = "google.rpc.PreconditionFailure"
	debugInfo           = "google.rpc.DebugInfo"
	requestInfo         = "google.rpc.RequestInfo"
	resourceInfo        = "google.rpc.ResourceInfo"
	help                = "google.rpc.Help"
	localizedMessage    = "google.rpc.LocalizedMessage"
)

// packed are the details of e as they go over the wire. They are shared and
// must not be changed.
func (e *Error) packed() []*anypb.Any {
	switch {
	case e == nil:
		return nil
	case e.status != nil:
		return e.received
	case !e.hasInfo() && !e.retries && len(e.fields) == 0:
		return e.details
	}
	packed := make([]*anypb.Any, 0, 3+len(e.details))
	if e.hasInfo() {
		packed = append(packed, pack(&errdetails.ErrorInfo{Domain: e.domain, Reason: e.reason, Metadata: e.metadata}))
	}
	if e.retries {
		packed = append(packed, pack(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.retry)}))
	}
	if len(e.fields) > 0 {
		packed = append(packed, pack(&errdetails.BadRequest{FieldViolations: e.fields}))
	}
	return append(packed, e.details...)
}

// read takes over the details of a status. There may be any number of them.
func (e *Error) read(details []*anypb.Any) {
	seen := make(map[protoreflect.FullName]bool, len(details))
	for _, p := range details {
		name := p.MessageName()
		if seen[name] && name != badRequest {
			continue
		}
		seen[name] = true
		if !e.absorb(p) {
			e.details = append(e.details, p)
		}
	}
}

// add adds details to e, which shares what it has, each in the place of the one
// of its type.
func (e *Error) add(details []proto.Message) {
	e.fields, e.details = slices.Clip(e.fields), slices.Clone(e.details)
	for _, m := range details {
		p := pack(m)
		if p == nil || e.absorb(p) {
			continue
		}
		same := func(other *anypb.Any) bool { return other.MessageName() == p.MessageName() }
		if i := slices.IndexFunc(e.details, same); i >= 0 {
			e.details[i] = p
		} else {
			e.details = append(e.details, p)
		}
	}
}

// absorb makes p, where e has a field for it, a part of e.
func (e *Error) absorb(p *anypb.Any) bool {
	switch p.MessageName() {
	case errorInfo:
		if info := (&errdetails.ErrorInfo{}); p.UnmarshalTo(info) == nil {
			e.domain, e.reason, e.metadata = info.Domain, info.Reason, info.Metadata
			return true
		}
	case retryInfo:
		if info := (&errdetails.RetryInfo{}); p.UnmarshalTo(info) == nil {
			e.retry, e.retries = max(info.RetryDelay.AsDuration(), 0), true
			return true
		}
	case badRequest:
		if bad := (&errdetails.BadRequest{}); p.UnmarshalTo(bad) == nil {
			e.fields = append(e.fields, bad.FieldViolations...)
			return true
		}
	}
	return false
}

// pack is m as a detail, or nil if there is none or it cannot be encoded. An
// Any is what it holds.
func pack(m proto.Message) *anypb.Any {
	if m == nil || !m.ProtoReflect().IsValid() {
		return nil
	}
	if p, ok := m.(*anypb.Any); ok {
		return &anypb.Any{TypeUrl: valid(p.GetTypeUrl()), Value: slices.Clone(p.GetValue())}
	}
	options := proto.MarshalOptions{Deterministic: true}
	b, err := options.Marshal(m)
	if err != nil {
		m = proto.Clone(m)
		makeValid(m.ProtoReflect())
		if b, err = options.Marshal(m); err != nil {
			return nil
		}
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: b}
}

// makeValid replaces what is not UTF-8 in the strings of m.
func makeValid(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			makeMapValid(field, value.Map())
		case field.IsList():
			for i := range value.List().Len() {
				value.List().Set(i, validValue(field, value.List().Get(i)))
			}
		default:
			m.Set(field, validValue(field, value))
		}
		return true
	})
}

func makeMapValid(field protoreflect.FieldDescriptor, values protoreflect.Map) {
	values.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		values.Clear(key)
		values.Set(validValue(field.MapKey(), key.Value()).MapKey(), validValue(field.MapValue(), value))
		return true
	})
}

func validValue(field protoreflect.FieldDescriptor, value protoreflect.Value) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(valid(value.String()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		makeValid(value.Message())
	}
	return value
}

// without is details but those of that type.
func without(details []*anypb.Any, name protoreflect.FullName) []*anypb.Any {
	is := func(p *anypb.Any) bool { return p.MessageName() == name }
	if !slices.ContainsFunc(details, is) {
		return details
	}
	return slices.DeleteFunc(slices.Clone(details), is)
}

// newStatus is a status of its own: gRPC has none that shares its details.
func newStatus(code codes.Code, message string, details []*anypb.Any) *status.Status {
	if len(details) == 0 {
		return status.New(code, message)
	}
	return status.FromProto(&spb.Status{Code: int32(code), Message: message, Details: details})
}
