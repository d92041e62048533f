package propagation_test

import (
	"context"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/propagation"
)

var requestIDForm = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._~:/+=-]{0,127}\z`)

func FuzzRequestID(f *testing.F) {
	for _, seed := range []string{"", "a", someRequestID, "a b", "a\n", "-a", "é", "a\xff", strings.Repeat("a", 128), strings.Repeat("a", 129), "Root=1-67891233-abcdef"} {
		f.Add(seed, "a")
		f.Add("a", seed)
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		valid := requestIDForm.MatchString(first)
		if got := propagation.ValidRequestID(first); got != valid {
			t.Errorf("ValidRequestID(%q) = %v, want %v", first, got, valid)
		}
		want := ""
		if valid && first == second {
			want = first
		}
		p := propagation.New()
		c := mdCarrier{"x-request-id": {first, second}}
		if got := propagation.RequestID(p.Extract(context.Background(), c)); got != want {
			t.Errorf("request id of %q and %q is %q, want %q", first, second, got, want)
		}
		p.Inject(propagation.ContextWithRequestID(context.Background(), "ctx"), c)
		if want == "" {
			want = "ctx"
		}
		if got := c["x-request-id"]; !slices.Equal(got, []string{want}) {
			t.Errorf("with %q and %q set, sent %q, want %q", first, second, got, want)
		}
	})
}

var baggageSeeds = []string{
	"", "a=1", "a=1,b=2", " a = 1 ;p=2 , b=3", "user.id=u,tenant.id=t,session.id=s", "user.id=u,user.id=v", "a=%0A", "a=%C3%A9%FF",
	"a=1;p=%0A", "a=1;;p", "a=%", "a=b=c", ",,,", "=1", "a", "\"=1", "a=\"", "a=\xff", "a=1,a=2", "user.id=%FF", "user.id=", "a=1;user.id=2",
	"k=%EF%BF%BD", "a=%E2%80%A8", "a=%C2%85", "*=1", "%41=1", strings.Repeat("k=v,", 70), "a=" + strings.Repeat("x", 300),
}

// FuzzBaggage holds what is read from a header against what OpenTelemetry reads
// from its members one by one, with our rules applied to that.
func FuzzBaggage(f *testing.F) {
	for _, seed := range baggageSeeds {
		f.Add(seed, "")
		f.Add(seed, "a=2,user.id=u")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		header := []string{first, second}
		checkLimits(t, header)
		limits := propagation.Limits{Members: 64, Bytes: 8192, ValueBytes: 8192}
		ctx := propagation.New(propagation.WithTrust(propagation.TrustAll), propagation.WithLimits(limits)).
			Extract(context.Background(), mdCarrier{"baggage": header})

		want := map[string]string{}
		var id propagation.Identity
		conflict := map[string]bool{}
		encoded := 0
		for text := range strings.SplitSeq(strings.Join(header, ","), ",") {
			b, _ := baggage.Parse(text)
			for _, m := range b.Members() { // one at most
				encoded += len(m.String()) + 1
				if control(m.Value()) || slices.ContainsFunc(m.Properties(), func(p baggage.Property) bool { v, _ := p.Value(); return control(v) }) {
					// For an identity the properties do not matter.
					if field(&id, m.Key()) == nil || control(m.Value()) {
						continue
					}
				}
				fd := field(&id, m.Key())
				if fd == nil {
					want[m.Key()] = m.String()
					continue
				}
				if m.Value() == "" || !validRaw(text) {
					continue
				}
				if *fd != "" && *fd != m.Value() {
					conflict[m.Key()] = true
				}
				*fd = m.Value()
			}
		}
		for key := range conflict {
			*field(&id, key) = ""
		}
		if encoded > 8192 || len(first)+len(second) > 8192 || len(want) > 61 {
			return // beyond the limits the two differ, as they should
		}
		got := map[string]string{}
		for _, m := range baggage.FromContext(ctx).Members() {
			got[m.Key()] = m.String()
		}
		if !maps.Equal(got, want) {
			t.Errorf("baggage of %q (-want +got):\n%s", header, cmp.Diff(want, got))
		}
		gotID, _ := propagation.IdentityFromContext(ctx)
		if diff := cmp.Diff(id, gotID, ignoreUnexported); diff != "" {
			t.Errorf("identity of %q (-want +got):\n%s", header, diff)
		}
	})
}

// checkLimits holds the default limits over what is read from header.
func checkLimits(t *testing.T, header []string) {
	t.Helper()
	ctx := trusting().Extract(context.Background(), mdCarrier{"baggage": header})
	n, size := 0, 0
	count := func(key, value, encoded string) {
		n++
		size += len(encoded) + 1
		if len(value) > 256 || control(value) || !utf8.ValidString(value) {
			t.Errorf("%s=%q was read from %q", key, value, header)
		}
	}
	for _, m := range baggage.FromContext(ctx).Members() {
		count(m.Key(), m.Value(), m.String())
	}
	id, _ := propagation.IdentityFromContext(ctx)
	for _, key := range []string{"user.id", "tenant.id", "session.id"} {
		if value := *field(&id, key); value != "" {
			m, err := baggage.NewMemberRaw(key, value)
			if err != nil {
				t.Fatal(err)
			}
			count(key, value, m.String())
		}
	}
	if n > 16 || size-1 > 2048 {
		t.Errorf("%d members and %d bytes were read from %q", n, size-1, header)
	}
}

func field(id *propagation.Identity, key string) *string {
	return map[string]*string{"user.id": &id.UserID, "tenant.id": &id.TenantID, "session.id": &id.SessionID}[key]
}

func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) })
}

// validRaw reports whether the value of a member decodes to valid UTF-8, which
// OpenTelemetry repairs.
func validRaw(member string) bool {
	pair, _, _ := strings.Cut(member, ";")
	_, value, _ := strings.Cut(pair, "=")
	decoded, err := url.PathUnescape(strings.TrimSpace(value))
	return err == nil && utf8.ValidString(decoded)
}

// FuzzRoundTrip sends an identity and a member, and reads them back with ours
// and with OpenTelemetry's propagator.
func FuzzRoundTrip(f *testing.F) {
	f.Add("u", "t", "s", "k", "v")
	f.Add("al ice", "acmé", "%0A", "key", "a,b;c=d\"\\")
	f.Add("u\n", "", "\xff", "é", "\u2028")
	f.Add(strings.Repeat("u", 256), strings.Repeat("é", 128), strings.Repeat(" ", 256), strings.Repeat("k", 256), strings.Repeat("v", 256))
	f.Fuzz(func(t *testing.T, user, tenant, session, key, value string) {
		p := propagation.New(propagation.WithTrust(propagation.TrustAll),
			propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
				return propagation.Outbound{UserID: true, TenantID: true, SessionID: true, Baggage: []string{"*"}}
			}))
		ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: user, TenantID: tenant, SessionID: session})
		sendable := func(v string) bool { return len(v) <= 256 && utf8.ValidString(v) && !control(v) }
		all := map[string]string{}
		left := 2048 + 1
		fit := func(key, value string) bool {
			m, err := baggage.NewMemberRaw(key, value)
			if err != nil || m.String() == "" || len(m.String())+1 > left {
				return false
			}
			left -= len(m.String()) + 1
			all[key] = value
			return true
		}
		want := propagation.Identity{UserID: user, TenantID: tenant, SessionID: session}
		for _, k := range []string{"user.id", "tenant.id", "session.id"} {
			if v := field(&want, k); *v == "" || !sendable(*v) || !fit(k, *v) {
				*v = ""
			}
		}
		members := map[string]string{}
		if m, err := baggage.NewMemberRaw(key, value); err == nil && field(&want, key) == nil {
			b, _ := baggage.New(m)
			ctx = baggage.ContextWithBaggage(ctx, b)
			if sendable(value) && fit(key, value) {
				members[key] = value
			}
		}

		c := mdCarrier{}
		p.Inject(ctx, c)
		got := p.Extract(context.Background(), c)
		gotID, _ := propagation.IdentityFromContext(got)
		if diff := cmp.Diff(want, gotID, ignoreUnexported); diff != "" {
			t.Errorf("identity by %q (-sent +read):\n%s", c, diff)
		}
		if diff := cmp.Diff(members, membersIn(got)); diff != "" {
			t.Errorf("members by %q (-sent +read):\n%s", c, diff)
		}
		if diff := cmp.Diff(all, membersIn(otelprop.Baggage{}.Extract(context.Background(), c))); diff != "" {
			t.Errorf("OpenTelemetry by %q (-sent +read):\n%s", c, diff)
		}
	})
}

// FuzzHeaders reads all headers at once: the trace context as OpenTelemetry does
// whatever the others are, and nothing of a stranger's baggage.
func FuzzHeaders(f *testing.F) {
	for _, tp := range []string{someTraceparent, "", "00", "ff-" + someTraceparent[3:], "01-" + someTraceparent[3:] + "-x", strings.ToUpper(someTraceparent), someTraceparent[:54] + "g", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		for _, ts := range []string{"", "a=1", "a=1,a=2", "a@b=1,c=2", "A=1", strings.Repeat("a=1,", 40)} {
			f.Add(tp, ts, "a", "user.id=u,k=v")
		}
	}
	f.Fuzz(func(t *testing.T, traceparent, tracestate, id, header string) {
		c := mdCarrier{"traceparent": {traceparent}, "tracestate": {tracestate}, "x-request-id": {id}, "baggage": {header}}
		want := trace.SpanContextFromContext(otelprop.TraceContext{}.Extract(context.Background(), c))
		for _, p := range []*propagation.Propagator{propagation.New(), trusting()} {
			ctx := p.Extract(context.Background(), c)
			if got := trace.SpanContextFromContext(ctx); !got.Equal(want) {
				t.Errorf("span context %+v, want %+v", got, want)
			}
			again := mdCarrier{}
			p.Inject(ctx, again)
			if got := trace.SpanContextFromContext(otelprop.TraceContext{}.Extract(context.Background(), again)); !got.Equal(want) {
				t.Errorf("sent on span context %+v, want %+v", got, want)
			}
			if got := propagation.RequestID(p.Extract(context.Background(), again)); got != propagation.RequestID(ctx) {
				t.Errorf("sent on request id %q, want %q", got, propagation.RequestID(ctx))
			}
		}
		stranger := propagation.New().Extract(context.Background(), c)
		if id, ok := propagation.IdentityFromContext(stranger); ok || baggage.FromContext(stranger).Len() > 0 {
			t.Errorf("a stranger's %q became identity %+v and baggage %s", header, id, baggage.FromContext(stranger))
		}
	})
}
