package propagation_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/propagation"
)

// membersIn returns the baggage in ctx in header form, by key.
func membersIn(ctx context.Context) map[string]string {
	m := map[string]string{}
	for _, member := range baggage.FromContext(ctx).Members() {
		m[member.Key()] = member.Value()
		for _, p := range member.Properties() {
			m[member.Key()] += ";" + p.String()
		}
	}
	return m
}

func withMembers(t testing.TB, ctx context.Context, kv ...string) context.Context {
	t.Helper()
	b := baggage.FromContext(ctx)
	for i := 0; i < len(kv); i += 2 {
		m, err := baggage.NewMemberRaw(kv[i], kv[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if b, err = b.SetMember(m); err != nil {
			t.Fatal(err)
		}
	}
	return baggage.ContextWithBaggage(ctx, b)
}

func TestRule22Inbound(t *testing.T) {
	const v256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" +
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	numbered := func(n, size int) (header []string, members map[string]string) {
		members = map[string]string{}
		for i := range n {
			k, v := fmt.Sprintf("k%02d", i), strings.Repeat("x", size)
			header = append(header, k+"="+v)
			members[k] = v
		}
		return header, members
	}
	first := func(n int, m map[string]string) map[string]string {
		m = maps.Clone(m)
		for i, k := range slices.Sorted(maps.Keys(m)) {
			if i >= n {
				delete(m, k)
			}
		}
		return m
	}
	twenty, twentyMembers := numbered(20, 1)
	long, longMembers := numbered(16, 200)
	type M = map[string]string
	type ID = propagation.Identity
	for _, tt := range []struct {
		name   string
		opts   []propagation.Option
		header []string
		want   M
		id     ID
	}{
		{"one", nil, []string{"a=1"}, M{"a": "1"}, ID{}},
		{"spaces", nil, []string{" a = 1 ,\tb\t=\t2\t"}, M{"a": "1", "b": "2"}, ID{}},
		{"empty value", nil, []string{"a="}, M{"a": ""}, ID{}},
		{"equals sign in a value", nil, []string{"a=b=c"}, M{"a": "b=c"}, ID{}},
		{"percent-encoded", nil, []string{"a=%C3%A9%20%2C%25"}, M{"a": "é ,%"}, ID{}},
		{"plus is plus", nil, []string{"a=1+1"}, M{"a": "1+1"}, ID{}},
		{"properties", nil, []string{"a=1;p;q=2"}, M{"a": "1;p;q=2"}, ID{}},
		{"the last one counts", nil, []string{"a=1,b=2,a=3"}, M{"a": "3", "b": "2"}, ID{}},
		{"several values", nil, []string{"a=1", "user.id=u,b=2", "", "c=3"}, M{"a": "1", "b": "2", "c": "3"}, ID{UserID: "u"}},
		{"invalid UTF-8 of a member becomes U+FFFD", nil, []string{"a=%FF%FEx"}, M{"a": "\uFFFD\uFFFDx"}, ID{}},
		{"invalid UTF-8 of an identity", nil, []string{"user.id=%FF,tenant.id=t"}, M{}, ID{TenantID: "t"}},

		{"no equals sign", nil, []string{"a,b=2"}, M{"b": "2"}, ID{}},
		{"no key", nil, []string{"=1,b=2"}, M{"b": "2"}, ID{}},
		{"bad key", nil, []string{"a b=1,é=1,a(=1,b=2"}, M{"b": "2"}, ID{}},
		{"bad value", nil, []string{"a=1 2,c=é,d=\"x\",e=\\,b=2"}, M{"b": "2"}, ID{}},
		{"bad percent", nil, []string{"a=%,c=%1,d=%zz,b=2"}, M{"b": "2"}, ID{}},
		{"bad properties", nil, []string{"a=1;=2,c=1;p=%z,b=2"}, M{"b": "2"}, ID{}},
		{"only commas", nil, []string{",,,", ","}, M{}, ID{}},

		{"newline", nil, []string{"a=x%0Ay,b=2"}, M{"b": "2"}, ID{}},
		{"newline in an identity", nil, []string{"user.id=x%0Ay,tenant.id=t"}, M{}, ID{TenantID: "t"}},
		{"controls", nil, []string{"a=%00,c=%1B%5B31m,d=%7F,e=%C2%85,f=%E2%80%A8,g=%09,b=2"}, M{"b": "2"}, ID{}},
		{"newline in a property", nil, []string{"a=1;p=x%0Ay,b=2"}, M{"b": "2"}, ID{}},

		{"16 members", nil, []string{strings.Join(twenty, ",")}, first(16, twentyMembers), ID{}},
		{"16 members in 20 values", nil, twenty, first(16, twentyMembers), ID{}},
		{"the identity counts, and comes first", nil, append(slices.Clone(twenty), "user.id=u"), first(15, twentyMembers), ID{UserID: "u"}},
		{"2048 bytes", nil, []string{strings.Join(long, ",")}, first(9, longMembers), ID{}}, // a tenth makes it 2049
		{"2049 bytes", []propagation.Option{propagation.WithLimits(propagation.Limits{Bytes: 2049})}, []string{strings.Join(long, ",")}, first(10, longMembers), ID{}},
		{"a smaller one may fit", nil, []string{strings.Join(long, ","), "s=1"}, func() M { m := first(9, longMembers); m["s"] = "1"; return m }(), ID{}},
		{"256 bytes a value", nil, []string{"a=" + v256 + ",b=" + v256 + "x,user.id=" + v256 + ",tenant.id=" + v256 + "x"}, M{"a": v256}, ID{UserID: v256}},
		{"properties count", []propagation.Option{propagation.WithLimits(propagation.Limits{Bytes: 12})}, []string{"a=1;p=1234567,b=1;p=1234"}, M{"b": "1;p=1234"}, ID{}},
		{"nothing behind what is too large", nil, []string{"a=" + strings.Repeat("x", 16<<10), "b=1,user.id=u"}, M{}, ID{}},
		{"decoded bytes count", nil, []string{"a=" + strings.Repeat("%20", 256) + ",b=" + strings.Repeat("%20", 257)}, M{"a": strings.Repeat(" ", 256)}, ID{}},
		{"own limits", []propagation.Option{propagation.WithLimits(propagation.Limits{Members: 2, Bytes: 20, ValueBytes: 4})},
			[]string{"a=12345,b=1234,tenant.id=t,c=1,user.id=12345"}, M{"b": "1234"}, ID{TenantID: "t"}},
		{"a replacement that is too long", []propagation.Option{propagation.WithLimits(propagation.Limits{Bytes: 7})},
			[]string{"a=1,b=2,a=12"}, M{"a": "1", "b": "2"}, ID{}},
		{"a replacement that is shorter makes room", []propagation.Option{propagation.WithLimits(propagation.Limits{Bytes: 9})},
			[]string{"a=12345,b=2,a=1,b=2"}, M{"a": "1", "b": "2"}, ID{}},
		{"more than OpenTelemetry holds", []propagation.Option{propagation.WithLimits(propagation.Limits{Members: 1000, Bytes: 1 << 20})},
			func() []string { h, _ := numbered(100, 1); return h }(), func() M { _, m := numbered(64, 1); return m }(), ID{}},

		{"identity", nil, []string{"session.id=s,user.id=u;p=1,tenant.id=t%C3%A9"}, M{}, ID{UserID: "u", TenantID: "té", SessionID: "s"}},
		{"identity with another case", nil, []string{"User.Id=u"}, M{"User.Id": "u"}, ID{}},
		{"empty identity", nil, []string{"user.id="}, M{}, ID{}},
		{"repeated identity", nil, []string{"user.id=u", "user.id=%75"}, M{}, ID{UserID: "u"}},
		{"contradicting identity", nil, []string{"user.id=u,tenant.id=t", "user.id=admin,user.id=u"}, M{}, ID{TenantID: "t"}},
		{"contradicting identity, nothing left", nil, []string{"user.id=u,user.id=admin"}, M{}, ID{}},

		{"listed keys", []propagation.Option{propagation.WithInboundBaggage("a"), propagation.WithInboundBaggage("c")},
			[]string{"a=1,b=2,c=3,user.id=u"}, M{"a": "1", "c": "3"}, ID{UserID: "u"}},
		{"no listed keys", []propagation.Option{propagation.WithInboundBaggage()}, []string{"a=1,user.id=u"}, M{}, ID{UserID: "u"}},
		{"all keys", []propagation.Option{propagation.WithInboundBaggage("*")}, []string{"a=1,*=2"}, M{"a": "1", "*": "2"}, ID{}},
		{"listed identity stays out of the baggage", []propagation.Option{propagation.WithInboundBaggage("user.id")}, []string{"user.id=u"}, M{}, ID{UserID: "u"}},
		{"without baggage", []propagation.Option{propagation.WithoutBaggage()}, []string{"a=1,user.id=u"}, M{}, ID{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := propagation.New(append(tt.opts, propagation.WithTrust(propagation.TrustAll))...)
			for _, c := range []otelprop.TextMapCarrier{
				mdCarrier{"baggage": tt.header},
				otelprop.HeaderCarrier(http.Header{"Baggage": tt.header}),
				otelprop.MapCarrier{"baggage": strings.Join(tt.header, ",")},
			} {
				ctx := p.Extract(context.Background(), c)
				if diff := cmp.Diff(tt.want, membersIn(ctx)); diff != "" {
					t.Errorf("%T: members (-want +got):\n%s", c, diff)
				}
				checkWho(t, ctx, who{tt.id, false, !cmp.Equal(tt.id, ID{}, ignoreUnexported)})
			}
		})
	}
}

func TestRule20UntrustedBaggageIsDropped(t *testing.T) {
	c := mdCarrier{"baggage": {"a=1,user.id=u"}}
	for _, p := range []*propagation.Propagator{
		propagation.New(),
		propagation.New(propagation.WithTrust(nil)),
		propagation.New(propagation.WithTrust(propagation.TrustNone)),
		propagation.New(propagation.WithInboundBaggage("a", "user.id", "*")),
		propagation.New(propagation.WithTraceContext(otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, otelprop.Baggage{}))),
	} {
		ctx := p.Extract(context.Background(), c)
		checkWho(t, ctx, who{})
		if got := membersIn(ctx); len(got) > 0 {
			t.Errorf("members %v, want none", got)
		}
	}
}

// What was in the context before stays: it is the application's.
func TestExtractKeepsWhatTheContextHas(t *testing.T) {
	ctx := withMembers(t, context.Background(), "app", "1")
	for _, p := range []*propagation.Propagator{
		propagation.New(),
		trusting(),
		propagation.New(propagation.WithTraceContext(otelprop.Baggage{})),
	} {
		got := membersIn(p.Extract(ctx, mdCarrier{"baggage": {"user.id=u"}}))
		if diff := cmp.Diff(map[string]string{"app": "1"}, got); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
	}
}

func TestTrustIsAskedOnce(t *testing.T) {
	asked := 0
	p := propagation.New(propagation.WithTrustedRequestIDOnly(), propagation.WithTrust(func(context.Context, otelprop.TextMapCarrier) bool { asked++; return true }))
	p.Extract(context.Background(), mdCarrier{"baggage": {"a=1", "user.id=u"}, "x-request-id": {"r"}})
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	asked = 0
	p = propagation.New(propagation.WithTrust(func(context.Context, otelprop.TextMapCarrier) bool { asked++; return true }))
	p.Extract(context.Background(), withoutBaggage())
	if asked != 0 {
		t.Errorf("asked %d times with nothing to decide, want never", asked)
	}
}

func TestRule21And22Outbound(t *testing.T) {
	full := propagation.Identity{UserID: "u 1", TenantID: "té", SessionID: "s"}
	all := propagation.Outbound{TraceContext: true, RequestID: true, UserID: true, TenantID: true, SessionID: true}
	named := func(keys ...string) propagation.Outbound { o := all; o.Baggage = keys; return o }
	many := func() (kv []string) {
		for i := range 20 {
			kv = append(kv, fmt.Sprintf("k%02d", i), "x")
		}
		return kv
	}()
	for _, tt := range []struct {
		name    string
		may     propagation.Outbound
		limits  propagation.Limits
		id      propagation.Identity
		members []string
		want    string
	}{
		{"default", propagation.DefaultOutbound(), propagation.Limits{}, full, []string{"a", "1"}, "user.id=u%201,tenant.id=t%C3%A9"},
		{"nothing", propagation.Outbound{}, propagation.Limits{}, full, []string{"a", "1"}, ""},
		{"the session when named", all, propagation.Limits{}, full, nil, "user.id=u%201,tenant.id=t%C3%A9,session.id=s"},
		{"user only", propagation.Outbound{UserID: true}, propagation.Limits{}, full, nil, "user.id=u%201"},
		{"in the order named", named("b", "a", "none"), propagation.Limits{}, propagation.Identity{}, []string{"a", "1", "b", "2", "c", "3"}, "b=2,a=1"},
		{"named twice", named("a", "a"), propagation.Limits{}, propagation.Identity{}, []string{"a", "1"}, "a=1"},
		{"the rest in the order of keys", named("c", "*"), propagation.Limits{}, propagation.Identity{}, []string{"b", "2", "c", "3", "a", "1"}, "c=3,a=1,b=2"},
		{"identity in the baggage is not the identity", named("user.id", "*"), propagation.Limits{}, propagation.Identity{UserID: "u"}, []string{"user.id", "admin", "tenant.id", "t", "a", "1"}, "user.id=u,a=1"},
		{"control characters", named("*"), propagation.Limits{}, propagation.Identity{UserID: "u\n", TenantID: "t\u2028"}, []string{"a", "x\ny", "b", "2"}, "b=2"},
		{"invalid UTF-8", named("*"), propagation.Limits{}, propagation.Identity{UserID: "\xff", TenantID: "t"}, nil, "tenant.id=t"},
		{"key that cannot be sent", named("*"), propagation.Limits{}, propagation.Identity{}, []string{"é", "1", "a", "1"}, "a=1"},
		{"16 members", named("*"), propagation.Limits{}, propagation.Identity{UserID: "u"}, many,
			"user.id=u,k00=x,k01=x,k02=x,k03=x,k04=x,k05=x,k06=x,k07=x,k08=x,k09=x,k10=x,k11=x,k12=x,k13=x,k14=x"},
		{"bytes", named("*"), propagation.Limits{Bytes: 16}, propagation.Identity{UserID: "u"}, []string{"a", "1234", "b", "12345", "c", "1"}, "user.id=u,a=1234"},
		{"a smaller one may fit", named("*"), propagation.Limits{Bytes: 13}, propagation.Identity{UserID: "u"}, []string{"a", "1234", "b", "1"}, "user.id=u,b=1"},
		{"encoded bytes count", named("*"), propagation.Limits{Bytes: 11}, propagation.Identity{UserID: " u"}, nil, ""},
		{"value bytes", named("*"), propagation.Limits{ValueBytes: 3}, propagation.Identity{UserID: "1234", TenantID: "123"}, []string{"a", "1234", "b", "123"}, "tenant.id=123,b=123"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := propagation.New(propagation.WithLimits(tt.limits),
				propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound { return tt.may }))
			ctx := propagation.ContextWithIdentity(withMembers(t, context.Background(), tt.members...), tt.id)
			for range 20 { // the order of OpenTelemetry's baggage is random
				c := mdCarrier{}
				p.Inject(ctx, c)
				want := mdCarrier{}
				if tt.want != "" {
					want["baggage"] = []string{tt.want}
				}
				if diff := cmp.Diff(want, c); diff != "" {
					t.Fatalf("sent (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRule22OutboundProperties(t *testing.T) {
	ctx := otelprop.Baggage{}.Extract(context.Background(), otelprop.MapCarrier{"baggage": "a=1;p;q=2,b=1;p=x%0Ay"})
	c := mdCarrier{}
	propagation.New(propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
		return propagation.Outbound{Baggage: []string{"*"}}
	})).Inject(ctx, c)
	if got, want := c.Get("baggage"), "a=1;p;q=2"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestWithoutBaggage(t *testing.T) {
	p := propagation.New(propagation.WithoutBaggage(), propagation.WithTrust(propagation.TrustAll),
		propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
			return propagation.Outbound{RequestID: true, UserID: true, Baggage: []string{"*"}}
		}))
	ctx := propagation.ContextWithIdentity(withMembers(t, context.Background(), "a", "1"), propagation.Identity{UserID: "u"})
	c := mdCarrier{}
	p.Inject(propagation.ContextWithRequestID(ctx, "r"), c)
	if diff := cmp.Diff(mdCarrier{"x-request-id": {"r"}}, c); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got, want := p.Fields(), []string{"traceparent", "tracestate", "x-request-id"}; !slices.Equal(got, want) {
		t.Errorf("Fields() = %q, want %q", got, want)
	}
}

// D14: what OpenTelemetry's propagator sends beyond 8 KiB its receiver drops
// whole, and it hands on newlines. Run against it and against ours.
func TestD14(t *testing.T) {
	theirs := otelprop.Baggage{}
	ours := propagation.New(propagation.WithTrust(propagation.TrustAll),
		propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
			return propagation.Outbound{Baggage: []string{"*"}}
		}))
	var kv []string
	for i := range 50 {
		kv = append(kv, fmt.Sprintf("key%02d", i), strings.Repeat("v", 206))
	}
	ctx := withMembers(t, context.Background(), kv...)
	send := func(p otelprop.TextMapPropagator) mdCarrier {
		c := mdCarrier{}
		p.Inject(ctx, c)
		return c
	}
	receive := func(p otelprop.TextMapPropagator, c mdCarrier) map[string]string {
		return membersIn(p.Extract(context.Background(), c))
	}

	large, small := send(theirs), send(ours)
	if got := len(large.Get("baggage")); got < 10_600 {
		t.Fatalf("the peer sends %d bytes, want at least 10600 to show anything", got)
	}
	if got := receive(theirs, large); len(got) != 0 {
		t.Errorf("the peer keeps %d members of its own baggage: it has been mended", len(got))
	}
	if got := len(receive(ours, large)); got != 9 { // whole ones within 2048 bytes
		t.Errorf("ours keeps %d members of the peer's, want 9", got)
	}
	if got := len(small.Get("baggage")); got > 2048 {
		t.Errorf("ours sends %d bytes, want at most 2048", got)
	}
	want := map[string]string{}
	for i := range 9 {
		want[kv[2*i]] = kv[2*i+1]
	}
	if diff := cmp.Diff(want, receive(theirs, small)); diff != "" {
		t.Errorf("the peer reads from ours (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, receive(ours, small)); diff != "" {
		t.Errorf("ours reads from ours (-want +got):\n%s", diff)
	}

	newline := mdCarrier{"baggage": {"a=x%0Alevel=error,b=2"}}
	if got := receive(theirs, newline)["a"]; got != "x\nlevel=error" {
		t.Errorf("the peer reads %q: it has been mended", got)
	}
	if diff := cmp.Diff(map[string]string{"b": "2"}, receive(ours, newline)); diff != "" {
		t.Errorf("ours reads (-want +got):\n%s", diff)
	}
}

func TestHostileInput(t *testing.T) {
	const size = 10 << 20
	many := make([]string, size/10)
	for i := range many {
		many[i] = "abc=1234"
	}
	distinct := make([]string, size/10)
	for i := range distinct {
		distinct[i] = fmt.Sprintf("k%d=1", i)
	}
	traceparent := []string{someTraceparent}
	for _, tt := range []struct {
		name string
		c    mdCarrier
	}{
		{"small members", mdCarrier{"baggage": {strings.Repeat("a=b,", size/4)}}},
		{"one member", mdCarrier{"baggage": {"a=" + strings.Repeat("b", size)}}},
		{"one key", mdCarrier{"baggage": {strings.Repeat("a", size)}}},
		{"one identity", mdCarrier{"baggage": {"user.id=" + strings.Repeat("b", size)}}},
		{"many identities", mdCarrier{"baggage": {strings.Repeat("user.id=b,", size/10)}}},
		{"commas", mdCarrier{"baggage": {strings.Repeat(",", size)}}},
		{"properties", mdCarrier{"baggage": {"a=b" + strings.Repeat(";p=1", size/4)}}},
		{"members with properties", mdCarrier{"baggage": {strings.Repeat("a=b;p;q,", size/8)}}},
		{"semicolons", mdCarrier{"baggage": {strings.Repeat(";", size)}}},
		{"percent-encoding", mdCarrier{"baggage": {"a=" + strings.Repeat("%41", size/3)}}},
		{"percent signs", mdCarrier{"baggage": {"a=" + strings.Repeat("%", size)}}},
		{"spaces", mdCarrier{"baggage": {strings.Repeat(" ", size) + "a=b"}}},
		{"many values", mdCarrier{"baggage": many}},
		{"many distinct members", mdCarrier{"baggage": distinct}},
		{"empty values", mdCarrier{"baggage": make([]string, size/10)}},
		{"request id", mdCarrier{"x-request-id": {strings.Repeat("a", size)}}},
		{"traceparent", mdCarrier{"traceparent": {strings.Repeat("0", size)}}},
		{"tracestate", mdCarrier{"traceparent": traceparent, "tracestate": {strings.Repeat("a", size)}}},
		{"tracestate members", mdCarrier{"traceparent": traceparent, "tracestate": {strings.Repeat("a=b,", size/4)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := trusting()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			ctx := p.Extract(context.Background(), tt.c)
			elapsed := time.Since(start)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes allocated, want at most 4 MiB for 10 MiB of input", got)
			}
			if elapsed > time.Second {
				t.Errorf("took %v, want at most 1 s", elapsed)
			}
			if got := len(baggage.FromContext(ctx).String()); got > 2048 {
				t.Errorf("%d bytes of baggage kept, want at most 2048", got)
			}
			t.Logf("%v, %d bytes allocated", elapsed, after.TotalAlloc-before.TotalAlloc)
		})
	}
}

// A few bytes that are kept must not keep the header they came in.
func TestLargeHeadersAreNotRetained(t *testing.T) {
	ctx := context.Background()
	func() {
		header := "user.id=u,a=1," + strings.Repeat("x", 32<<20)
		ctx = trusting().Extract(ctx, mdCarrier{"baggage": {header}})
	}()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 24<<20 {
		t.Errorf("%d bytes in the heap: the header is still there", m.HeapAlloc)
	}
	checkWho(t, ctx, who{propagation.Identity{UserID: "u"}, false, true})
	if diff := cmp.Diff(map[string]string{"a": "1"}, membersIn(ctx)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestTraceContext(t *testing.T) {
	want := otelprop.TraceContext{}.Extract(context.Background(), mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"a=1,b=2"}})
	got := propagation.New().Extract(context.Background(), mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"a=1,b=2"}})
	if sc := trace.SpanContextFromContext(got); !sc.Equal(trace.SpanContextFromContext(want)) || !sc.IsRemote() {
		t.Errorf("span context %v, want that of OpenTelemetry", sc)
	}
	c := mdCarrier{}
	propagation.New().Inject(want, c)
	if diff := cmp.Diff(mdCarrier{"traceparent": {someTraceparent}, "tracestate": {"a=1,b=2"}}, c); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// other is a trace context format that carries baggage as well.
type other struct{}

func (other) Inject(ctx context.Context, c otelprop.TextMapCarrier) {
	c.Set("other-trace", trace.SpanContextFromContext(ctx).TraceID().String())
	for _, m := range baggage.FromContext(ctx).Members() {
		c.Set("other-baggage-"+m.Key(), m.Value())
	}
}

func (other) Extract(ctx context.Context, c otelprop.TextMapCarrier) context.Context {
	id, _ := trace.TraceIDFromHex(c.Get("other-trace"))
	m, _ := baggage.NewMemberRaw("smuggled", c.Get("other-baggage-smuggled"))
	b, _ := baggage.New(m)
	ctx = baggage.ContextWithBaggage(ctx, b)
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
}

func (other) Fields() []string { return []string{"other-trace"} }

func TestWithTraceContext(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	p := propagation.New(propagation.WithTraceContext(other{}), propagation.WithTrust(propagation.TrustAll))
	ctx := p.Extract(context.Background(), mdCarrier{
		"other-trace": {id}, "other-baggage-smuggled": {"x"}, "traceparent": {strings.Replace(someTraceparent, "4bf", "000", 1)},
	})
	if got := trace.SpanContextFromContext(ctx).TraceID().String(); got != id {
		t.Errorf("trace id %s, want %s", got, id)
	}
	if got := membersIn(ctx); len(got) != 0 {
		t.Errorf("members %v, want none past the boundary", got)
	}
	c := mdCarrier{}
	p.Inject(withMembers(t, ctx, "smuggled", "x"), c)
	if diff := cmp.Diff(mdCarrier{"other-trace": {id}}, c); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got, want := p.Fields(), []string{"other-trace", "x-request-id", "baggage"}; !slices.Equal(got, want) {
		t.Errorf("Fields() = %q, want %q", got, want)
	}
}

func TestWithoutTraceContext(t *testing.T) {
	p := propagation.New(propagation.WithTraceContext(nil))
	ctx := p.Extract(context.Background(), withoutBaggage())
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("a trace context was read")
	}
	c := mdCarrier{}
	p.Inject(otelprop.TraceContext{}.Extract(ctx, withoutBaggage()), c)
	if diff := cmp.Diff(mdCarrier{"x-request-id": {someRequestID}}, c); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got, want := p.Fields(), []string{"x-request-id", "baggage"}; !slices.Equal(got, want) {
		t.Errorf("Fields() = %q, want %q", got, want)
	}
}

// The scan ends somewhere in a large header, but never within a member.
func TestRule22NoPartOfAMember(t *testing.T) {
	const scanned, member = 16 << 10, "user.id=alice"
	for junk := scanned - 2*len(member); junk < scanned+2*len(member); junk++ {
		want := who{propagation.Identity{UserID: "alice"}, false, true}
		if junk+len(member) > scanned {
			want = who{}
		}
		for _, header := range [][]string{
			{strings.Repeat(",", junk) + member},
			{strings.Repeat(",", junk) + member + ",x"},
			{strings.Repeat(",", junk/2-1), strings.Repeat(",", junk-junk/2-1), member}, // each value counts a comma
		} {
			if got := whoIn(trusting().Extract(context.Background(), mdCarrier{"baggage": header})); !cmp.Equal(got, want, ignoreUnexported) {
				t.Fatalf("member behind %d bytes: identity %+v, want %+v", junk, got, want)
			}
		}
	}
}
