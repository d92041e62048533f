package interceptors

import (
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// payloadJSON is m as protojson writes it, with what is to be redacted masked and no
// more than limit bytes. protojson itself can neither mask a field that is not a string
// nor stop: a masked copy of a large message would cost what the message costs.
func payloadJSON(m protoreflect.Message, limit int) (text string, truncated bool) {
	w := payloadWriters.Get().(*payloadWriter)
	defer payloadWriters.Put(w)
	*w = payloadWriter{buf: w.buf[:0], limit: limit, unpacks: limit + 64<<10}
	w.message(m)
	if !w.full() {
		return string(w.buf), false
	}
	end := limit
	for end > 0 && !utf8.RuneStart(w.buf[end]) {
		end--
	}
	return string(w.buf[:end]), true
}

// payloadWriter writes until it is full, and then nothing of any size.
type payloadWriter struct {
	buf     []byte
	limit   int // bytes
	unpacks int // bytes of what is in an Any, which are copied once for each Any around them
}

var payloadWriters = sync.Pool{New: func() any { return new(payloadWriter) }}

func (w *payloadWriter) full() bool { return len(w.buf) > w.limit }

func (w *payloadWriter) raw(s string) { w.buf = append(w.buf, s...) }

// mask stands for the value of a field with debug_redact.
const mask = `"[redacted]"`

func (w *payloadWriter) message(m protoreflect.Message) {
	if w.wellKnown(m) {
		return
	}
	w.raw("{")
	w.fields(m, true)
	w.raw("}")
}

// wellKnown writes m if its JSON is not that of its fields.
// https://protobuf.dev/programming-guides/json/
func (w *payloadWriter) wellKnown(m protoreflect.Message) bool {
	if !hasOwnJSON(m.Descriptor()) {
		return false
	}
	fields := m.Descriptor().Fields()
	switch f := fields.Get(0); m.Descriptor().Name() {
	case "Any":
		w.any(m)
	case "Struct":
		w.entries(f, m.Get(f).Map())
	case "ListValue":
		w.list(f, m.Get(f).List())
	case "Value":
		if f = m.WhichOneof(f.ContainingOneof()); f == nil {
			w.raw("null")
			return true
		}
		w.singular(f, m.Get(f))
	case "Timestamp", "Duration", "FieldMask":
		b, err := protojson.Marshal(m.Interface())
		if err != nil {
			b = []byte(`"[invalid]"`) // beyond the year 9999
		}
		w.buf = append(w.buf, b[:min(len(b), w.limit+1)]...)
	default: // a wrapper
		w.singular(f, m.Get(f))
	}
	return true
}

func hasOwnJSON(d protoreflect.MessageDescriptor) bool {
	if d.FullName().Parent() != "google.protobuf" {
		return false
	}
	switch d.Name() {
	case "Any", "Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue", "BoolValue", "Int32Value", "Int64Value",
		"UInt32Value", "UInt64Value", "FloatValue", "DoubleValue", "StringValue", "BytesValue":
		return true
	}
	return false
}

// any writes what is in an Any, if its type is known here.
func (w *payloadWriter) any(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	url, value := m.Get(fields.ByName("type_url")).String(), m.Get(fields.ByName("value")).Bytes()
	w.raw("{")
	defer w.raw("}")
	if url == "" && len(value) == 0 {
		return
	}
	w.raw(`"@type":`)
	w.string(url)
	switch {
	case w.full():
		return
	case len(value) > w.unpacks:
		w.raw(`,"value":"[too large]"`)
		return
	}
	w.unpacks -= len(value)
	inner, err := unpack(url, value)
	switch {
	case err != nil:
		w.raw(`,"value":"[unknown]"`)
	case hasOwnJSON(inner.Descriptor()):
		w.raw(`,"value":`)
		w.message(inner)
	default:
		w.fields(inner, false)
	}
}

func unpack(url string, value []byte) (protoreflect.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		return nil, err
	}
	m := t.New()
	return m, proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(value, m.Interface())
}

// fields writes those that are set in the order of the .proto file, then the
// extensions. first says that nothing stands before them.
func (w *payloadWriter) fields(m protoreflect.Message, first bool) {
	d := m.Descriptor()
	field := func(f protoreflect.FieldDescriptor) {
		if !first {
			w.raw(",")
		}
		first = false
		w.string(f.JSONName())
		w.raw(":")
		if redacts(f) {
			w.raw(mask)
			return
		}
		w.value(f, m.Get(f))
	}
	for i := 0; i < d.Fields().Len() && !w.full(); i++ {
		if f := d.Fields().Get(i); m.Has(f) {
			field(f)
		}
	}
	if d.ExtensionRanges().Len() == 0 {
		return
	}
	var extensions []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if f.IsExtension() {
			extensions = append(extensions, f)
		}
		return true
	})
	slices.SortFunc(extensions, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.FullName(), b.FullName()) })
	for _, f := range extensions {
		if w.full() {
			return
		}
		field(f)
	}
}

// redacts tells whether the values of a field are not to be shown: it has
// debug_redact, or an option one of whose values in an enum has.
// https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/descriptor.proto
func redacts(f protoreflect.FieldDescriptor) bool {
	options, _ := f.Options().(*descriptorpb.FieldOptions)
	return options.GetDebugRedact() || options != nil && marked(options.ProtoReflect())
}

// marked tells whether a value in options, at any depth, is one of an enum with
// debug_redact.
func marked(options protoreflect.Message) (found bool) {
	options.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = found || markedValue(f.MapValue(), v)
				return !found
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = markedValue(f, v.List().Get(i))
			}
		default:
			found = markedValue(f, v)
		}
		return !found
	})
	return found
}

func markedValue(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	switch {
	case f.Message() != nil:
		return marked(v.Message())
	case f.Enum() != nil:
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			options, _ := value.Options().(*descriptorpb.EnumValueOptions)
			return options.GetDebugRedact()
		}
	}
	return false
}

func (w *payloadWriter) value(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.IsList():
		w.list(f, v.List())
	case f.IsMap():
		w.entries(f, v.Map())
	default:
		w.singular(f, v)
	}
}

func (w *payloadWriter) list(f protoreflect.FieldDescriptor, list protoreflect.List) {
	w.raw("[")
	for i := 0; i < list.Len() && !w.full(); i++ {
		if i > 0 {
			w.raw(",")
		}
		w.singular(f, list.Get(i))
	}
	w.raw("]")
}

// entries are in the order of their keys' text, as long as there are not too
// many of them to sort.
func (w *payloadWriter) entries(f protoreflect.FieldDescriptor, entries protoreflect.Map) {
	type named struct {
		protoreflect.MapKey
		name string
	}
	var keys []named
	entries.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, named{key, key.String()})
		return 4*len(keys) <= w.limit-len(w.buf) // "":0 is the shortest; no more fit
	})
	slices.SortFunc(keys, func(a, b named) int { return cmp.Compare(a.name, b.name) })
	w.raw("{")
	for i, key := range keys {
		if w.full() {
			break
		}
		if i > 0 {
			w.raw(",")
		}
		w.string(key.name)
		w.raw(":")
		w.singular(f.MapValue(), entries.Get(key.MapKey))
	}
	w.raw("}")
}

func (w *payloadWriter) singular(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch f.Kind() {
	case protoreflect.BoolKind:
		w.buf = strconv.AppendBool(w.buf, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		w.buf = strconv.AppendInt(w.buf, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		w.buf = strconv.AppendUint(w.buf, v.Uint(), 10)
	case protoreflect.FloatKind:
		w.float(v.Float(), 32)
	case protoreflect.DoubleKind:
		w.float(v.Float(), 64)
	case protoreflect.BytesKind:
		b := v.Bytes()
		w.raw(`"`)
		w.buf = base64.StdEncoding.AppendEncode(w.buf, b[:min(len(b), w.limit+1)])
		w.raw(`"`)
	case protoreflect.EnumKind:
		w.enum(f.Enum(), v.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		w.message(v.Message())
	default: // strings, and integers of 64 bits, which JSON has as strings
		w.string(v.String())
	}
}

func (w *payloadWriter) float(f float64, bits int) {
	switch {
	case math.IsNaN(f):
		w.raw(`"NaN"`)
	case math.IsInf(f, 1):
		w.raw(`"Infinity"`)
	case math.IsInf(f, -1):
		w.raw(`"-Infinity"`)
	default:
		w.buf = strconv.AppendFloat(w.buf, f, 'g', -1, bits)
	}
}

func (w *payloadWriter) enum(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) {
	switch value := e.Values().ByNumber(n); {
	case e.FullName() == "google.protobuf.NullValue":
		w.raw("null")
	case value == nil:
		w.buf = strconv.AppendInt(w.buf, int64(n), 10)
	default:
		w.string(string(value.Name()))
	}
}

// string writes s, as far as it fits, as RFC 8259 has it. What is not UTF-8
// becomes U+FFFD.
func (w *payloadWriter) string(s string) {
	w.raw(`"`)
	defer w.raw(`"`)
	for _, r := range s {
		switch {
		case w.full():
			return
		case r == '"' || r == '\\':
			w.buf = append(w.buf, '\\', byte(r))
		case r == '\n':
			w.raw(`\n`)
		case r == '\r':
			w.raw(`\r`)
		case r == '\t':
			w.raw(`\t`)
		case r < ' ' || r == 0x7f:
			w.raw(`\u00`)
			w.buf = append(w.buf, "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			w.buf = utf8.AppendRune(w.buf, r)
		}
	}
}
