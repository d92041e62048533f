package interceptors_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rpcscope/rpcscope/interceptors"
)

// payloads.proto: what a message can be made of, and where it can say that a
// field is secret.
const payloadsProto = `
name: "rpcscope/test/payloads.proto"
package: "rpcscope.test"
dependency: ["google/protobuf/any.proto", "google/protobuf/descriptor.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "google/protobuf/wrappers.proto", "google/protobuf/field_mask.proto", "google/protobuf/empty.proto"]
enum_type { name: "Level" value { name: "PUBLIC" number: 0 } value { name: "SECRET" number: 1 options { debug_redact: true } } }
extension { name: "level" extendee: ".google.protobuf.FieldOptions" number: 50001 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".rpcscope.test.Level" }
extension { name: "policy" extendee: ".google.protobuf.FieldOptions" number: 50002 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.Policy" }
message_type { name: "Policy" field { name: "level" number: 1 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".rpcscope.test.Level" } }
message_type {
	name: "All"
	extension_range { start: 1000 end: 2000 }
	field { name: "a_bool" number: 1 label: LABEL_OPTIONAL type: TYPE_BOOL }
	field { name: "an_int32" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 }
	field { name: "a_sint32" number: 3 label: LABEL_OPTIONAL type: TYPE_SINT32 }
	field { name: "a_sfixed32" number: 4 label: LABEL_OPTIONAL type: TYPE_SFIXED32 }
	field { name: "a_uint32" number: 5 label: LABEL_OPTIONAL type: TYPE_UINT32 }
	field { name: "a_fixed32" number: 6 label: LABEL_OPTIONAL type: TYPE_FIXED32 }
	field { name: "an_int64" number: 7 label: LABEL_OPTIONAL type: TYPE_INT64 }
	field { name: "a_sint64" number: 8 label: LABEL_OPTIONAL type: TYPE_SINT64 }
	field { name: "a_sfixed64" number: 9 label: LABEL_OPTIONAL type: TYPE_SFIXED64 }
	field { name: "a_uint64" number: 10 label: LABEL_OPTIONAL type: TYPE_UINT64 }
	field { name: "a_fixed64" number: 11 label: LABEL_OPTIONAL type: TYPE_FIXED64 }
	field { name: "a_float" number: 12 label: LABEL_OPTIONAL type: TYPE_FLOAT }
	field { name: "a_double" number: 13 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
	field { name: "a_string" number: 14 label: LABEL_OPTIONAL type: TYPE_STRING }
	field { name: "some_bytes" number: 15 label: LABEL_OPTIONAL type: TYPE_BYTES }
	field { name: "an_enum" number: 16 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".rpcscope.test.Level" }
	field { name: "all" number: 17 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.All" }
	field { name: "strings" number: 18 label: LABEL_REPEATED type: TYPE_STRING }
	field { name: "alls" number: 19 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.All" }
	field { name: "doubles" number: 20 label: LABEL_REPEATED type: TYPE_DOUBLE }
	field { name: "names" number: 21 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.All.NamesEntry" }
	field { name: "numbers" number: 22 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.All.NumbersEntry" }
	field { name: "left" number: 23 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
	field { name: "right" number: 24 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.All" oneof_index: 0 }
	field { name: "timestamp" number: 30 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" }
	field { name: "duration" number: 31 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" }
	field { name: "struct" number: 32 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" }
	field { name: "wrapped" number: 33 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
	field { name: "wrapped_bytes" number: 34 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.BytesValue" }
	field { name: "mask" number: 35 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.FieldMask" }
	field { name: "empty" number: 36 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Empty" }
	field { name: "any" number: 37 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" }
	field { name: "null" number: 38 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".google.protobuf.NullValue" }
	field { name: "group" number: 39 label: LABEL_OPTIONAL type: TYPE_GROUP type_name: ".rpcscope.test.All.Group" }
	oneof_decl { name: "side" }
	nested_type { name: "Group" field { name: "x" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
	nested_type { name: "NamesEntry" options { map_entry: true }
		field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.All" } }
	nested_type { name: "NumbersEntry" options { map_entry: true }
		field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_BOOL } }
}
extension { name: "extra" extendee: ".rpcscope.test.All" number: 1000 label: LABEL_OPTIONAL type: TYPE_STRING }
extension { name: "more" extendee: ".rpcscope.test.All" number: 1001 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.All" }
`

// secrets.proto marks fields of every type and in every place.
const secretsProto = `
name: "rpcscope/test/secrets.proto"
package: "rpcscope.test"
dependency: ["rpcscope/test/payloads.proto", "google/protobuf/any.proto", "google/protobuf/wrappers.proto"]
message_type {
	name: "Secrets"
	extension_range { start: 1000 end: 2000 }
	field { name: "open" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
	field { name: "text" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING options { debug_redact: true } }
	field { name: "bytes" number: 3 label: LABEL_OPTIONAL type: TYPE_BYTES options { debug_redact: true } }
	field { name: "number" number: 4 label: LABEL_OPTIONAL type: TYPE_INT64 options { debug_redact: true } }
	field { name: "message" number: 5 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.All" options { debug_redact: true } }
	field { name: "list" number: 6 label: LABEL_REPEATED type: TYPE_STRING options { debug_redact: true } }
	field { name: "map" number: 7 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets.MapEntry" options { debug_redact: true } }
	field { name: "chosen" number: 8 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 options { debug_redact: true } }
	field { name: "any" number: 9 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" options { debug_redact: true } }
	field { name: "wrapped" number: 10 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue" options { debug_redact: true } }
	field { name: "by_level" number: 11 label: LABEL_OPTIONAL type: TYPE_STRING options { [rpcscope.test.level]: SECRET } }
	field { name: "by_policy" number: 12 label: LABEL_OPTIONAL type: TYPE_STRING options { [rpcscope.test.policy] { level: PUBLIC } [rpcscope.test.policy] { level: SECRET } } }
	field { name: "public" number: 13 label: LABEL_OPTIONAL type: TYPE_STRING options { [rpcscope.test.level]: PUBLIC deprecated: true } }
	field { name: "nested" number: 20 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets" }
	field { name: "nested_list" number: 21 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets" }
	field { name: "nested_map" number: 22 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets.NestedMapEntry" }
	field { name: "nested_any" number: 23 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" }
	field { name: "nested_chosen" number: 24 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets" oneof_index: 1 }
	oneof_decl { name: "choice" }
	oneof_decl { name: "nested_choice" }
	nested_type { name: "MapEntry" options { map_entry: true }
		field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING } }
	nested_type { name: "NestedMapEntry" options { map_entry: true }
		field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets" } }
}
extension { name: "secret_extension" extendee: ".rpcscope.test.Secrets" number: 1000 label: LABEL_OPTIONAL type: TYPE_STRING options { debug_redact: true } }
extension { name: "nested_extension" extendee: ".rpcscope.test.Secrets" number: 1001 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rpcscope.test.Secrets" }
`

// The types of the two files, known to the process as generated ones are: what is
// in an Any, and the options of fields, are looked up by name.
var typeAll, typeSecrets = func() (all, secrets protoreflect.MessageType) {
	for _, text := range []string{payloadsProto, secretsProto} {
		file := new(descriptorpb.FileDescriptorProto)
		if err := prototext.Unmarshal([]byte(text), file); err != nil {
			panic(err)
		}
		d, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
		if err != nil {
			panic(err)
		}
		if err := protoregistry.GlobalFiles.RegisterFile(d); err != nil {
			panic(err)
		}
		for i := range d.Messages().Len() {
			if err := protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(d.Messages().Get(i))); err != nil {
				panic(err)
			}
		}
		for i := range d.Extensions().Len() {
			if err := protoregistry.GlobalTypes.RegisterExtension(dynamicpb.NewExtensionType(d.Extensions().Get(i))); err != nil {
				panic(err)
			}
		}
	}
	find := func(name protoreflect.FullName) protoreflect.MessageType {
		t, err := protoregistry.GlobalTypes.FindMessageByName(name)
		if err != nil {
			panic(err)
		}
		return t
	}
	return find("rpcscope.test.All"), find("rpcscope.test.Secrets")
}()

// logged is the payload that is logged of msg, and whether it was truncated.
func logged(t *testing.T, msg any, opts ...interceptors.PayloadOption) (text string, truncated bool) {
	t.Helper()
	b := &logBuffer{}
	opts = append([]interceptors.PayloadOption{interceptors.PayloadLogger(slog.New(slog.NewJSONHandler(b, nil)))}, opts...)
	call := &interceptors.Call{FullMethod: unaryMethod, Request: msg}
	if err := interceptors.LogPayloads(opts...)(t.Context(), call, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	record := b.records(t)[0]
	truncated, _ = record["rpcscope.payload.truncated"].(bool)
	return record["rpcscope.payload"].(string), truncated
}

// random makes messages of all that there is.
type random struct{ *rand.Rand }

func (r random) message(m protoreflect.Message, depth int) {
	set := func(f protoreflect.FieldDescriptor) {
		if r.IntN(3) == 0 || f.Message() != nil && depth == 0 {
			return
		}
		switch {
		case f.IsList():
			for range r.IntN(4) {
				m.Mutable(f).List().Append(r.value(f, m.NewField(f).List().NewElement, depth))
			}
		case f.IsMap():
			entries := m.Mutable(f).Map()
			for range r.IntN(4) {
				entries.Set(r.value(f.MapKey(), nil, 0).MapKey(), r.value(f.MapValue(), entries.NewValue, depth))
			}
		default:
			m.Set(f, r.value(f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
	for i := range m.Descriptor().Fields().Len() {
		set(m.Descriptor().Fields().Get(i))
	}
	protoregistry.GlobalTypes.RangeExtensionsByMessage(m.Descriptor().FullName(), func(x protoreflect.ExtensionType) bool {
		set(x.TypeDescriptor())
		return true
	})
}

func (r random) value(f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(r.Uint32())
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(r.Uint64())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(r.float()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.float())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.text()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(3))) // 2 has no name
	}
	v := empty()
	var known proto.Message
	switch f.Message().FullName() {
	case "google.protobuf.Timestamp":
		known = &timestamppb.Timestamp{Seconds: r.Int64N(1 << 35), Nanos: r.Int32N(1e9)}
	case "google.protobuf.Duration":
		known = durationpb.New(durationpb.New(1e9).AsDuration() * 3 / 2)
	case "google.protobuf.Struct":
		known = &structpb.Struct{Fields: map[string]*structpb.Value{
			r.text(): structpb.NewStringValue(r.text()), "n": structpb.NewNumberValue(r.Float64()), "null": structpb.NewNullValue(),
			"list": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewBoolValue(true), structpb.NewStructValue(&structpb.Struct{})}}),
		}}
	case "google.protobuf.FieldMask":
		known = &fieldmaskpb.FieldMask{Paths: []string{"a_bool", "all.an_int32"}}
	case "google.protobuf.Any":
		inner := typeAll.New()
		r.message(inner, 0)
		choices := []proto.Message{inner.Interface(), wrapperspb.UInt64(7), &emptypb.Empty{}, durationpb.New(1), structpb.NewNullValue()}
		packed, err := anypb.New(choices[r.IntN(len(choices))])
		if err != nil {
			panic(err)
		}
		known = packed
	default:
		r.message(v.Message(), depth-1)
		return v
	}
	b, err := proto.Marshal(known)
	if err != nil {
		panic(err)
	}
	if err := proto.Unmarshal(b, v.Message().Interface()); err != nil {
		panic(err)
	}
	return v
}

func (r random) float() float64 {
	return []float64{0, math.Copysign(0, -1), 1.5, math.NaN(), math.Inf(1), math.Inf(-1), r.NormFloat64() * 1e30, r.Float64() * 1e-30, 1e21}[r.IntN(9)]
}

func (r random) text() string {
	runes := []rune("ab \"\\/<>&\n\r\t\b\x00\x1f\x7f\u2028äß\U0001F600\ufffd")
	s := make([]rune, r.IntN(8))
	for i := range s {
		s[i] = runes[r.IntN(len(runes))]
	}
	return string(s)
}

// What is logged is what protojson writes, where nothing is redacted.
func TestPayloadIsProtoJSON(t *testing.T) {
	r := random{rand.New(rand.NewPCG(1, 2))}
	for range 100 {
		m := typeAll.New()
		r.message(m, 2)
		b, err := protojson.Marshal(m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		text, truncated := logged(t, m.Interface(), interceptors.PayloadBytes(10<<20))
		if truncated {
			t.Fatal("truncated")
		}
		var got, want any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the payload is not what protojson writes (-want +got):\n%s", diff)
		}
	}
}

// What protojson refuses to write.
func TestPayloadOfWhatHasNoJSON(t *testing.T) {
	unknown := &anypb.Any{TypeUrl: "type.example/no.such.Type", Value: []byte("secret")}
	for name, test := range map[string]struct {
		msg  proto.Message
		want string
	}{
		"unknown type":      {unknown, `{"@type":"type.example/no.such.Type","value":"[unknown]"}`},
		"broken content":    {&anypb.Any{TypeUrl: "/google.protobuf.Duration", Value: []byte("\xff")}, `{"@type":"/google.protobuf.Duration","value":"[unknown]"}`},
		"content of nobody": {&anypb.Any{Value: []byte("secret")}, `{"@type":"","value":"[unknown]"}`},
		"a year too late":   {&timestamppb.Timestamp{Seconds: math.MaxInt64}, `"[invalid]"`},
		"no value":          {&structpb.Value{}, `null`},
		"no UTF-8":          {structpb.NewStringValue("a\xffb"), "\"a\ufffdb\""},
		"nil":               {(*anypb.Any)(nil), `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := logged(t, test.msg); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// A payload ends where the limit is, at a whole character, however long the
// message, and whatever it is long in.
func TestPayloadLimit(t *testing.T) {
	long := strings.Repeat("ä", 1<<20)
	all := func(text string) proto.Message {
		m := typeAll.New()
		if err := prototext.Unmarshal([]byte(text), m.Interface()); err != nil {
			t.Fatal(err)
		}
		return m.Interface()
	}
	deep := strings.Repeat("all {", 2000) + strings.Repeat("}", 2000)
	fields := make(map[string]*structpb.Value)
	for range 20_000 {
		fields[string(rune(0x10000+len(fields)))] = structpb.NewBoolValue(true)
	}
	for name, msg := range map[string]proto.Message{
		"string": wrapperspb.String(long), "bytes": wrapperspb.Bytes([]byte(long)), "list": all(strings.Repeat(`strings: "äää" `, 10_000)),
		"map": &structpb.Struct{Fields: fields}, "depth": all(deep), "extension": all(`[rpcscope.test.extra]: "` + strings.Repeat("ä", 9999) + `"`),
	} {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{1, 2, 3, 100, 101, 4096} {
				text, truncated := logged(t, msg, interceptors.PayloadBytes(limit))
				if !truncated || len(text) > limit || len(text) < limit-utf8.UTFMax || !utf8.ValidString(text) {
					t.Errorf("with a limit of %d, %d bytes, truncated: %v, valid: %v", limit, len(text), truncated, utf8.ValidString(text))
				}
			}
		})
	}
	if text, truncated := logged(t, wrapperspb.String("abc"), interceptors.PayloadBytes(5)); text != `"abc"` || truncated {
		t.Errorf("got %s, truncated: %v, of what fits", text, truncated)
	}
	if text, truncated := logged(t, wrapperspb.String("abcd"), interceptors.PayloadBytes(5)); text != `"abcd` || !truncated {
		t.Errorf("got %s, truncated: %v, of what does not fit", text, truncated)
	}
}

const planted = "hunter2-planted"

// secretive has the secret in each of its marked fields, and itself in all the
// places that a message can be in.
func secretive(depth int) string {
	s := `open: "seen" public: "seen too" text: "P" bytes: "P" number: 4711000 message { a_string: "P" strings: "P" } list: ["P", "P"]
		map { key: "P" value: "P" } chosen: "P" any { [type.googleapis.com/rpcscope.test.All] { a_string: "P" } } wrapped { value: "P" }
		by_level: "P" by_policy: "P" [rpcscope.test.secret_extension]: "P" `
	s = strings.ReplaceAll(s, `"P"`, `"`+planted+`"`)
	if depth > 0 {
		inner := secretive(depth - 1)
		s += ` nested {` + inner + `} nested_list {` + inner + `} nested_list {} nested_map { key: "k" value {` + inner + `} }
			nested_any { [type.googleapis.com/rpcscope.test.Secrets] {` + inner + `} } nested_chosen {` + inner + `} [rpcscope.test.nested_extension] {` + inner + `}`
	}
	return s
}

func newSecretive(t *testing.T, depth int) proto.Message {
	t.Helper()
	m := typeSecrets.New().Interface()
	if err := prototext.Unmarshal([]byte(secretive(depth)), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Rule 29: a marked field is masked, whatever it is and wherever it is.
func TestRule29PayloadRedacts(t *testing.T) {
	text, truncated := logged(t, newSecretive(t, 2), interceptors.PayloadBytes(1<<20))
	if truncated {
		t.Fatal("truncated")
	}
	if strings.Contains(text, planted) || strings.Contains(text, "4711000") || strings.Contains(text, "aHVudGVy") {
		t.Errorf("the secret is logged: %s", text)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	// 1 + 6 + 36 messages, with 12 marked fields each.
	if n := strings.Count(text, `"[redacted]"`); n != 43*12 {
		t.Errorf("%d fields are masked, want %d", n, 43*12)
	}
	if n, m := strings.Count(text, `"seen"`), strings.Count(text, `"seen too"`); n != 43 || m != 43 {
		t.Errorf("%d and %d open fields are logged, want 43 of each", n, m)
	}
	flat, _ := logged(t, newSecretive(t, 0))
	want := `{"open":"seen","text":"[redacted]","bytes":"[redacted]","number":"[redacted]","message":"[redacted]","list":"[redacted]","map":"[redacted]",` +
		`"chosen":"[redacted]","any":"[redacted]","wrapped":"[redacted]","byLevel":"[redacted]","byPolicy":"[redacted]","public":"seen too","[rpcscope.test.secret_extension]":"[redacted]"}`
	if flat != want {
		t.Errorf("got  %s\nwant %s", flat, want)
	}
	empty, _ := logged(t, typeSecrets.New().Interface())
	if empty != "{}" {
		t.Errorf("of a message without anything %s is logged", empty)
	}
}

// counted is a type whose messages, which have an Any, are counted as they are
// made: what unpacks an Any of it makes one.
type counted struct {
	protoreflect.MessageType
	made *atomic.Int64
}

func (c counted) New() protoreflect.Message {
	c.made.Add(1)
	return c.MessageType.New()
}

var typeCounted = func() counted {
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(`name: "rpcscope/test/counted.proto" package: "rpcscope.test" dependency: "google/protobuf/any.proto"
		message_type { name: "Counted" field { name: "a" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" } }`), file); err != nil {
		panic(err)
	}
	d, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	c := counted{dynamicpb.NewMessageType(d.Messages().Get(0)), new(atomic.Int64)}
	if err := protoregistry.GlobalTypes.RegisterMessage(c); err != nil {
		panic(err)
	}
	return c
}()

// matryoshka is an Any with a message of the type with an Any ..., so many of them,
// around content.
func matryoshka(t *testing.T, url string, levels int, content proto.Message) proto.Message {
	t.Helper()
	inside, err := anypb.New(content)
	if err != nil {
		t.Fatal(err)
	}
	for range levels {
		value, err := proto.Marshal(inside)
		if err != nil {
			t.Fatal(err)
		}
		if url == countedURL {
			value = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
		}
		inside = &anypb.Any{TypeUrl: url, Value: value}
	}
	return inside
}

const countedURL, anyURL = "/rpcscope.test.Counted", "/google.protobuf.Any"

// An Any in an Any ... is not unpacked to the bottom: each level copies all that is
// below it.
func TestPayloadOfAnyInAny(t *testing.T) {
	ada, counted := wrapperspb.String("ada"), typeCounted.MessageType.New().Interface()
	const tooLarge = `"value":"[too large]"`
	for _, test := range []struct {
		name      string
		msg       proto.Message
		limit     int
		from, to  int64 // of the Counted, are unpacked
		has       string
		truncated bool
	}{
		{name: "nothing unusual", msg: matryoshka(t, countedURL, 5, ada), limit: 4096, from: 5, to: 5, has: `"value":"ada"}}}}}}`},
		{name: "Any in Any", msg: matryoshka(t, anyURL, 5, counted), limit: 4096, from: 1, to: 1, has: `{"@type":"type.googleapis.com/rpcscope.test.Counted"}}}}}}`},
		{name: "beyond the limit", msg: matryoshka(t, countedURL, 1000, ada), limit: 100, from: 2, to: 3, truncated: true},
		{name: "Any in Any, beyond the limit", msg: matryoshka(t, anyURL, 1000, counted), limit: 100, truncated: true},
		{name: "levels", msg: matryoshka(t, countedURL, 1500, ada), limit: 1 << 16, from: 2, to: 5, has: tooLarge},
		{name: "size", msg: matryoshka(t, countedURL, 20, wrapperspb.Bytes(make([]byte, 20_000))), limit: 4096, from: 3, to: 3, has: tooLarge},
		{name: "size at once", msg: matryoshka(t, countedURL, 1, wrapperspb.Bytes(make([]byte, 1<<20))), limit: 4096, has: tooLarge},
		{name: "size, and limit", msg: matryoshka(t, countedURL, 1, wrapperspb.Bytes(make([]byte, 1<<20))), limit: 1 << 21, from: 1, to: 1, has: `"value":"AAAA`},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := typeCounted.made.Load()
			text, truncated := logged(t, test.msg, interceptors.PayloadBytes(test.limit))
			if n := typeCounted.made.Load() - before; n < test.from || n > test.to {
				t.Errorf("%d were unpacked, want %d to %d", n, test.from, test.to)
			}
			if !strings.Contains(text, test.has) || truncated != test.truncated {
				t.Errorf("truncated: %v, %d bytes, %.300s, want %q in it", truncated, len(text), text, test.has)
			}
		})
	}
}
