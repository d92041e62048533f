package propagation

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/baggage"
)

// maxScan is how much of the baggage header is looked at, far above the limits:
// another sender may put the identity behind members that are not wanted here.
const maxScan = 16 << 10

// readBaggage returns the identity, nil if there is none, and the other members
// in the values of the baggage header, within the limits.
func (p *Propagator) readBaggage(header []string) (*Identity, baggage.Baggage) {
	left := p.limits.budget()
	id := readIdentity(header, p.limits, &left)
	return id, p.readMembers(header, &left)
}

func readIdentity(header []string, limits Limits, left *budget) *Identity {
	var id, conflict Identity
	found := false
	for s := newScanner(header); s.next(); {
		field := identityField(&id, s.key)
		if field == nil {
			continue
		}
		value, ok := decode(s.value)
		if !ok || value == "" || len(value) > limits.ValueBytes || !utf8.ValidString(value) || hasControl(value) {
			continue
		}
		if *field != "" && *field != value {
			*identityField(&conflict, s.key) = value
		}
		*field, found = s.detach(value), true
	}
	if !found {
		return nil
	}

	found = false
	for _, key := range [...]string{userIDMember, tenantIDMember, sessionIDMember} {
		field := identityField(&id, key)
		if *field == "" {
			continue
		}
		if *identityField(&conflict, key) != "" || !left.take(memberSize(key, *field)) {
			*field = ""
			continue
		}
		found = true
	}
	if !found {
		return nil
	}
	return &Identity{UserID: id.UserID, TenantID: id.TenantID, SessionID: id.SessionID}
}

func (p *Propagator) readMembers(header []string, left *budget) baggage.Baggage {
	if p.inbound != nil && len(p.inbound) == 0 {
		return baggage.Baggage{}
	}
	var few [16]baggage.Member
	members := few[:0]
	for s := newScanner(header); s.next(); {
		if isIdentityMember(s.key) || !p.accepts(s.key) {
			continue
		}
		m, ok := s.member()
		if !ok || !p.limits.allow(m) {
			continue
		}
		same := func(other baggage.Member) bool { return other.Key() == m.Key() }
		if i := slices.IndexFunc(members, same); i >= 0 {
			// The last one counts, as everywhere in OpenTelemetry.
			if left.resize(encodedSize(m) - encodedSize(members[i])) {
				members[i] = m
			}
			continue
		}
		if left.take(encodedSize(m)) {
			members = append(members, m)
		}
	}
	b, _ := baggage.New(members...) // fails above its own limits only
	return b
}

func (p *Propagator) accepts(key string) bool {
	return p.inbound == nil || p.inbound[key] || p.inbound["*"]
}

// writeBaggage returns the baggage header to send, "" for none.
func (p *Propagator) writeBaggage(ctx context.Context, may Outbound) string {
	if p.noBaggage {
		return ""
	}
	w := baggageWriter{limits: p.limits, left: p.limits.budget()}
	if id := stateOf(ctx).identity; id != nil && !id.expired() {
		if may.UserID {
			w.value(userIDMember, id.UserID)
		}
		if may.TenantID {
			w.value(tenantIDMember, id.TenantID)
		}
		if may.SessionID {
			w.value(sessionIDMember, id.SessionID)
		}
	}
	if len(may.Baggage) == 0 {
		return w.out.String()
	}

	b := baggage.FromContext(ctx)
	for i, key := range may.Baggage {
		if !slices.Contains(may.Baggage[:i], key) {
			w.member(b.Member(key))
		}
	}
	if slices.Contains(may.Baggage, "*") {
		rest := b.Members()
		slices.SortFunc(rest, func(x, y baggage.Member) int { return strings.Compare(x.Key(), y.Key()) })
		for _, m := range rest {
			if !slices.Contains(may.Baggage, m.Key()) {
				w.member(m)
			}
		}
	}
	return w.out.String()
}

type baggageWriter struct {
	out    strings.Builder
	limits Limits
	left   budget
}

func (w *baggageWriter) value(key, value string) {
	if value == "" || len(value) > w.limits.ValueBytes || !utf8.ValidString(value) || hasControl(value) ||
		!w.left.take(memberSize(key, value)) {
		return
	}
	w.comma()
	w.out.WriteString(key)
	w.out.WriteByte('=')
	w.encode(value)
}

func (w *baggageWriter) member(m baggage.Member) {
	if isIdentityMember(m.Key()) || !w.limits.allow(m) {
		return
	}
	// Empty if the key is not one that can be sent.
	if text := m.String(); text != "" && w.left.take(len(text)) {
		w.comma()
		w.out.WriteString(text)
	}
}

func (w *baggageWriter) comma() {
	if w.out.Len() > 0 {
		w.out.WriteByte(',')
		return
	}
	w.out.Grow(min(128, w.limits.Bytes))
}

func (w *baggageWriter) encode(value string) {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(value); i++ {
		if c := value[i]; valueChars[c] {
			w.out.WriteByte(c)
		} else {
			w.out.WriteByte('%')
			w.out.WriteByte(digits[c>>4])
			w.out.WriteByte(digits[c&15])
		}
	}
}

// allow reports whether the content of m, not its size, is within the rules.
func (l Limits) allow(m baggage.Member) bool {
	if len(m.Value()) > l.ValueBytes || hasControl(m.Value()) {
		return false
	}
	for _, property := range m.Properties() {
		if value, _ := property.Value(); hasControl(value) {
			return false
		}
	}
	return true
}

// scanner iterates over the list-members of a baggage header in several values
// (W3C Baggage, section 3.2.1), up to maxScan bytes.
type scanner struct {
	header []string // values to come
	rest   string   // of the current value
	large  bool     // the current value is
	left   int      // bytes still to look at

	text       string // the member
	key, value string // its key, and its value as it is encoded
}

func newScanner(header []string) scanner { return scanner{header: header, left: maxScan} }

// next goes to the next member that has a key.
func (s *scanner) next() bool {
	for {
		for s.rest == "" {
			if len(s.header) == 0 || s.left <= 0 {
				return false
			}
			s.rest, s.header = s.header[0], s.header[1:]
			s.large = len(s.rest) > maxBytes
			if len(s.rest) > s.left {
				// Not the member in which the scan ends: it would be a part of one.
				s.rest = s.rest[:strings.LastIndexByte(s.rest[:s.left+1], ',')+1]
				s.header = nil
			}
			s.left -= len(s.rest) + 1
		}
		s.text, s.rest, _ = strings.Cut(s.rest, ",")
		pair, _, _ := strings.Cut(s.text, ";")
		key, value, ok := strings.Cut(pair, "=")
		s.key, s.value = strings.TrimSpace(key), strings.TrimSpace(value)
		if ok && isToken(s.key) {
			return true
		}
	}
}

// member returns the current member as OpenTelemetry has it.
func (s *scanner) member() (baggage.Member, bool) {
	if strings.Contains(s.text, ";") {
		b, _ := baggage.Parse(s.text)
		m := b.Member(s.key)
		return m, m.Key() != ""
	}
	value, ok := decode(s.value)
	if !ok {
		return baggage.Member{}, false
	}
	if !utf8.ValidString(value) {
		value = string([]rune(value)) // U+FFFD for every byte that is not UTF-8, as the specification wants
	}
	m, err := baggage.NewMemberRaw(s.detach(s.key), s.detach(value))
	return m, err == nil
}

// detach returns part, which may be of the current value, so that it does not
// keep a large value alive.
func (s *scanner) detach(part string) string {
	if s.large {
		return strings.Clone(part)
	}
	return part
}

// decode undoes the percent-encoding of a value, which may then be invalid UTF-8.
func decode(value string) (string, bool) {
	escaped := false
	for i := 0; i < len(value); i++ {
		if !valueChars[value[i]] && value[i] != '%' {
			return "", false
		}
		escaped = escaped || value[i] == '%'
	}
	if !escaped {
		return value, true
	}
	decoded, err := url.PathUnescape(value)
	return decoded, err == nil
}

// encodedSize returns the length of m in a header.
func encodedSize(m baggage.Member) int {
	if len(m.Properties()) > 0 {
		return len(m.String())
	}
	return memberSize(m.Key(), m.Value())
}

// memberSize returns the length of key=value in a header.
func memberSize(key, value string) int {
	n := len(key) + 1 + len(value)
	for i := 0; i < len(value); i++ {
		if !valueChars[value[i]] {
			n += 2
		}
	}
	return n
}

// hasControl reports whether s has a character that could end a line or steer a
// terminal where s is shown: those of category Cc, and the line and paragraph
// separators.
func hasControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return true
		}
	}
	return false
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenChars[s[i]] {
			return false
		}
	}
	return s != ""
}

// tokenChars are those of a key: token of RFC 7230, section 3.2.6.
var tokenChars = func() (ok [256]bool) {
	for c := range 256 {
		ok[c] = isAlphaNum(byte(c)) || c < utf8.RuneSelf && strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c))
	}
	return ok
}()

// valueChars are those of a value that stand for themselves: baggage-octet
// without the percent sign.
var valueChars = func() (ok [256]bool) {
	for c := '!'; c <= '~'; c++ {
		ok[c] = !strings.ContainsRune(`",;\%`, c)
	}
	return ok
}()
