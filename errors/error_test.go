package errors_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Every constructor makes the code it is named after.
func TestConstructors(t *testing.T) {
	for want, constructor := range map[codes.Code]func(string, ...any) *errors.Error{
		codes.Canceled: errors.Canceled, codes.InvalidArgument: errors.InvalidArgument, codes.DeadlineExceeded: errors.DeadlineExceeded,
		codes.NotFound: errors.NotFound, codes.AlreadyExists: errors.AlreadyExists, codes.PermissionDenied: errors.PermissionDenied,
		codes.ResourceExhausted: errors.ResourceExhausted, codes.FailedPrecondition: errors.FailedPrecondition, codes.Aborted: errors.Aborted,
		codes.OutOfRange: errors.OutOfRange, codes.Unimplemented: errors.Unimplemented, codes.Unavailable: errors.Unavailable,
		codes.Unauthenticated: errors.Unauthenticated,
	} {
		e := constructor("user %d, 100%%", 7)
		if e.Code() != want || e.Message() != "user 7, 100%" {
			t.Errorf("got %v %q, want %v", e.Code(), e.Message(), want)
		}
		if empty := constructor(""); empty.Message() == "" || empty.Message() == "unknown error" {
			t.Errorf("%v: got default text %q", want, empty.Message())
		}
	}
	for want, constructor := range map[codes.Code]func(error) *errors.Error{
		codes.Internal: errors.Internal, codes.Unknown: errors.Unknown, codes.DataLoss: errors.DataLoss,
	} {
		for _, cause := range []error{nil, io.ErrUnexpectedEOF} {
			if e := constructor(cause); e.Code() != want || e.Unwrap() != cause { //nolint:errorlint // It must be the very error.
				t.Errorf("got %v caused by %v, want %v by %v", e.Code(), e.Unwrap(), want, cause)
			}
		}
	}
}

// What strangers are told when nobody said anything better, by code.
func TestDefaultTexts(t *testing.T) {
	want := []string{
		"request cancelled", "unknown error", "invalid argument", "deadline exceeded", "not found", "already exists", "permission denied",
		"resource exhausted", "failed precondition", "aborted", "out of range", "not implemented", "internal error", "service unavailable",
		"data loss", "unauthenticated",
	}
	for i, want := range append(want, "unknown error") {
		code := codes.Code(i + 1)
		for name, e := range map[string]*errors.Error{
			"Coded": errors.Coded(code, ""), "Define": errors.Define(code, "d", "R", ""), "WithMessage": errors.Coded(code, "x").WithMessage(""),
		} {
			if e.Code() != code || e.Message() != want {
				t.Errorf("%s of %v: got %v %q, want %q", name, code, e.Code(), e.Message(), want)
			}
		}
	}
	for code, e := range map[codes.Code]*errors.Error{codes.Internal: errors.Internal(io.EOF), codes.Unknown: errors.Unknown(io.EOF), codes.DataLoss: errors.DataLoss(io.EOF)} {
		if e.Message() != want[code-1] {
			t.Errorf("%v: got %q, want %q", code, e.Message(), want[code-1])
		}
	}
}

func TestDefinePanicsOnOK(t *testing.T) {
	defer func() {
		want := `errors: Define of "R" in domain "d": code is OK, want a code that is an error`
		if got := recover(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}()
	_ = errors.Define(codes.OK, "d", "R", "")
}

// What is passed on as arguments stays the caller's.
func TestArgumentsAreKept(t *testing.T) {
	args := []any{7, io.EOF}
	if e := errors.NotFound("user %d: %w", args...); e.Message() != "user 7" || args[1] != io.EOF {
		t.Errorf("got %q, arguments %v", e.Message(), args)
	}
}

func TestPlaceholders(t *testing.T) {
	for _, test := range []struct {
		template string
		values   map[string]string
		want     string
	}{
		{"user {id}", map[string]string{"id": "7"}, "user 7"},
		{"user {id}", nil, "user {id}"},
		{"user {id}", map[string]string{"other": "7"}, "user {id}"},
		{"{a}{b}{a}", map[string]string{"a": "{b}", "b": "1"}, "{b}1{b}"},
		{"{ {a} {", map[string]string{"a": "1"}, "{ 1 {"},
		{"{{a}}", map[string]string{"a": "1"}, "{1}"},
		{"", map[string]string{"a": "1"}, "not found"},
	} {
		e := errors.Define(codes.NotFound, "d", "R", test.template)
		for key, value := range test.values {
			e = e.With(key, value)
		}
		if got := e.Message(); got != test.want {
			t.Errorf("%q with %v: got %q, want %q", test.template, test.values, got, test.want)
		}
	}
	if got := errors.NotFound("%s", "{id}").With("id", 7).Message(); got != "{id}" {
		t.Errorf("a formatted text was filled: %q", got)
	}
	if got := errors.NotFound("x").WithMessage("user {id}").With("id", 7).Message(); got != "user 7" {
		t.Errorf("WithMessage: got %q", got)
	}
	if got := errors.NotFound("x").WithMessage("").Message(); got != "not found" {
		t.Errorf("WithMessage of none: got %q", got)
	}
}

// Copy on write: whatever is made of an error, it stays as it was.
func TestCopyOnWrite(t *testing.T) {
	base := errUserNotFound.With("id", 1).WithField("a", "A", "").WithDetails(&errdetails.Help{}).WithRetry(time.Second)
	before := fmt.Sprint(base.GRPCStatus().Proto())
	for _, e := range []*errors.Error{
		base.With("id", 2), base.With("k", "v"), base.WithReason("d", "R"), base.WithMessage("m"), base.WithCause(io.EOF), base.WithField("b", "B", ""),
		base.WithField("c", "C", ""), base.WithRetry(time.Minute), base.WithDetails(&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "u"}}}),
		base.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "d"}}}), base.WithDetails(structpb.NewNullValue()),
	} {
		if e == base {
			t.Error("a method returned what it was called on")
		}
	}
	base.Metadata()["id"] = "3"
	base.Details()[0].(*errdetails.ErrorInfo).Reason = "CHANGED"
	proto.Reset(base.Details()[2])
	bad, _ := errors.Detail[*errdetails.BadRequest](base)
	proto.Reset(bad)
	if after := fmt.Sprint(base.GRPCStatus().Proto()); after != before {
		t.Errorf("got\n%s, want\n%s", after, before)
	}
	fields := func(e *errors.Error) (names []string) {
		bad, _ := errors.Detail[*errdetails.BadRequest](e)
		for _, f := range bad.GetFieldViolations() {
			names = append(names, f.GetField())
		}
		return names
	}
	base = base.WithField("b", "", "").WithField("c", "", "") // an append makes room for a fourth
	left, right := base.WithField("left", "", ""), base.WithField("right", "", "")
	if diff := cmp.Diff([][]string{{"a", "b", "c", "left"}, {"a", "b", "c", "right"}}, [][]string{fields(left), fields(right)}); diff != "" {
		t.Errorf("two copies share memory: -want +got:\n%s", diff)
	}
}

func TestErrorConcurrentSafe(t *testing.T) {
	c := errors.NewConverter()
	received := remote(t, errUserNotFound.With("id", 7).WithField("a", "A", ""))
	shared := errUserNotFound.With("id", 1).WithField("a", "A", "").WithDetails(&errdetails.Help{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, err := range []error{shared, received, errors.Join(shared, received)} {
				c.Status(t.Context(), err)
				e := c.Convert(t.Context(), err)
				_ = e.With("k", "v").WithField("b", "B", "").Error() + e.Message() + e.Stack()
				e.Details()
			}
		})
	}
	wg.Wait()
}

// What is the same: by identity, or by origin where there is none.
func TestIs(t *testing.T) {
	plain := errors.NotFound("gone")
	for _, test := range []struct {
		name        string
		err, target error
		want        bool
	}{
		{"copy of a defined error", errUserNotFound.With("id", 7), errUserNotFound, true},
		{"defined again", errUserNotFound, errors.Define(codes.Aborted, "users.example.com", "USER_NOT_FOUND", "x"), true},
		{"another reason", errUserNotFound, errors.Define(codes.NotFound, "users.example.com", "OTHER", ""), false},
		{"another domain", errUserNotFound, errors.Define(codes.NotFound, "other", "USER_NOT_FOUND", ""), false},
		{"any domain", errUserNotFound, errors.Define(codes.NotFound, "", "USER_NOT_FOUND", ""), true},
		{"no domain is not any", errors.Define(codes.NotFound, "", "USER_NOT_FOUND", ""), errUserNotFound, false},
		{"given another reason", errUserNotFound.WithReason("d", "R"), errUserNotFound, false},
		{"copy without identity", plain.With("k", "v").WithCause(io.EOF), plain, true},
		{"original of a copy", plain, plain.WithCause(io.EOF), true},
		{"equal without identity", errors.NotFound("gone"), plain, false},
		{"wrapped as", errors.Wrap(io.EOF, plain), plain, true},
		{"cause", errors.Wrap(io.EOF, errUserNotFound), io.EOF, true},
		{"nil target", errUserNotFound, (*errors.Error)(nil), false},
	} {
		if got := errors.Is(test.err, test.target); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestFormat(t *testing.T) {
	inner := errors.New("row missing")
	e := errUserNotFound.With("id", 7).WithCause(fmt.Errorf("load: %w", errors.Join(inner, io.EOF)))
	const line = "NotFound: user 7 does not exist: load: row missing\nEOF"
	for format, want := range map[string]string{
		"%v": line, "%s": line, "%q": fmt.Sprintf("%q", line),
		"%+v": line + "\n  *fmt.wrapError: load: row missing\nEOF\n    *errors.joinError: row missing\nEOF" +
			"\n      *errors.errorString: row missing\n      *errors.errorString: EOF",
	} {
		if got := fmt.Sprintf(format, e); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", format, got, want)
		}
	}
	withStack := fmt.Sprintf("%+v", errors.Internal(inner))
	if !strings.HasPrefix(withStack, "Internal: row missing\n  *errors.errorString: row missing\n\n") || !strings.Contains(withStack, "TestFormat(...)\n\t") {
		t.Errorf("got %s", withStack)
	}
	for e, want := range map[*errors.Error]string{
		errors.NotFound("gone"):                            "NotFound: gone",
		errors.NotFound("gone").WithCause(inner):           "NotFound: gone: row missing",
		errors.Internal(inner):                             "Internal: row missing",
		errors.Internal(nil):                               "Internal: internal error",
		errors.Internal(inner).WithMessage("out of order"): "Internal: out of order: row missing",
		errors.InvalidArgument("").WithField("a", "EMPTY", "").WithField("b", "B", "is odd").WithCause(io.EOF): "InvalidArgument: a EMPTY; b is odd: EOF",
		errors.NotFound("gone").WithCause((*fs.PathError)(nil)):                                                "NotFound: gone: <nil>", // whose Error method panics
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLogValue(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key != "err" {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("", "err", errUserNotFound.With("id", 7).WithRetry(time.Second).WithCause(io.EOF))
	log.Info("", "err", errors.InvalidArgument("bad").WithField("a", "EMPTY", "").WithField("b", "B", "is odd"))
	log.Info("", "err", remote(t, errors.NotFound("gone")))
	want := `{"err":{"code":"NotFound","message":"user 7 does not exist","domain":"users.example.com","reason":"USER_NOT_FOUND","metadata":{"id":"7"},"retry_after":1000000000,"cause":"EOF"}}
{"err":{"code":"InvalidArgument","message":"bad","fields":["a EMPTY","b is odd"]}}
{"err":{"code":"NotFound","message":"gone","remote":true,"cause":"rpc error: code = NotFound desc = gone"}}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Rule 29: credentials show nowhere.
func TestRule29Secrets(t *testing.T) {
	const secret = "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG_HACGpVUMN_a9IV7pAx_Zmeo"
	for _, text := range []string{
		"verify Bearer " + secret + ": expired",
		"header authorization: Bearer " + secret,
		"header Authorization: " + secret,
		`map[authorization:[Bearer ` + secret + `]]`,
		`{"authorization": "Basic ` + secret + `"}`,
		"cookie: session=" + secret + "; theme=dark",
		"Set-Cookie: s=" + secret,
		"bearer s3cr3t-" + secret,
	} {
		e := errors.Unauthenticated("%s", text).With("k", text).With("authorization", secret).With("Cookie", secret).
			WithField("f", "F", text).WithCause(errors.New(text))
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Error("", "err", e)
		s := errors.NewConverter().Status(t.Context(), fmt.Errorf("%s: %w", text, e))
		received := errors.NewConverter().FromRPC(t.Context(), status.Error(codes.Unauthenticated, text))
		for where, got := range map[string]string{
			"Error": e.Error(), "%+v": fmt.Sprintf("%+v", e), "Message": e.Message(), "log": log.String(), "status": s.Proto().String(),
			"GRPCStatus": e.GRPCStatus().Proto().String(), "received": received.Error() + errors.Message(received) + status.Convert(received).Message(),
		} {
			if strings.Contains(got, secret[:20]) || !strings.Contains(got, "[redacted]") {
				t.Errorf("%s of %q: got %q", where, text, got)
			}
		}
	}
	for _, text := range []string{"bearer abcdefghijklmnop", "bearer abc123"} {
		if got := errors.Unauthenticated("%s", text).Message(); got != "bearer [redacted]" {
			t.Errorf("a short credential, %q: got %q", text, got)
		}
	}
	for _, text := range []string{
		"Bearer token expired", "bearer token.", "authorization: missing", "authorization: role admin is missing", "no cookie: none was sent",
		"basic authentication required", "unauthorized", "Authorization header is missing",
	} {
		if got := errors.Unauthenticated("%s", text).Message(); got != text {
			t.Errorf("got %q, want %q untouched", got, text)
		}
	}
}

// Of a value that is an error only the public text is taken.
func TestWithValues(t *testing.T) {
	e := errors.NotFound("x").With("int", 7).With("string", "s").With("error", errors.Internal(errors.New("private"))).
		With("plain", io.EOF).With("duration", time.Second).With("nil", nil)
	want := map[string]string{"int": "7", "string": "s", "error": "internal error", "plain": "unknown error", "duration": "1s", "nil": "<nil>"}
	if diff := cmp.Diff(want, e.Metadata()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := errors.NotFound("x").Metadata(); got != nil {
		t.Errorf("got %v, want nil", got)
	}
}

func TestHTTPStatus(t *testing.T) {
	want := map[codes.Code]int{
		codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504, codes.NotFound: 404,
		codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.FailedPrecondition: 400, codes.Aborted: 409,
		codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500, codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
		17: 500, 1<<32 - 1: 500,
	}
	for code, status := range want {
		if got := errors.HTTPStatus(code); got != status {
			t.Errorf("%v: got %d, want %d", code, got, status)
		}
	}
}

// A detail of a type that is not in the program's registry, or is none.
func TestDetailOdd(t *testing.T) {
	e := errors.NotFound("x").WithDetails(&errdetails.Help{})
	if _, ok := errors.Detail[proto.Message](e); ok {
		t.Error("Detail[proto.Message]: got one, want none: it names no type")
	}
	if _, ok := errors.Detail[*errdetails.LocalizedMessage](e); ok {
		t.Error("got a detail that is not there")
	}
}
