package errors_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
)

var errDuplicate = errors.New("duplicate key")

// A constraintError is an own type of error that joins others.
type constraintError struct{ errs []error }

func (e *constraintError) Error() string   { return "constraint" }
func (e *constraintError) Unwrap() []error { return e.errs }

func ownMapper(err error) *errors.Error {
	if _, ok := errors.AsType[*constraintError](err); ok {
		return errors.FailedPrecondition("constraint")
	}
	switch {
	case errors.Is(err, errDuplicate):
		return errors.AlreadyExists("taken")
	case errors.Is(err, sql.ErrConnDone):
		return errUserNotFound.WithCause(errDuplicate)
	}
	return nil
}

// Rules 11 and 13: the order of classification, for plain errors as Convert
// takes them.
func TestRule13Classification(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "missing"))
	_, noSocket := net.Dial("unix", filepath.Join(t.TempDir(), "missing.sock"))
	_, noName := (&net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, syscall.ECONNREFUSED
	}}).LookupHost(t.Context(), "name.invalid")
	permission := &net.OpError{Op: "dial", Net: "unix", Err: &os.SyscallError{Syscall: "connect", Err: syscall.EACCES}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()

	tests := []struct {
		name string
		ctx  context.Context
		err  error
		want codes.Code
		text string
	}{
		{"explicit before mapper", nil, fmt.Errorf("%w", errors.Aborted("mine").WithCause(sql.ErrNoRows)), codes.Aborted, "mine"},
		{"explicit before context", late, errors.Aborted("mine"), codes.Aborted, "mine"},
		{"status before mapper", nil, fmt.Errorf("x: %w", status.Error(codes.Aborted, "mine")), codes.Aborted, "mine"},
		{"outermost", nil, errors.Wrap(errors.NotFound("inner"), errors.Aborted("outer")), codes.Aborted, "outer"},
		{"own mapper", nil, fmt.Errorf("x: %w", errDuplicate), codes.AlreadyExists, "taken"},
		{"mapper before context", late, errDuplicate, codes.AlreadyExists, "taken"},
		{"rule 11: deadline", nil, context.DeadlineExceeded, codes.DeadlineExceeded, "deadline exceeded"},
		{"rule 11: deadline, wrapped", nil, fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "deadline exceeded"},
		{"rule 11: cancel", nil, context.Canceled, codes.Canceled, "request cancelled"},
		{"rule 11: cancel, wrapped", nil, fmt.Errorf("x: %w", context.Canceled), codes.Canceled, "request cancelled"},
		{"no rows", nil, fmt.Errorf("x: %w", sql.ErrNoRows), codes.NotFound, "not found"},
		{"no file", nil, missing, codes.NotFound, "not found"},
		{"file exists", nil, &fs.PathError{Op: "mkdir", Path: "/secret", Err: fs.ErrExist}, codes.AlreadyExists, "already exists"},
		{"no permission", nil, &fs.PathError{Op: "open", Path: "/secret", Err: syscall.EACCES}, codes.Internal, "internal error"},
		{"unsupported", nil, fmt.Errorf("x: %w", errors.ErrUnsupported), codes.Unimplemented, "not implemented"},
		{"refused", nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, codes.Unavailable, "service unavailable"},
		{"reset", nil, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, codes.Unavailable, "service unavailable"},
		{"no socket is no missing file", nil, noSocket, codes.Unavailable, "service unavailable"},
		{"no permission to dial", nil, permission, codes.Internal, "internal error"},
		{"no name", nil, noName, codes.Unavailable, "service unavailable"},
		{"context done: cancel", cancelled, errors.New("x"), codes.Canceled, "request cancelled"},
		{"context done: deadline", late, errors.New("x"), codes.DeadlineExceeded, "deadline exceeded"},
		{"plain", nil, errors.New("x"), codes.Unknown, "unknown error"},
		{"end of file from a handler", nil, io.EOF, codes.Unknown, "unknown error"},

		{"join: explicit beats mapped", nil, errors.Join(context.DeadlineExceeded, errors.NotFound("mine")), codes.NotFound, "mine"},
		{"join: mapped beats plain", nil, errors.Join(errors.New("x"), sql.ErrNoRows), codes.NotFound, "not found"},
		{"join: most severe explicit", nil, errors.Join(errors.NotFound("a"), errors.Internal(nil), errors.Canceled("c")), codes.Internal, "internal error"},
		{"join: most severe mapped", nil, errors.Join(sql.ErrNoRows, syscall.ECONNREFUSED, errDuplicate), codes.Unavailable, "service unavailable"},
		{"join: own mapper in a branch", nil, errors.Join(sql.ErrNoRows, errDuplicate), codes.AlreadyExists, "taken"},
		{"join: deeper", nil, fmt.Errorf("x: %w", errors.Join(errors.New("y"), fmt.Errorf("%w and %w", errors.Aborted("z"), sql.ErrNoRows))), codes.Aborted, "z"},
		{"join: first of equals", nil, errors.Join(errors.NotFound("a"), errors.NotFound("b")), codes.NotFound, "a"},
		{"join: undefined codes are as severe as Unknown", nil, errors.Join(errors.NotFound("a"), errors.Coded(17, "b"), errors.Coded(18, "c"), errors.Unavailable("d")), 17, "b"},
		{"join: a type that joins", nil, &constraintError{[]error{syscall.ECONNREFUSED}}, codes.FailedPrecondition, "constraint"},
		{"join: plain", nil, errors.Join(errors.New("x"), errors.New("y")), codes.Unknown, "unknown error"},
	}
	c := errors.NewConverter(errors.WithMapper(nil), errors.WithMapper(ownMapper))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			e := c.Convert(ctx, test.err)
			if e.Code() != test.want || e.Message() != test.text {
				t.Errorf("got %v %q, want %v %q", e.Code(), e.Message(), test.want, test.text)
			}
			if !errors.Is(e, test.err) {
				t.Errorf("the error that was returned is not beneath: %v", e)
			}
			if again := c.Convert(ctx, e); again != e {
				t.Errorf("Convert is not idempotent: got %#v, want %#v", again, e)
			}
			if diff := cmp.Diff(c.Status(ctx, test.err).Proto(), c.Status(ctx, e).Proto(), protocmp.Transform()); diff != "" {
				t.Errorf("Status of the error, and of what Convert made of it: -want +got:\n%s", diff)
			}
		})
	}
}

// A mapper's sentinel stays what it is, and the cause a mapper set stays, too.
func TestMapperKeepsIdentityAndCause(t *testing.T) {
	e := errors.NewConverter(errors.WithMapper(ownMapper)).Convert(t.Context(), sql.ErrConnDone)
	if !errors.Is(e, errUserNotFound) || !errors.Is(e, errDuplicate) || !errors.Is(e, sql.ErrConnDone) {
		t.Errorf("got %v, want the mapper's error with its cause and the error it is of", e)
	}
}

// The private text of what was converted says everything, and nothing twice.
func TestConvertedText(t *testing.T) {
	for _, test := range []struct {
		name   string
		mapper errors.Mapper
		err    error
		want   string
	}{
		{"plain", nil, errors.New("x"), "Unknown: x"},
		{"status", nil, status.Error(codes.Aborted, "lost"), "rpc error: code = Aborted desc = lost"},
		{"status, wrapped", nil, fmt.Errorf("x: %w", status.Error(codes.Aborted, "lost")), "x: rpc error: code = Aborted desc = lost"},
		{"mapped", func(error) *errors.Error { return errors.AlreadyExists("taken") }, errors.New("x"), "AlreadyExists: taken: x"},
		{"mapped, wrapping it", func(err error) *errors.Error { return errors.Internal(fmt.Errorf("mapped: %w", err)) }, errors.New("x"), "Internal: mapped: x"},
		{"mapped, with what it wraps", func(error) *errors.Error { return errors.NotFound("gone").WithCause(io.EOF) }, fmt.Errorf("x: %w", io.EOF), "NotFound: gone: x: EOF"},
		{"mapped, with another cause", func(error) *errors.Error { return errors.NotFound("gone").WithCause(io.EOF) }, errors.New("x"), "NotFound: gone: EOF: x"},
	} {
		if got := errors.NewConverter(errors.WithMapper(test.mapper)).Convert(t.Context(), test.err).Error(); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Own mappers are asked in the order they are given, before the default ones.
func TestMapperOrder(t *testing.T) {
	says := func(text string, known ...error) errors.Option {
		return errors.WithMapper(func(err error) *errors.Error {
			for _, k := range known {
				if errors.Is(err, k) {
					return errors.Aborted("%s", text)
				}
			}
			return nil
		})
	}
	c := errors.NewConverter(says("first", sql.ErrNoRows), says("second", sql.ErrNoRows, fs.ErrExist))
	for err, want := range map[error]string{sql.ErrNoRows: "first", fs.ErrExist: "second", fs.ErrNotExist: "not found"} {
		if got := c.Convert(t.Context(), err).Message(); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

func TestWithoutDefaultMappers(t *testing.T) {
	c := errors.NewConverter(errors.WithoutDefaultMappers(), errors.WithMapper(ownMapper))
	if got := c.Convert(t.Context(), sql.ErrNoRows).Code(); got != codes.Unknown {
		t.Errorf("got %v, want Unknown", got)
	}
	if got := c.Convert(t.Context(), errDuplicate).Code(); got != codes.AlreadyExists {
		t.Errorf("own mapper: got %v, want AlreadyExists", got)
	}
}

// A mapper that asserts the type of one error sees the branches of a join.
func TestMapperSeesBranches(t *testing.T) {
	c := errors.NewConverter(errors.WithMapper(func(err error) *errors.Error {
		if err == errDuplicate { //nolint:errorlint // What this test is about.
			return errors.AlreadyExists("taken")
		}
		return nil
	}))
	if got := c.Convert(t.Context(), errors.Join(errors.New("x"), errDuplicate)).Code(); got != codes.AlreadyExists {
		t.Errorf("got %v, want AlreadyExists", got)
	}
}

// Rule 13: branches with the same code put their field violations together.
func TestRule13JoinMergesFields(t *testing.T) {
	status4, err := status.New(codes.InvalidArgument, "s").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "s"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := errors.InvalidArgument("bad request").WithField("a", "A", "")
	got := errors.NewConverter().Convert(t.Context(), fmt.Errorf("check: %w", errors.Join(
		a,
		errors.InvalidArgument("b").WithField("b", "B", "").WithField("a", "A", ""),
		errors.Canceled("c").WithField("c", "C", ""),
		status4.Err(),
	)))
	want := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "a", Reason: "A"}, {Field: "b", Reason: "B"}, {Field: "s"},
	}}
	bad, _ := errors.Detail[*errdetails.BadRequest](got)
	if diff := cmp.Diff(want, bad, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Message() != "bad request" {
		t.Errorf("got message %q, want the first's", got.Message())
	}
	if bad, _ := errors.Detail[*errdetails.BadRequest](a); len(bad.GetFieldViolations()) != 1 {
		t.Errorf("the joined error was changed: %v", bad)
	}
}

// A statusError is an error of somebody else's with a status.
type statusError struct{ s *status.Status }

func (e statusError) Error() string              { return "private" }
func (e statusError) GRPCStatus() *status.Status { return e.s }

// An asError becomes an *Error when asked by errors.As only.
type asError struct{ e *errors.Error }

func (asError) Error() string { return "private" }

func (a asError) As(target any) bool {
	if p, ok := target.(**errors.Error); ok {
		*p = a.e
		return true
	}
	return false
}

// Rule 16: what denies that it is an error is Unknown; codes above 16 keep
// their number; nil in, nil out.
func TestRule16Oddities(t *testing.T) {
	for name, err := range map[string]error{
		"nil status":          statusError{},
		"OK status":           statusError{status.New(codes.OK, "fine")},
		"nil *Error":          (*errors.Error)(nil),
		"nil *Error, wrapped": fmt.Errorf("x: %w", (*errors.Error)(nil)),
		"nil status, wrapped": fmt.Errorf("x: %w", statusError{}),
		"code OK":             errors.Coded(codes.OK, "").WithCause(sql.ErrNoRows),
	} {
		for _, kind := range kinds {
			s := status.Convert(over(t, errors.NewConverter(), kind, err))
			if s.Code() != codes.Unknown || s.Message() != "unknown error" {
				t.Errorf("%s, %s: got %v %q, want Unknown, its default text", name, kind, s.Code(), s.Message())
			}
		}
	}
	if got := errors.Code(errors.Join(statusError{}, errors.NotFound("x"))); got != codes.NotFound {
		t.Errorf("joined with a nil status: got %v, want NotFound", got)
	}
	if got := errors.Code(fmt.Errorf("x: %w", asError{errors.NotFound("x")})); got != codes.NotFound {
		t.Errorf("an error that As makes an *Error: got %v, want NotFound", got)
	}

	for _, err := range []error{errors.Coded(99, ""), status.Error(99, "odd")} {
		got := over(t, errors.NewConverter(), "Unary", err)
		if errors.Code(got) != 99 || status.Code(got) != 99 {
			t.Errorf("code 99: got %v, %v", errors.Code(got), status.Code(got))
		}
	}

	c := errors.NewConverter()
	if e, s, err := c.Convert(t.Context(), nil), c.Status(t.Context(), nil), c.FromRPC(t.Context(), nil); e != nil || s != nil || err != nil {
		t.Errorf("nil: got %v, %v, %v", e, s, err)
	}
	if errors.Wrap(nil, errUserNotFound) != nil || errors.Forward(nil) != nil || errors.Code(nil) != codes.OK || errors.Message(nil) != "" {
		t.Error("nil is not nil")
	}
	if domain, reason := errors.Reason(nil); domain != "" || reason != "" {
		t.Errorf("Reason(nil): got %q, %q", domain, reason)
	}
	if _, ok := errors.RetryAfter(nil); ok {
		t.Error("RetryAfter(nil): got true")
	}
	if _, ok := errors.Detail[*errdetails.Help](nil); ok {
		t.Error("Detail(nil): got true")
	}
}

// Rule 16: the end of a stream is not an error.
func TestRule16EOFUntouched(t *testing.T) {
	if got := errors.NewConverter().FromRPC(t.Context(), io.EOF); got != io.EOF {
		t.Errorf("got %v, want io.EOF itself", got)
	}
	for _, kind := range kinds {
		if err := over(t, errors.NewConverter(), kind, nil); err != nil {
			t.Errorf("%s: got %v, want nil", kind, err)
		}
	}
}

// All methods of a nil *Error can be called, and a nil Converter is one without
// options.
func TestNilIsSafe(t *testing.T) {
	var e *errors.Error
	for name, copied := range map[string]*errors.Error{
		"With": e.With("k", "v"), "WithReason": e.WithReason("d", "R"), "WithMessage": e.WithMessage("m"), "WithCause": e.WithCause(io.EOF),
		"WithField": e.WithField("f", "R", "d"), "WithRetry": e.WithRetry(1), "WithDetails": e.WithDetails(&errdetails.Help{}), "WithStack": e.WithStack(),
	} {
		if copied != nil {
			t.Errorf("%s: got %v, want nil", name, copied)
		}
	}
	if e.Code() != codes.OK || e.Domain()+e.Reason()+e.Message()+e.Stack() != "" || e.Metadata() != nil || e.Details() != nil ||
		e.Remote() || e.Unwrap() != nil || e.Is(io.EOF) || e.GRPCStatus() != nil || e.Error() != "<nil>" || e.LogValue().String() != "<nil>" {
		t.Error("a nil *Error does not read as none")
	}
	if got := fmt.Sprintf("%+v", e); got != "<nil>" {
		t.Errorf("%%+v: got %q", got)
	}
	var c *errors.Converter
	if got := c.Convert(t.Context(), sql.ErrNoRows).Code(); got != codes.NotFound {
		t.Errorf("nil Converter: got %v, want NotFound", got)
	}
	if got := c.Status(t.Context(), sql.ErrNoRows).Code(); got != codes.NotFound {
		t.Errorf("nil Converter: got %v, want NotFound", got)
	}
	if got := errors.Code(c.FromRPC(t.Context(), status.Error(codes.Aborted, ""))); got != codes.Aborted {
		t.Errorf("nil Converter: got %v, want Aborted", got)
	}
	if err := errors.Wrap(io.EOF, nil); err != io.EOF {
		t.Errorf("Wrap as nil: got %v, want the error itself", err)
	}
}
