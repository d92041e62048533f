package errors_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// sent is what a client gets of a status: the trailer's bytes, decoded.
func sent(tb testing.TB, s *status.Status) *status.Status {
	tb.Helper()
	b, err := proto.Marshal(s.Proto())
	if err != nil {
		tb.Fatalf("the status cannot be encoded: %v", err)
	}
	p := new(spb.Status)
	if err := proto.Unmarshal(b, p); err != nil {
		tb.Fatal(err)
	}
	return status.FromProto(p)
}

// FuzzRoundTrip: what a handler says is what its caller reads, whatever the
// strings (rule 14), or else it says that it was shortened (rule 15).
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint32(5), "users.example.com", "USER_NOT_FOUND", "user {id}", "id", "7", "name", int64(time.Second))
	f.Add(uint32(3), "", "", "", "", "", "", int64(-1))
	f.Add(uint32(99), "d\xff", "R\x00", "100% {k}\n", "k", "{k}", "ü", int64(1)<<62)
	f.Add(uint32(13), "d", strings.Repeat("R", 6000), strings.Repeat("ü", 3000), "truncated", "no", strings.Repeat("f", 6000), int64(0))
	f.Add(uint32(16), "d", "R", "Bearer abcdefghijklmnop.1", "cookie", "a=b", "authorization: 0123456789", int64(0))
	f.Fuzz(func(t *testing.T, code uint32, domain, reason, message, key, value, field string, retry int64) {
		e := errors.Coded(codes.Code(code), "x").WithReason(domain, reason).WithMessage(message).With(key, value).
			WithField(field, reason, value).WithRetry(time.Duration(retry)).WithDetails(&errdetails.ResourceInfo{ResourceName: field})
		c := errors.NewConverter()
		s := c.Status(t.Context(), e)
		checkStatus(t, s)
		got := c.FromRPC(t.Context(), sent(t, s).Err())
		typed, ok := errors.AsType[*errors.Error](got)
		if !ok || typed.Code() != e.Code() || !typed.Remote() {
			t.Fatalf("got %#v, want code %v", got, e.Code())
		}
		if d, ok := errors.RetryAfter(got); !ok || d != max(time.Duration(retry), 0) {
			t.Errorf("got retry %v, want %v", d, retry)
		}
		if typed.Metadata()["truncated"] == "true" && key != "truncated" {
			if trailerSize(t, e) <= errors.DefaultMaxStatusBytes {
				t.Errorf("shortened without need")
			}
			if len(reason) > 0 && len(reason) <= 255 && len(domain) <= 255 && !errors.Is(got, e) {
				t.Errorf("another identity: %q, %q, want %q, %q", typed.Domain(), typed.Reason(), e.Domain(), e.Reason())
			}
			return
		}
		if diff := cmp.Diff(readAll(e), readAll(got), protocmp.Transform()); diff != "" && key != "truncated" {
			t.Errorf("server -> client:\n%s", diff)
		}
		if diff := cmp.Diff(s.Proto(), c.Status(t.Context(), errors.Forward(got)).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("forwarded: %s", diff)
		}
	})
}

// checkStatus holds for whatever a converter sends.
func checkStatus(t *testing.T, s *status.Status) {
	t.Helper()
	if s.Code() == codes.OK {
		t.Errorf("an error became OK")
	}
	if !utf8.ValidString(s.Message()) {
		t.Errorf("the message is not UTF-8: %q", s.Message())
	}
	if n := trailerBytes(t, s); n > errors.DefaultMaxStatusBytes {
		t.Errorf("the status takes %d bytes, want at most %d", n, errors.DefaultMaxStatusBytes)
	}
}

// FuzzHostileStatus: whatever bytes another service sends as a status, they can
// be read, sent on within the budget, and translated without a trace.
func FuzzHostileStatus(f *testing.F) {
	for _, s := range hostile(f) {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := new(spb.Status)
		if proto.Unmarshal(b, p) != nil {
			return
		}
		err := statusError{status.FromProto(p)}
		c := errors.NewConverter()
		got := c.FromRPC(t.Context(), err)
		typed, ok := errors.AsType[*errors.Error](got)
		if !ok || typed.Code() == codes.OK {
			t.Fatalf("got %#v", got)
		}
		_ = readAll(got)
		_ = typed.Error() + typed.LogValue().String()
		checkStatus(t, c.Status(t.Context(), errors.Forward(got)))
		checkStatus(t, c.Status(t.Context(), typed.With("k", "v")))
		direct := c.Status(t.Context(), err)
		checkStatus(t, direct)
		if again := c.Status(t.Context(), c.Convert(t.Context(), err)); !proto.Equal(again.Proto(), direct.Proto()) {
			t.Errorf("Status of what Convert made: got %v, want %v", again, direct)
		}
		translated := c.Status(t.Context(), got)
		checkStatus(t, translated)
		if d, ok := errors.RetryAfter(translated.Err()); ok && d < 0 || len(translated.Details()) > 1 {
			t.Errorf("got %v, retry %v", translated, d)
		}
		for _, detail := range direct.Proto().GetDetails() {
			if detail.MessageName() == "google.rpc.DebugInfo" {
				t.Errorf("a DebugInfo was sent: %v", detail)
			}
		}
	})
}

// hostile are statuses that no well-meaning service sends.
func hostile(tb testing.TB) []*spb.Status {
	tb.Helper()
	all := packAll(tb, allDetails()...)
	reversed := packAll(tb, append(allDetails(), allDetails()...)...)
	broken := packAll(tb, allDetails()...)
	for _, p := range broken {
		p.Value = append([]byte{0xff, 0x01, 0xff}, p.GetValue()...)
	}
	large := packAll(tb, &errdetails.ErrorInfo{Reason: strings.Repeat("R", 5000), Metadata: map[string]string{"k": strings.Repeat("v", 5000)}},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: strings.Repeat("u", 9000)}}})
	named := packAll(tb, &errdetails.RetryInfo{}, &errdetails.ErrorInfo{})
	for _, p := range named {
		p.TypeUrl = strings.Repeat("x", 8000) + "/" + string(p.MessageName())
	}
	return []*spb.Status{
		{},
		{Code: 5, Message: "user 7"},
		{Code: -1, Message: strings.Repeat("%ü", 4000)},
		{Code: 1 << 30, Message: "odd", Details: all},
		{Code: 13, Message: "twice", Details: reversed},
		{Code: 13, Message: "broken", Details: broken},
		{Code: 8, Message: "large", Details: large},
		{Code: 8, Message: "named", Details: named},
	}
}

// FuzzHostileStrings: text from anywhere neither breaks a format nor loses its
// error, and a credential in it is not shown (rules 15 and 29).
func FuzzHostileStrings(f *testing.F) {
	for _, s := range []string{
		"", "user 7", "%!d(string=x) %w %", "{id} {", "\xff\xfe", "\u2028\x00\r\n", strings.Repeat("ü", 5000),
		"authorization: Bearer ", "Cookie: a=b; c=", `{"authorization":["basic `, "bearer\t", "bearer bearer ", "COOKIE=a=b",
	} {
		f.Add(s, s)
	}
	const secret = "Zm9vOmJhcl9iYXoxMjM0NTY3ODkw"
	f.Fuzz(func(t *testing.T, a, b string) {
		e := errors.Define(codes.NotFound, a, b, a+"{"+b+"}").With(b, a).WithField(a, b, a).WithCause(errors.New(b))
		s := errors.NewConverter().Status(t.Context(), e)
		checkStatus(t, s)
		if got := sent(t, s); got.Code() != codes.NotFound || len(got.Details()) == 0 && a+b != "" {
			t.Errorf("got %v with details %v", got, got.Details())
		}
		if !utf8.ValidString(e.Message()) {
			t.Errorf("got %q", e.Message())
		}
		once := errors.NotFound("%s", a).Message()
		if twice := errors.NotFound("%s", once).Message(); twice != once {
			t.Errorf("cleaning again changes %q to %q", once, twice)
		}
		if strings.Contains(a, secret[:8]) || strings.Contains(b, secret[:8]) {
			return
		}
		quoted := errors.NotFound("%s Authorization: Bearer %s\n%s", a, secret, b).WithCause(errors.New(a + " Bearer " + secret))
		if text := quoted.Error() + quoted.Message() + quoted.LogValue().String(); strings.Contains(text, secret) {
			t.Errorf("got %q", text)
		}
	})
}
