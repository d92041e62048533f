package errors

import (
	"cmp"
	"encoding/base64"
	"maps"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	minMessageBytes = 512
	maxNameBytes    = 255 // of a domain or a reason, once it must be shortened

	truncated = "truncated" // the metadata of what was shortened
)

// trailerBytes is what a status takes of a trailer: the message is in it percent
// encoded, and again with the details in base64.
func trailerBytes(message string, details []*anypb.Any) int {
	n := 0
	for i := range len(message) {
		if c := message[i]; c < ' ' || c > '~' || c == '%' {
			n += 2
		}
		n++
	}
	if len(details) == 0 {
		return n
	}
	// The code takes at most 11 bytes, whatever it is.
	return n + base64.RawStdEncoding.EncodedLen(11+proto.Size(&spb.Status{Message: message, Details: details}))
}

// fit is message and details within limit bytes of a trailer; see
// [Converter.Status] for what is left out. The details are not changed.
func fit(message string, details []*anypb.Any, limit int, domain string) (string, []*anypb.Any) {
	if trailerBytes(message, details) <= limit {
		return message, details
	}
	b := newBudget(message, details, limit, domain)
	b.cutMessage()
	for _, cut := range []func(){b.dropExpendable, b.cutViolations, b.cutInfo} {
		if b.over(b.details) {
			cut()
		}
	}
	return b.message, b.details
}

// A budget is a status that is being made smaller. Its first details, core of
// them, always remain: the ErrorInfo, which is info, and a RetryInfo.
type budget struct {
	limit   int
	message string
	details []*anypb.Any
	core    int
	info    *errdetails.ErrorInfo
}

func newBudget(message string, details []*anypb.Any, limit int, domain string) *budget {
	b := &budget{limit: limit, message: message, core: 1, info: &errdetails.ErrorInfo{Domain: domain}}
	rest := make([]*anypb.Any, 0, len(details))
	seenInfo := false
	for _, p := range details {
		switch p.MessageName() {
		case errorInfo:
			if info := (&errdetails.ErrorInfo{}); !seenInfo && p.UnmarshalTo(info) == nil {
				info.ProtoReflect().SetUnknown(nil)
				b.info, seenInfo = info, true
				continue
			}
		case retryInfo:
			if info := (&errdetails.RetryInfo{}); b.core == 1 && p.UnmarshalTo(info) == nil {
				b.core = 2
				rest = slices.Insert(rest, 0, pack(&errdetails.RetryInfo{RetryDelay: info.RetryDelay}))
				continue
			}
		}
		rest = append(rest, p)
	}
	if b.info.Metadata == nil {
		b.info.Metadata = map[string]string{}
	}
	b.info.Metadata[truncated] = "true"
	b.details = append([]*anypb.Any{pack(b.info)}, rest...)
	return b
}

func (b *budget) over(details []*anypb.Any) bool { return trailerBytes(b.message, details) > b.limit }

func (b *budget) cutMessage() {
	if len(b.message) > minMessageBytes && b.over(b.details[:b.core]) {
		b.message = clip(b.message, minMessageBytes)
	}
}

// expendability orders the details that are dropped whole.
func expendability(p *anypb.Any) int {
	switch p.MessageName() {
	case debugInfo:
		return 5
	case help:
		return 4
	case localizedMessage:
		return 3
	case resourceInfo, requestInfo:
		return 1
	case badRequest, quotaFailure, preconditionFailure:
		return 0
	}
	return 2
}

// dropExpendable drops as few as do, the most expendable first and of equal
// ones the last.
func (b *budget) dropExpendable() {
	type candidate struct{ index, rank int }
	var order []candidate
	for i, p := range b.details[b.core:] {
		if rank := expendability(p); rank > 0 {
			order = append(order, candidate{b.core + i, rank})
		}
	}
	slices.SortFunc(order, func(c, d candidate) int { return cmp.Or(d.rank-c.rank, d.index-c.index) })
	b.shrink(len(order), func(n int) []*anypb.Any {
		kept := slices.Clone(b.details)
		for _, c := range order[:n] {
			kept[c.index] = nil
		}
		return slices.DeleteFunc(kept, func(p *anypb.Any) bool { return p == nil })
	})
}

// cutViolations drops violations from the last one.
func (b *budget) cutViolations() {
	messages := make([]protoreflect.Message, len(b.details))
	all := 0
	for i := b.core; i < len(b.details); i++ {
		if m, err := b.details[i].UnmarshalNew(); err == nil {
			messages[i] = m.ProtoReflect()
		}
		all += violations(messages[i])
	}
	b.shrink(all, func(n int) []*anypb.Any {
		kept, room := slices.Clone(b.details[:b.core]), all-n
		for i := b.core; room > 0; i++ {
			p := b.details[i]
			if has := violations(messages[i]); has > room {
				p = prefix(messages[i], room)
			}
			kept = append(kept, p)
			room -= violations(messages[i])
		}
		return kept
	})
}

// violations are how many a detail has, at least 1; one that cannot be read has
// 1, too.
func violations(m protoreflect.Message) int {
	if m == nil {
		return 1
	}
	return max(m.Get(violationsField(m)).List().Len(), 1)
}

// violationsField is field 1 in all messages that have violations.
func violationsField(m protoreflect.Message) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByNumber(1)
}

// prefix is m as a detail, with its first n violations only.
func prefix(m protoreflect.Message, n int) *anypb.Any {
	some, field := m.New(), violationsField(m)
	list := some.Mutable(field).List()
	for i := range n {
		list.Append(m.Get(field).List().Get(i))
	}
	return pack(some.Interface())
}

// cutInfo takes the longest metadata out, and then shortens the names.
func (b *budget) cutInfo() {
	all := b.info.Metadata
	keys := slices.SortedFunc(maps.Keys(all), func(k, l string) int {
		return cmp.Or(len(l)+len(all[l])-len(k)-len(all[k]), strings.Compare(k, l))
	})
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == truncated })
	b.shrink(len(keys), func(n int) []*anypb.Any {
		b.info.Metadata = map[string]string{truncated: "true"}
		for _, key := range keys[n:] {
			b.info.Metadata[key] = all[key]
		}
		return append([]*anypb.Any{pack(b.info)}, b.details[1:]...)
	})
	if b.over(b.details) {
		b.info.Domain, b.info.Reason = clip(b.info.Domain, maxNameBytes), clip(b.info.Reason, maxNameBytes)
		b.details[0] = pack(b.info)
	}
}

// shrink takes the least out of the details that makes them fit, or all that
// there is to take: without gives them less n of the all that can go. A hostile
// status can have very many.
func (b *budget) shrink(all int, without func(n int) []*anypb.Any) {
	b.details = without(sort.Search(all, func(n int) bool { return !b.over(without(n)) }))
}

// clip is at most n bytes of s, whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
