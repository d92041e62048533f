package interceptorstest

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// blank is an empty message of the type of m.
func blank(m proto.Message) proto.Message { return m.ProtoReflect().New().Interface() }

// take is what a receiver does that owns m: it uses it and writes something else
// into it. Under the race detector that finds interceptors that still read it.
func take(m proto.Message) proto.Message {
	taken := proto.Clone(m)
	proto.Reset(m)
	return taken
}

// numberField is the unknown field that holds a message's number, with the
// highest number that a field can have.
const numberField = protowire.MaxValidNumber

// number returns a copy of m that is the nth message.
func number(m proto.Message, n int) proto.Message {
	m = proto.Clone(m)
	field := protowire.AppendVarint(protowire.AppendTag(nil, numberField, protowire.VarintType), uint64(n)) //nolint:gosec // small
	m.ProtoReflect().SetUnknown(append(m.ProtoReflect().GetUnknown(), field...))
	return m
}
