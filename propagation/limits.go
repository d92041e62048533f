package propagation

import "cmp"

// Limits bound the baggage of one call, in both directions and with the identity
// in it. A field that is zero or negative has its default. Members that do not
// fit are left out whole: those of the identity come first, in the order user,
// tenant, session; then, inbound, the others in the order of the header and,
// outbound, in that of [Outbound.Baggage].
type Limits struct {
	Members    int // how many; default 16, at most 64
	Bytes      int // of all together in encoded form, commas included; default 2048, at most 8192
	ValueBytes int // of one decoded value; default 256
}

// What OpenTelemetry's baggage can hold, which drops members at random above it.
// They are the least a platform must support by W3C Baggage, section 3.3.2.
const (
	maxMembers = 64
	maxBytes   = 8192
)

func (l Limits) orDefault() Limits {
	return Limits{
		Members:    min(positiveOr(l.Members, 16), maxMembers),
		Bytes:      min(positiveOr(l.Bytes, 2048), maxBytes),
		ValueBytes: positiveOr(l.ValueBytes, 256),
	}
}

func positiveOr(n, otherwise int) int {
	return cmp.Or(max(n, 0), otherwise)
}

// budget is what is left of the limits.
type budget struct {
	members, bytes int
	used           bool
}

func (l Limits) budget() budget { return budget{members: l.Members, bytes: l.Bytes} }

// take reports whether a member of size bytes fits, and counts it if so.
func (b *budget) take(size int) bool {
	if b.used {
		size++ // the comma
	}
	if b.members == 0 || b.bytes < size {
		return false
	}
	b.members--
	b.bytes -= size
	b.used = true
	return true
}

// resize reports whether a member already counted may change its size by delta,
// and counts that if so.
func (b *budget) resize(delta int) bool {
	if b.bytes < delta {
		return false
	}
	b.bytes -= delta
	return true
}
