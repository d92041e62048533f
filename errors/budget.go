package errors

import (
	"encoding/base64"
	"maps"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	minMessageBytes = 512
	maxNameBytes    = 255 // of a domain or a reason, once it must be shortened
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
	b.dropExpendable()
	b.cutViolations()
	b.cutInfo()
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
	b.info.Metadata["truncated"] = "true"
	b.details = append([]*anypb.Any{pack(b.info)}, rest...)
	return b
}

func (b *budget) over() bool { return trailerBytes(b.message, b.details) > b.limit }

func (b *budget) cutMessage() {
	if len(b.message) > minMessageBytes && trailerBytes(b.message, b.details[:b.core]) > b.limit {
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

func (b *budget) dropExpendable() {
	for b.over() {
		last, most := -1, 0
		for i, p := range b.details[b.core:] {
			if x := expendability(p); x > 0 && x >= most {
				last, most = b.core+i, x
			}
		}
		if last < 0 {
			return
		}
		b.details = slices.Delete(b.details, last, last+1)
	}
}

func (b *budget) cutViolations() {
	for i := len(b.details) - 1; i >= b.core && b.over(); i-- {
		if p := b.prefix(i); p != nil {
			b.details[i] = p
		} else {
			b.details = slices.Delete(b.details, i, i+1)
		}
	}
}

// prefix is the detail at i with as many of its violations as fit, or nil if
// none does.
func (b *budget) prefix(i int) *anypb.Any {
	m, err := b.details[i].UnmarshalNew()
	if err != nil {
		return nil
	}
	// In all three messages the violations are field 1.
	field := m.ProtoReflect().Descriptor().Fields().ByNumber(1)
	all := m.ProtoReflect().Mutable(field).List()
	shortened := func(n int) *anypb.Any {
		c := proto.Clone(m)
		c.ProtoReflect().SetUnknown(nil)
		c.ProtoReflect().Mutable(field).List().Truncate(n)
		return pack(c)
	}
	details := slices.Clone(b.details)
	n := sort.Search(all.Len()+1, func(n int) bool {
		details[i] = shortened(n)
		return trailerBytes(b.message, details) > b.limit
	}) - 1
	if n <= 0 {
		return nil
	}
	return shortened(n)
}

// cutInfo takes the longest metadata out, and then shortens the names.
func (b *budget) cutInfo() {
	if !b.over() {
		return
	}
	keys := slices.SortedFunc(maps.Keys(b.info.Metadata), func(k, l string) int {
		if d := len(l) + len(b.info.Metadata[l]) - len(k) - len(b.info.Metadata[k]); d != 0 {
			return d
		}
		return strings.Compare(k, l)
	})
	for _, key := range keys {
		if key == "truncated" {
			continue
		}
		delete(b.info.Metadata, key)
		b.details[0] = pack(b.info)
		if !b.over() {
			return
		}
	}
	b.info.Domain, b.info.Reason = clip(b.info.Domain, maxNameBytes), clip(b.info.Reason, maxNameBytes)
	b.details[0] = pack(b.info)
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
