package errors_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// trailerBytes measures a status as gRPC encodes it, independently of the
// package: grpc-message percent-encoded, grpc-status-details-bin in base64.
func trailerBytes(tb testing.TB, s *status.Status) int {
	tb.Helper()
	n := 0
	for _, c := range []byte(s.Message()) {
		if c >= ' ' && c <= '~' && c != '%' {
			n++
		} else {
			n += len(url.PathEscape(string([]byte{0xff})))
		}
	}
	p := s.Proto()
	if len(p.GetDetails()) == 0 {
		return n
	}
	b, err := proto.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	return n + len(base64.RawStdEncoding.EncodeToString(b))
}

func detailNames(s *status.Status) []string {
	var names []string
	for _, p := range s.Proto().GetDetails() {
		names = append(names, string(p.MessageName()))
	}
	return names
}

// Rule 15: the order in which an error that is too large is shortened.
func TestRule15Budget(t *testing.T) {
	const info, retry = "google.rpc.ErrorInfo", "google.rpc.RetryInfo"
	text := func(n int) string { return strings.Repeat("x", n) }
	base := errors.Define(codes.InvalidArgument, "d", "R", "short").With("k", "v").WithRetry(time.Second)
	small := base.WithDetails(
		&errdetails.LocalizedMessage{Message: "l"}, wrapperspb.Int64(1), &errdetails.DebugInfo{Detail: "d"}, &errdetails.Help{Links: []*errdetails.Help_Link{{Url: "u"}}},
		wrapperspb.String(text(3000)), &errdetails.ResourceInfo{ResourceName: "r"}, &errdetails.RequestInfo{RequestId: "id"},
	).WithField("f", "F", "")
	fields := func(e *errors.Error, n int) *errors.Error {
		for i := range n {
			e = e.WithField(fmt.Sprintf("field_%03d", i), "BAD", text(100))
		}
		return e
	}
	custom := "google.protobuf.StringValue"
	int64Value := "google.protobuf.Int64Value"
	badRequest, resource, request := "google.rpc.BadRequest", "google.rpc.ResourceInfo", "google.rpc.RequestInfo"
	localized, help, debug := "google.rpc.LocalizedMessage", "google.rpc.Help", "google.rpc.DebugInfo"

	tests := []struct {
		name string
		err  error
		max  int
		want []string
	}{
		{"all fits", small, 0, []string{info, retry, badRequest, localized, int64Value, debug, help, custom, resource, request}},
		{"DebugInfo first", small, trailerSize(t, small) - 1, []string{info, retry, badRequest, localized, int64Value, help, custom, resource, request}},
		{"then Help", small.WithDetails(&errdetails.Help{Links: []*errdetails.Help_Link{{Url: text(9000)}}}), 0, []string{info, retry, badRequest, localized, int64Value, custom, resource, request}},
		{"then LocalizedMessage", small.WithDetails(&errdetails.LocalizedMessage{Message: text(9000)}), 0, []string{info, retry, badRequest, int64Value, custom, resource, request}},
		{"then other types from the last", small, 3000, []string{info, retry, badRequest, int64Value, resource, request}},
		{"then request and resource", small.WithDetails(&errdetails.ResourceInfo{Description: text(9000)}), 0, []string{info, retry, badRequest}},
		{"message of any length", errors.NotFound("%s", text(100_000)), 0, []string{info}},
		{"metadata of any length", base.With("long", text(100_000)), 0, []string{info, retry}},
		{"names of any length", base.WithReason(text(50_000), text(50_000)), 0, []string{info, retry}},
		{"names, one of which is short enough", base.WithReason(text(255), text(50_000)), 0, []string{info, retry}},
		{"text that grows when encoded", errors.NotFound("%s", strings.Repeat("ü%", 2000)).WithRetry(time.Second), 0, []string{info, retry}},
		{"text that is too long when encoded only", errors.NotFound("%s", strings.Repeat("%", 3000)), 0, []string{info}},
		{"fields", fields(base, 200), 0, []string{info, retry, badRequest}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limit := test.max
			if limit == 0 {
				limit = errors.DefaultMaxStatusBytes
			}
			c := errors.NewConverter(errors.WithMaxStatusBytes(test.max), errors.WithDebugInfo(func(context.Context) bool { return strings.Contains(test.name, "first") || test.name == "all fits" }))
			s := c.Status(t.Context(), test.err)
			if diff := cmp.Diff(test.want, detailNames(s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := trailerBytes(t, s); got > limit {
				t.Errorf("got %d bytes, want at most %d", got, limit)
			}
			e := errors.NewConverter().FromRPC(t.Context(), s.Err())
			d, ok := errors.RetryAfter(e)
			wantD, wantOK := errors.RetryAfter(test.err)
			if errors.Code(e) != errors.Code(test.err) || d != wantD || ok != wantOK {
				t.Errorf("got %v, retry %v, want %v, %v", errors.Code(e), d, errors.Code(test.err), wantD)
			}
			if !strings.HasPrefix(test.name, "names") && errors.Code(e) == codes.InvalidArgument && !errors.Is(e, base) {
				t.Errorf("another identity: %v", e)
			}
			got, _ := errors.Detail[*errdetails.ErrorInfo](e)
			if wantTruncated := test.name != "all fits"; (got.GetMetadata()["truncated"] == "true") != wantTruncated {
				t.Errorf("truncated: got %v, want %v", got.GetMetadata(), wantTruncated)
			}
		})
	}
}

// trailerSize is what err takes when nothing limits it, DebugInfo included.
func trailerSize(tb testing.TB, err error) int {
	c := errors.NewConverter(errors.WithMaxStatusBytes(1<<20), errors.WithDebugInfo(func(context.Context) bool { return true }))
	return trailerBytes(tb, c.Status(tb.Context(), err))
}

// Rule 15: violations are a prefix of those there were, the longest that fits,
// and the message stays whole meanwhile.
func TestRule15ViolationsToAPrefix(t *testing.T) {
	quota := &errdetails.QuotaFailure{}
	e := errors.InvalidArgument("%s", strings.Repeat("m", 1000))
	for i := range 100 {
		e = e.WithField(fmt.Sprintf("field_%03d", i), "BAD", strings.Repeat("x", 60))
		quota.Violations = append(quota.Violations, &errdetails.QuotaFailure_Violation{Subject: fmt.Sprint("s", i)})
	}
	e = e.WithDetails(quota)
	s := errors.NewConverter().Status(t.Context(), e)
	all, _ := errors.Detail[*errdetails.BadRequest](e)
	got, _ := errors.Detail[*errdetails.BadRequest](s.Err())
	n := len(got.GetFieldViolations())
	if n == 0 || n >= 100 {
		t.Fatalf("got %d of 100 violations, want some", n)
	}
	want := &errdetails.BadRequest{FieldViolations: all.GetFieldViolations()[:n]}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if q, ok := errors.Detail[*errdetails.QuotaFailure](s.Err()); ok {
		t.Errorf("the later detail was not cut first: %v", q)
	}
	if s.Message() != e.Message() {
		t.Errorf("the message was cut to %d bytes", len(s.Message()))
	}
	one := trailerBytes(t, errors.NewConverter().Status(t.Context(), errors.InvalidArgument("m").WithField("field_000", "BAD", strings.Repeat("x", 60))))
	if room := errors.DefaultMaxStatusBytes - trailerBytes(t, s); room > one {
		t.Errorf("%d bytes are left, one more violation takes less than %d", room, one)
	}
}

// Rule 15: the message is cut to 512 bytes of whole characters, and what it
// makes room for stays.
func TestRule15MessageTo512(t *testing.T) {
	e := errors.NotFound("x%s", strings.Repeat("ü", 50_000)).WithField("f", "F", "").WithDetails(wrapperspb.Bool(true))
	s := errors.NewConverter().Status(t.Context(), e)
	if want := "x" + strings.Repeat("ü", 255); s.Message() != want {
		t.Errorf("got %d bytes %q, want %d", len(s.Message()), s.Message(), len(want))
	}
	if diff := cmp.Diff([]string{"google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.protobuf.BoolValue"}, detailNames(s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Rule 15: a message is measured as HTTP/2 carries it, to the byte.
func TestRule15MessageIsMeasured(t *testing.T) {
	for text, size := range map[string]int{"a": 1, " ": 1, "~": 1, "%": 3, "\n": 3, "\x7f": 3, "\u00fc": 6} {
		for over, n := range []int{errors.DefaultMaxStatusBytes / size, errors.DefaultMaxStatusBytes/size + 1} {
			whole := strings.Repeat(text, n)
			if s := errors.NewConverter().Status(t.Context(), errors.NotFound("%s", whole)); (s.Message() == whole) != (over == 0) || (len(s.Details()) == 0) != (over == 0) {
				t.Errorf("%d times %q: got %d of %d bytes, %d details", n, text, len(s.Message()), len(whole), len(s.Details()))
			}
		}
	}
}

// The longest metadata goes first.
func TestRule15Metadata(t *testing.T) {
	e := errUserNotFound.With("id", 7).With("a", strings.Repeat("x", 9000)).With("b", strings.Repeat("x", 100))
	s := errors.NewConverter().Status(t.Context(), e)
	info, _ := errors.Detail[*errdetails.ErrorInfo](s.Err())
	want := map[string]string{"id": "7", "b": strings.Repeat("x", 100), "truncated": "true"}
	if diff := cmp.Diff(want, info.GetMetadata()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s.Message() != "user 7 does not exist" {
		t.Errorf("got %q", s.Message())
	}
}

// Rule 15 for an explicit status, with more than one of a type and details that
// cannot be read; and a limit that is too small for what always remains.
func TestRule15BudgetOfStatus(t *testing.T) {
	huge := []byte(strings.Repeat("\xff", 20_000))
	broken := func(name string) *anypb.Any { return &anypb.Any{TypeUrl: "type.googleapis.com/" + name, Value: huge} }
	s := status.New(codes.Aborted, strings.Repeat("m", 600)).Proto()
	s.Details = append([]*anypb.Any{broken("google.rpc.RetryInfo"), broken("google.rpc.ErrorInfo"), broken("google.rpc.BadRequest"), broken("google.rpc.QuotaFailure")},
		packAll(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}, &errdetails.ErrorInfo{Domain: "d", Reason: "R"},
			&errdetails.ErrorInfo{Domain: "second", Reason: strings.Repeat("R", 9000)})...)
	for limit, wantText := range map[int]int{0: 600, 1: 512} {
		got := errors.NewConverter(errors.WithMaxStatusBytes(limit)).Status(t.Context(), status.ErrorProto(s))
		e := errors.NewConverter().FromRPC(t.Context(), got.Err())
		domain, reason := errors.Reason(e)
		d, _ := errors.RetryAfter(e)
		if got.Code() != codes.Aborted || domain != "d" || reason != "R" || d != time.Second || len(got.Message()) != wantText || len(got.Details()) != 2 {
			t.Errorf("limit %d: got %v %q %q %v, message of %d, details %v", limit, got.Code(), domain, reason, d, len(got.Message()), detailNames(got))
		}
	}
}

// Fields that this program does not know are left out of what remains.
func TestRule15UnknownFields(t *testing.T) {
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), make([]byte, 9000))
	details := packAll(t, &errdetails.ErrorInfo{Domain: "d", Reason: "R"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f"}, {Field: "g"}, {Field: strings.Repeat("x", 9000)}}})
	for _, p := range details {
		p.Value = append(p.Value, unknown...)
	}
	got := errors.NewConverter().Status(t.Context(), status.ErrorProto(&spb.Status{Code: 9, Message: "m", Details: details}))
	want := &spb.Status{Code: 9, Message: "m", Details: packAll(t,
		&errdetails.ErrorInfo{Domain: "d", Reason: "R", Metadata: map[string]string{"truncated": "true"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f"}, {Field: "g"}}})}
	if diff := cmp.Diff(want, got.Proto(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What another service sends costs no more than its size, however odd it is: a
// header may have 16 MB, which quadratic work would make a way to stop a caller.
func TestHostileStatusCostsItsSize(t *testing.T) {
	const n = 20_000
	info := &errdetails.ErrorInfo{Reason: "R", Metadata: map[string]string{}}
	s := &spb.Status{Code: 9, Message: "m"}
	for i := range n {
		info.Metadata[fmt.Sprint("key", i)] = "value"
		s.Details = append(s.Details, &anypb.Any{TypeUrl: fmt.Sprint("/type.number", i)})
		s.Details = append(s.Details, packAll(t, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: fmt.Sprint("f", i)}}})...)
	}
	s.Details = append(s.Details, packAll(t, info)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := errors.NewConverter()
	err := c.FromRPC(t.Context(), status.ErrorProto(s))
	sent := c.Status(t.Context(), errors.Forward(err))
	merged, _ := errors.Detail[*errdetails.BadRequest](errors.Join(err, errors.FailedPrecondition("x").WithField("other", "", "")))
	text := errors.Define(codes.NotFound, "d", "R", strings.Repeat("{", n*50)).With("k", "v").Message()
	runtime.ReadMemStats(&after)
	if _, reason := errors.Reason(sent.Err()); sent.Code() != codes.FailedPrecondition || reason != "R" || trailerBytes(t, sent) > errors.DefaultMaxStatusBytes {
		t.Errorf("got %v with reason %q in %d bytes", sent.Code(), reason, trailerBytes(t, sent))
	}
	if len(merged.GetFieldViolations()) != n+1 || len(text) != n*50 {
		t.Errorf("got %d violations, text of %d", len(merged.GetFieldViolations()), len(text))
	}
	const enough = 1 << 29 // a list copied once for each of its elements is 3 GB
	if got := after.TotalAlloc - before.TotalAlloc; got > enough {
		t.Errorf("allocated %d bytes, want less than %d", got, enough)
	}
}

const childVariable = "RPCSCOPE_TEST_8KB"

// Rule 15: with 8 KB header limits switched on, an error of 100 KB ends its own
// call with the right code, and others on its connection go on. Without the
// budget the whole connection would fail, which the test shows as well.
func TestRule15HeaderLimit(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		checkHeaderLimit(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRule15HeaderLimit$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"=1", "GRPC_GO_EXPERIMENTAL_ENABLE_8KB_DEFAULT_HEADER_LIST_SIZE=true")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRule15HeaderLimit") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func checkHeaderLimit(t *testing.T) {
	for _, test := range []struct {
		name         string
		c            *errors.Converter
		want, others codes.Code
	}{
		{"without a budget", errors.NewConverter(errors.WithMaxStatusBytes(1 << 20)), codes.Unavailable, codes.Unavailable},
		{"default budget", errors.NewConverter(), codes.NotFound, codes.OK},
	} {
		for _, kind := range kinds {
			const others = 10
			var calls atomic.Int64
			started, release := make(chan struct{}, others), make(chan struct{})
			conn := serve(t, test.c, func(context.Context) error {
				if calls.Add(1) <= others {
					started <- struct{}{}
					<-release
					return nil
				}
				return errUserNotFound.With("id", 7).WithDetails(wrapperspb.String(strings.Repeat("x", 50_000))).
					WithField("f", "F", strings.Repeat("ü", 25_000))
			})
			results := make(chan error, others)
			for range others {
				go func() { results <- call(t.Context(), conn, kind) }()
			}
			for range others {
				<-started
			}
			err := test.c.FromRPC(t.Context(), call(t.Context(), conn, kind))
			close(release)
			if errors.Code(err) != test.want || errors.Is(err, errUserNotFound) != (test.want == codes.NotFound) {
				t.Errorf("%s, %s: got %v, want %v", test.name, kind, err, test.want)
			}
			for range others {
				if err := <-results; errors.Code(err) != test.others {
					t.Errorf("%s, %s: another call on the connection: got %v, want %v", test.name, kind, err, test.others)
				}
			}
		}
	}
}
