package errors_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

var errUserNotFound = errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} does not exist")

// Rule 12: only the public text reaches the wire, on every kind of call.
func TestRule12TwoTexts(t *testing.T) {
	const private = "conn 10.0.0.1: refused"
	tests := []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"typed", errors.NotFound("user %d", 7), codes.NotFound, "user 7"},
		{"typed, wrapped deep below", fmt.Errorf("a %s: %w", private, fmt.Errorf("b: %w", errors.NotFound("user 7"))), codes.NotFound, "user 7"},
		{"typed with cause", errors.NotFound("user 7").WithCause(errors.New(private)), codes.NotFound, "user 7"},
		{"formatted with %w", errors.NotFound("user %d: %w", 7, errors.New(private)), codes.NotFound, "user 7"},
		{"formatted with two %w", errors.NotFound("%w, user %d: %w", errors.New(private), 7, errors.New(private)), codes.NotFound, "user 7"},
		{"formatted with a typed %w", errors.FailedPrecondition("user %d: %w", 7, fmt.Errorf("%s: %w", private, errors.NotFound("no mail address"))), codes.FailedPrecondition, "user 7: no mail address"},
		{"wrapped", errors.Wrap(errors.New(private), errUserNotFound.With("id", 7)), codes.NotFound, "user 7 does not exist"},
		{"internal", errors.Internal(errors.New(private)), codes.Internal, "internal error"},
		{"unknown", errors.Unknown(errors.New(private)), codes.Unknown, "unknown error"},
		{"data loss", errors.DataLoss(errors.New(private)), codes.DataLoss, "data loss"},
		{"unclassified", errors.New(private), codes.Unknown, "unknown error"},
		{"error value in metadata", errUserNotFound.With("id", errors.New(private)), codes.NotFound, "user unknown error does not exist"},
		{"status, wrapped", fmt.Errorf("%s: %w", private, status.Error(codes.Aborted, "try again")), codes.Aborted, "try again"},
	}
	for _, test := range tests {
		for _, kind := range kinds {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				var seen *status.Status
				conn := serve(t, &errors.Converter{}, func(context.Context) error { return test.err })
				seen = status.Convert(call(t.Context(), conn, kind))
				if seen.Code() != test.code || seen.Message() != test.text {
					t.Errorf("got %v %q, want %v %q", seen.Code(), seen.Message(), test.code, test.text)
				}
				if strings.Contains(seen.Proto().String(), "10.0.0.1") {
					t.Errorf("the private text is on the wire: %v", seen.Proto())
				}
			})
		}
	}
}

// The private text is for logs: Error has it where Message has not.
func TestRule12CauseStaysInLogs(t *testing.T) {
	err := fmt.Errorf("load: %w", errors.NotFound("user 7").WithCause(errors.New("row missing")))
	e := errors.NewConverter().Convert(t.Context(), err)
	if got, want := e.Error(), "load: NotFound: user 7: row missing"; got != want {
		t.Errorf("Error: got %q, want %q", got, want)
	}
	if e.Unwrap() != err { //nolint:errorlint // It must be the very error.
		t.Errorf("Unwrap: got %v, want the error that was returned", e.Unwrap())
	}
}

// D15: what gRPC itself makes of the same errors, and what this package makes.
func TestD15StatusFromError(t *testing.T) {
	t.Run("wrapper's text", func(t *testing.T) {
		err := fmt.Errorf("conn 10.0.0.1: %w", status.Error(codes.NotFound, "user 7"))
		for _, test := range []struct {
			name string
			c    *errors.Converter
			want string
		}{
			{"plain gRPC", nil, "conn 10.0.0.1: rpc error: code = NotFound desc = user 7"},
			{"Converter", errors.NewConverter(), "user 7"},
		} {
			conn := serve(t, test.c, func(context.Context) error { return err })
			if got := status.Convert(call(t.Context(), conn, "Unary")).Message(); got != test.want {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
		}
	})
	t.Run("invalid UTF-8", func(t *testing.T) {
		s, err := status.New(codes.InvalidArgument, "bad name \xff").WithDetails(&errdetails.ErrorInfo{Reason: "R", Domain: "d"})
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name    string
			c       *errors.Converter
			details int
		}{
			{"plain gRPC", nil, 0},
			{"Converter", errors.NewConverter(), 1},
		} {
			conn := serve(t, test.c, func(context.Context) error { return s.Err() })
			got := status.Convert(call(t.Context(), conn, "Unary"))
			if len(got.Details()) != test.details || got.Message() != "bad name \uFFFD" {
				t.Errorf("%s: got %q with %d details, want %q with %d", test.name, got.Message(), len(got.Details()), "bad name \uFFFD", test.details)
			}
		}
	})
}

// Rule 14: what can be read of an error is the same on both sides, for all
// codes and kinds.
func TestRule14IdentityOverTheWire(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for _, kind := range kinds {
			t.Run(code.String()+"/"+kind, func(t *testing.T) {
				sentinel := errors.Define(code, "users.example.com", "REASON", "user {id}: {what}")
				sent := sentinel.With("id", 7).With("what", "größer").WithRetry(1500*time.Millisecond).
					WithField("name", "TOO_LONG", "at most 10").WithCause(io.ErrUnexpectedEOF).
					WithDetails(&errdetails.ResourceInfo{ResourceType: "user", ResourceName: "7"})
				err := over(t, errors.NewConverter(), kind, fmt.Errorf("handler: %w", sent))
				got, ok := errors.AsType[*errors.Error](err)
				if !ok {
					t.Fatalf("got %T, want *errors.Error", err)
				}
				for _, same := range []error{sentinel, sent} {
					if !errors.Is(err, same) {
						t.Errorf("Is(%v, %v): got false", err, same)
					}
				}
				for _, other := range []error{errUserNotFound, errors.Define(code, "other", "REASON", ""), io.ErrUnexpectedEOF} {
					if errors.Is(err, other) {
						t.Errorf("Is(%v, %v): got true", err, other)
					}
				}
				if diff := cmp.Diff(readAll(sent), readAll(got), protocmp.Transform()); diff != "" {
					t.Errorf("server -> client:\n%s", diff)
				}
				if !got.Remote() || sent.Remote() {
					t.Errorf("Remote: got %v on the client and %v on the server", got.Remote(), sent.Remote())
				}
				if status.Code(err) != code {
					t.Errorf("status.Code: got %v, want %v", status.Code(err), code)
				}
			})
		}
	}
}

// reading is all that can be read of an error.
type reading struct {
	Code                    codes.Code
	Domain, Reason, Message string
	Metadata                map[string]string
	Details                 []proto.Message
	RetryAfter              time.Duration
	Retries                 bool
	Bad                     *errdetails.BadRequest
	Resource                *errdetails.ResourceInfo
}

func readAll(err error) reading {
	e, _ := errors.AsType[*errors.Error](err)
	r := reading{Code: errors.Code(err), Message: errors.Message(err), Metadata: e.Metadata(), Details: e.Details()}
	r.Domain, r.Reason = errors.Reason(err)
	r.RetryAfter, r.Retries = errors.RetryAfter(err)
	r.Bad, _ = errors.Detail[*errdetails.BadRequest](err)
	r.Resource, _ = errors.Detail[*errdetails.ResourceInfo](err)
	return r
}

// The reading functions take gRPC's own status errors as well.
func TestRule14ReadsPlainStatus(t *testing.T) {
	s, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(
		&errdetails.ErrorInfo{Domain: "d", Reason: "R"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := fmt.Errorf("call: %w", s.Err())
	want := reading{
		Code: codes.ResourceExhausted, Message: "slow down", Domain: "d", Reason: "R", RetryAfter: time.Second, Retries: true,
	}
	if diff := cmp.Diff(want, readAll(wrapped), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Rule 14 with WithDomain: filling in the domain does not change what an error
// is.
func TestRule14DefaultDomain(t *testing.T) {
	sentinel := errors.Define(codes.NotFound, "", "GONE", "gone")
	err := over(t, errors.NewConverter(errors.WithDomain("d")), "Unary", sentinel)
	if domain, reason := errors.Reason(err); domain != "d" || reason != "GONE" {
		t.Errorf("got %q, %q, want d, GONE", domain, reason)
	}
	if !errors.Is(err, sentinel) || errors.Is(err, errors.Define(codes.NotFound, "e", "GONE", "")) {
		t.Errorf("Is: the sentinel %v, another domain's %v, want true, false",
			errors.Is(err, sentinel), errors.Is(err, errors.Define(codes.NotFound, "e", "GONE", "")))
	}
	err = over(t, errors.NewConverter(), "Unary", sentinel)
	if domain, reason := errors.Reason(err); domain != "" || reason != "GONE" || !errors.Is(err, sentinel) {
		t.Errorf("without a domain: got %q, %q, want GONE alone", domain, reason)
	}
	if sentinel.Domain() != "" {
		t.Errorf("the sentinel itself got domain %q", sentinel.Domain())
	}
	s := status.FromProto(&spb.Status{Code: 5, Details: packAll(t, &errdetails.ErrorInfo{Reason: "GONE"})})
	if got := errors.NewConverter(errors.WithDomain("d")).Convert(t.Context(), s.Err()); got.Domain() != "" {
		t.Errorf("an explicit status got domain %q, which is not sent", got.Domain())
	}
	if err := over(t, errors.NewConverter(errors.WithDomain("d")), "Unary", errors.NotFound("gone")); len(status.Convert(err).Details()) != 0 {
		t.Errorf("an error without a reason got details: %v", status.Convert(err).Details())
	}
}

// allDetails is one of each type in google.rpc/error_details.proto.
func allDetails() []proto.Message {
	return []proto.Message{
		&errdetails.ErrorInfo{Domain: "d", Reason: "R", Metadata: map[string]string{"k": "v"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f", Description: "x", Reason: "BAD",
			LocalizedMessage: &errdetails.LocalizedMessage{Locale: "de", Message: "falsch"}}}},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "user:7", Description: "calls"}}},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "TOS", Subject: "s", Description: "x"}}},
		&errdetails.RequestInfo{RequestId: "r-1", ServingData: "s"},
		&errdetails.ResourceInfo{ResourceType: "user", ResourceName: "7", Owner: "o", Description: "x"},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Description: "doc", Url: "https://example.com"}}},
		&errdetails.LocalizedMessage{Locale: "en", Message: "hello"},
		&errdetails.DebugInfo{StackEntries: []string{"a", "b"}, Detail: "private"},
	}
}

// Rule 15: every detail of google.rpc both ways; DebugInfo where switched on.
func TestRule15AllDetails(t *testing.T) {
	all := allDetails()
	for _, test := range []struct {
		name string
		c    *errors.Converter
		want []proto.Message
	}{
		{"default", errors.NewConverter(), all[:len(all)-1]},
		{"debug off", errors.NewConverter(errors.WithDebugInfo(func(context.Context) bool { return false })), all[:len(all)-1]},
		{"debug on", errors.NewConverter(errors.WithDebugInfo(func(context.Context) bool { return true })), all},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := status.FromProto(&spb.Status{Code: int32(codes.Aborted), Message: "m", Details: packAll(t, all...)})
			for name, err := range map[string]error{"typed": errors.Aborted("m").WithDetails(all...), "status": s.Err()} {
				got, _ := errors.AsType[*errors.Error](over(t, test.c, "Unary", err))
				if diff := cmp.Diff(test.want, got.Details(), protocmp.Transform()); diff != "" {
					t.Errorf("%s: -want +got:\n%s", name, diff)
				}
			}
		})
	}
}

func packAll(tb testing.TB, details ...proto.Message) []*anypb.Any {
	tb.Helper()
	packed := make([]*anypb.Any, len(details))
	for i, m := range details {
		p, err := anypb.New(m)
		if err != nil {
			tb.Fatal(err)
		}
		packed[i] = p
	}
	return packed
}

// Rule 15: at most one of each type, ErrorInfo first.
func TestRule15OneOfEachType(t *testing.T) {
	value, err := structpb.NewStruct(map[string]any{"k": "first"})
	if err != nil {
		t.Fatal(err)
	}
	e := errors.InvalidArgument("m").
		WithDetails(&errdetails.Help{}, value, nil, (*errdetails.Help)(nil)).
		WithField("a", "A", "").
		WithDetails(&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "u"}}}).
		WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "b"}}}).
		WithRetry(-time.Second).
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}).
		WithReason("d", "R")
	want := []proto.Message{
		&errdetails.ErrorInfo{Domain: "d", Reason: "R"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Reason: "A"}, {Field: "b"}}},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "u"}}},
		value,
	}
	if diff := cmp.Diff(want, e.Details(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i := range 10 {
		e = e.With(fmt.Sprint("key", i), i)
	}
	for range 10 { // The same bytes each time.
		a, b := e.GRPCStatus().Proto(), e.GRPCStatus().Proto()
		if !proto.Equal(a, b) {
			t.Errorf("got %v and %v for one error", a, b)
		}
	}
}

// Rule 15: the bytes of a detail whose type is not known here are kept, as the
// handler set them and as another service sent them.
func TestRule15UnknownAny(t *testing.T) {
	unknown := &anypb.Any{TypeUrl: "type.example.com/not.linked.In", Value: []byte{0xff, 0x00, 0x07}}
	sent := status.FromProto(&spb.Status{Code: int32(codes.Aborted), Message: "m", Details: append(packAll(t, &errdetails.Help{}), unknown)})
	for name, err := range map[string]error{
		"status":            sent.Err(),
		"typed":             errors.Aborted("m").WithDetails(&errdetails.Help{}, unknown),
		"forwarded":         errors.Forward(errors.NewConverter().FromRPC(t.Context(), sent.Err())),
		"forwarded, deeper": errors.Forward(fmt.Errorf("x: %w", errors.NewConverter().FromRPC(t.Context(), sent.Err()))),
	} {
		got := over(t, errors.NewConverter(), "Unary", err)
		if diff := cmp.Diff(sent.Proto(), status.Convert(got).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		e, _ := errors.AsType[*errors.Error](got)
		if diff := cmp.Diff([]proto.Message{&errdetails.Help{}, unknown}, e.Details(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: Details: -want +got:\n%s", name, diff)
		}
	}
}

// Rule 15: what is made of an error that was received has its details, one of each
// type.
func TestRule15ChangedAfterReceipt(t *testing.T) {
	unknown := &anypb.Any{TypeUrl: "type.example.com/not.linked.In", Value: []byte{7}}
	received := errors.NewConverter().FromRPC(t.Context(), status.ErrorProto(&spb.Status{Code: int32(codes.Aborted), Details: append(packAll(t,
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "first"}}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "second"}}},
		&errdetails.ErrorInfo{Reason: "R", Metadata: map[string]string{"a": "1"}},
		&errdetails.ErrorInfo{Reason: "SECOND"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "b"}}}), unknown)}))
	e, _ := errors.AsType[*errors.Error](received)
	want := []proto.Message{
		&errdetails.ErrorInfo{Reason: "R", Metadata: map[string]string{"a": "1", "b": "2"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a"}, {Field: "b"}}},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "first"}}},
		unknown,
	}
	if diff := cmp.Diff(want, e.With("b", 2).Details(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(e.Details()) != 8 {
		t.Errorf("what was received was changed: %v", e.Details())
	}
}

// A received error has the status that was received, DebugInfo included, for who
// reads it with gRPC's functions; of a secret in its text only the text changes.
func TestStatusOfReceived(t *testing.T) {
	for sent, want := range map[string]string{"lost": "lost", "authorization: Bearer abcdefghijklmnop": "authorization: Bearer [redacted]"} {
		p := &spb.Status{Code: int32(codes.Aborted), Message: sent, Details: packAll(t, allDetails()...)}
		got := errors.NewConverter().FromRPC(t.Context(), status.ErrorProto(p))
		p.Message = want
		if diff := cmp.Diff(p, status.Convert(got).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("%q: -want +got:\n%s", sent, diff)
		}
	}
}

// An explicit status that a handler returns is not overwritten.
func TestExplicitStatusUnchanged(t *testing.T) {
	details := allDetails()
	details = details[:len(details)-1]
	// Twice the same type, ErrorInfo last: the handler's own business.
	details = append(details[1:], details[1], details[0])
	want := &spb.Status{Code: int32(codes.FailedPrecondition), Message: "as it is", Details: packAll(t, details...)}
	for _, kind := range kinds {
		got := over(t, errors.NewConverter(errors.WithDomain("other")), kind, fmt.Errorf("wrapped: %w", status.ErrorProto(want)))
		if diff := cmp.Diff(want, status.Convert(got).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", kind, diff)
		}
	}
}

// Rule 15: what is not UTF-8 becomes U+FFFD, wherever it is.
func TestRule15InvalidUTF8(t *testing.T) {
	const bad, good = "a\xffb", "a\uFFFDb"
	nested, err := structpb.NewStruct(map[string]any{"k": []any{"v"}})
	if err != nil {
		t.Fatal(err)
	}
	nested.Fields[bad] = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(bad)}})
	e := errors.Define(codes.InvalidArgument, bad, bad, bad+" {k}").
		With("k", bad).With(bad, "v").WithField(bad, bad, bad).
		WithDetails(nested, &errdetails.ResourceInfo{ResourceType: bad, ResourceName: bad, Owner: bad}, &errdetails.DebugInfo{StackEntries: []string{bad}})
	got := over(t, errors.NewConverter(errors.WithDebugInfo(func(context.Context) bool { return true })), "Unary", e)
	typed, _ := errors.AsType[*errors.Error](got)
	want := []proto.Message{
		&errdetails.ErrorInfo{Domain: good, Reason: good, Metadata: map[string]string{"k": good, good: "v"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: good, Reason: good, Description: good}}},
		&structpb.Struct{Fields: map[string]*structpb.Value{
			"k":  structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("v")}}),
			good: structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(good)}}),
		}},
		&errdetails.ResourceInfo{ResourceType: good, ResourceName: good, Owner: good},
		&errdetails.DebugInfo{StackEntries: []string{good}},
	}
	if diff := cmp.Diff(want, typed.Details(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := good + " " + good; typed.Message() != want {
		t.Errorf("got %q, want %q", typed.Message(), want)
	}
	odd := status.FromProto(&spb.Status{Code: 9, Details: append(packAll(t, &errdetails.Help{}), &anypb.Any{TypeUrl: "/" + bad})})
	if details := status.Convert(over(t, errors.NewConverter(), "Unary", odd.Err())).Proto().GetDetails(); len(details) != 2 || details[1].GetTypeUrl() != "/"+good {
		t.Errorf("a type that is not UTF-8: got details %v", details)
	}
	if !bytes.Contains([]byte(nested.Fields["k"].String()), []byte("v")) || nested.Fields[bad] == nil {
		t.Error("the caller's message was changed")
	}
}

// Rule 15: DebugInfo has the private text and the stack, where switched on.
func TestRule15DebugInfo(t *testing.T) {
	type allowed struct{}
	c := errors.NewConverter(errors.WithDebugInfo(func(ctx context.Context) bool { return ctx.Value(allowed{}) != nil }))
	err := errors.Internal(errors.New("disk full"))
	off, on := c.Status(t.Context(), err), c.Status(context.WithValue(t.Context(), allowed{}, true), err)
	if len(off.Details()) != 0 {
		t.Errorf("off: got details %v", off.Details())
	}
	info, ok := errors.Detail[*errdetails.DebugInfo](on.Err())
	if !ok || info.GetDetail() != "Internal: disk full" || len(info.GetStackEntries()) == 0 || !strings.Contains(info.GetStackEntries()[0], "TestRule15DebugInfo") {
		t.Errorf("on: got %v", info)
	}
	if s, _ := status.FromError(errors.Aborted("m").WithDetails(&errdetails.DebugInfo{Detail: "private"})); len(s.Details()) != 0 {
		t.Errorf("without a converter: got %v", s.Details())
	}
}

// The request id goes as RequestInfo, if asked for, and never in the place of
// the handler's.
func TestRequestInfo(t *testing.T) {
	id := "r-1"
	c := errors.NewConverter(errors.WithRequestInfo(func(context.Context) string { return id }))
	for name, err := range map[string]error{"typed": errors.NotFound("m"), "status": status.Error(codes.NotFound, "m"), "plain": errors.New("x"), "defined": errUserNotFound.With("id", 7)} {
		if got, _ := errors.Detail[*errdetails.RequestInfo](over(t, c, "Unary", err)); got.GetRequestId() != "r-1" {
			t.Errorf("%s: got %v, want r-1", name, got)
		}
	}
	own := errors.NotFound("m").WithDetails(&errdetails.RequestInfo{RequestId: "own"})
	if got, _ := errors.Detail[*errdetails.RequestInfo](over(t, c, "Unary", own)); got.GetRequestId() != "own" {
		t.Errorf("got %v, want own", got)
	}
	id = ""
	if got := c.Status(t.Context(), errors.NotFound("m")); len(got.Details()) != 0 {
		t.Errorf("empty id: got %v", got.Details())
	}
}
