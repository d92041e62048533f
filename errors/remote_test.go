package errors_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

// remote is an error as a call to another service gives it.
func remote(tb testing.TB, sent error) error {
	tb.Helper()
	err := over(tb, errors.NewConverter(), "Unary", sent)
	if e, ok := errors.AsType[*errors.Error](err); !ok || !e.Remote() {
		tb.Fatalf("got %v, want a remote error", err)
	}
	return err
}

// Rule 17: a dependency's error is not the caller's.
func TestRule17Translate(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		code  codes.Code
		want  codes.Code
		text  string
		retry bool
	}{
		{"", nil, codes.Canceled, codes.Internal, "internal error", false},
		{"our caller cancelled", cancelled, codes.Canceled, codes.Canceled, "request cancelled", false},
		{"our caller's deadline passed", late, codes.Canceled, codes.DeadlineExceeded, "deadline exceeded", false},
		{"our caller cancelled", cancelled, codes.NotFound, codes.Internal, "internal error", false},
		{"", nil, codes.Unknown, codes.Internal, "internal error", false},
		{"", nil, codes.InvalidArgument, codes.Internal, "internal error", false},
		{"", nil, codes.DeadlineExceeded, codes.DeadlineExceeded, "deadline exceeded", false},
		{"", nil, codes.NotFound, codes.Internal, "internal error", false},
		{"", nil, codes.AlreadyExists, codes.Internal, "internal error", false},
		{"", nil, codes.PermissionDenied, codes.Internal, "internal error", false},
		{"", nil, codes.ResourceExhausted, codes.Unavailable, "service unavailable", true},
		{"", nil, codes.FailedPrecondition, codes.Internal, "internal error", false},
		{"", nil, codes.Aborted, codes.Internal, "internal error", false},
		{"", nil, codes.OutOfRange, codes.Internal, "internal error", false},
		{"", nil, codes.Unimplemented, codes.Internal, "internal error", false},
		{"", nil, codes.Internal, codes.Internal, "internal error", false},
		{"", nil, codes.Unavailable, codes.Unavailable, "service unavailable", true},
		{"", nil, codes.DataLoss, codes.Internal, "internal error", false},
		{"", nil, codes.Unauthenticated, codes.Internal, "internal error", false},
		{"", nil, 99, codes.Internal, "internal error", false},
	}
	for _, test := range tests {
		t.Run(test.code.String()+" "+test.name, func(t *testing.T) {
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			sent := errors.Coded(test.code, "their text").WithReason("them", "THEIRS").WithRetry(time.Second).WithDetails(&errdetails.Help{})
			err := fmt.Errorf("ask them: %w", remote(t, sent))
			c := errors.NewConverter()
			got := c.Convert(ctx, err)
			domain, reason := got.Domain(), got.Reason()
			if got.Code() != test.want || got.Message() != test.text || domain != "" || reason != "" {
				t.Errorf("got %v %q (%q, %q), want %v %q", got.Code(), got.Message(), domain, reason, test.want, test.text)
			}
			wantDetails := 0
			if test.retry {
				wantDetails = 1
			}
			if d, ok := errors.RetryAfter(got); ok != test.retry || ok && d != time.Second || len(got.Details()) != wantDetails {
				t.Errorf("retry after %v, %v, details %v; want %v alone", d, ok, got.Details(), test.retry)
			}
			if !errors.Is(got, sent) {
				t.Errorf("the dependency's error is not the cause of %v", got)
			}
			if got.Remote() || c.Convert(ctx, got) != got {
				t.Errorf("what was translated is not this service's own: %+v", got)
			}
		})
	}
	unavailable := errors.NewConverter().Convert(t.Context(), remote(t, errors.Unavailable("")))
	if _, ok := errors.RetryAfter(unavailable); ok {
		t.Error("a retry delay that nobody gave")
	}
}

// Rule 17: Forward and Pass let an error through, all of it.
func TestRule17ForwardAndPass(t *testing.T) {
	sent := errUserNotFound.With("id", 7).WithDetails(&errdetails.Help{})
	err := remote(t, sent)
	pass := errors.NewConverter(errors.WithRemotePolicy(errors.Pass))
	for name, test := range map[string]struct {
		c   *errors.Converter
		err error
	}{
		"Forward":                {errors.NewConverter(), errors.Forward(err)},
		"Forward, wrapped":       {errors.NewConverter(), fmt.Errorf("private: %w", errors.Forward(err))},
		"Forward of wrapped":     {errors.NewConverter(), errors.Forward(fmt.Errorf("private: %w", err))},
		"Forward twice":          {errors.NewConverter(), errors.Forward(errors.Forward(err))},
		"Pass":                   {pass, err},
		"Pass, wrapped":          {pass, fmt.Errorf("private: %w", err)},
		"Pass of what it passed": {pass, pass.Convert(t.Context(), err)},
	} {
		got := over(t, test.c, "Unary", test.err)
		if diff := cmp.Diff(status.Convert(err).Proto(), status.Convert(got).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if !errors.Is(got, errUserNotFound) {
			t.Errorf("%s: is another error now: %v", name, got)
		}
	}
	if got := errors.NewConverter().Convert(t.Context(), err); got.Code() != codes.Internal {
		t.Errorf("passed by one converter, the error is %v for another, want Internal", got.Code())
	}
	wrapped := fmt.Errorf("private: %w", err)
	if got := errors.Forward(wrapped); !errors.Is(got, wrapped) || got.Error() != wrapped.Error() {
		t.Errorf("Forward of wrapped: got %v, want what it wraps beneath", got)
	}
	local := errors.NotFound("mine")
	if got := errors.Forward(local); got != error(local) { //nolint:errorlint // It must be the very error.
		t.Errorf("Forward of a local error: got %v, want it", got)
	}
}

// Rules 13 and 17: the handler's own word beats what another service said.
func TestRule17OwnErrorOverRemote(t *testing.T) {
	theirs := remote(t, errors.Internal(nil))
	for name, err := range map[string]error{
		"Wrap":          errors.Wrap(theirs, errUserNotFound),
		"WithCause":     errUserNotFound.WithCause(theirs),
		"two verbs %w":  fmt.Errorf("%w: %w", errUserNotFound, theirs),
		"two, reversed": fmt.Errorf("%w: %w", theirs, errUserNotFound),
	} {
		if got := errors.NewConverter().Convert(t.Context(), err); got.Code() != codes.NotFound {
			t.Errorf("%s: got %v, want NotFound", name, got.Code())
		}
	}
}

// A policy of one's own; nil is Translate.
func TestRemotePolicy(t *testing.T) {
	errTheirs := errors.Define(codes.FailedPrecondition, "d", "THEIRS", "they refused")
	policy := func(_ context.Context, remote *errors.Error) *errors.Error {
		switch remote.Code() {
		case codes.NotFound:
			return errTheirs
		case codes.Aborted:
			return remote.WithMessage("they lost")
		}
		return nil
	}
	c := errors.NewConverter(errors.WithRemotePolicy(policy))
	for code, want := range map[codes.Code]codes.Code{
		codes.NotFound: codes.FailedPrecondition, codes.Aborted: codes.Aborted, codes.Unavailable: codes.Unavailable, codes.OutOfRange: codes.Internal,
	} {
		err := remote(t, errors.Coded(code, "x"))
		got := c.Convert(t.Context(), err)
		if got.Code() != want || !errors.Is(got, err) {
			t.Errorf("%v: got %v, want %v caused by the remote error", code, got, want)
		}
		if again := c.Convert(t.Context(), got); again != got {
			t.Errorf("%v: Convert is not idempotent: got %v, want %v", code, again, got)
		}
	}
	if errTheirs.Unwrap() != nil {
		t.Error("the sentinel was changed")
	}
}

// FromRPC's other cases: what the caller of a call can get that is no status
// from a server.
func TestFromRPC(t *testing.T) {
	c := errors.NewConverter()
	t.Run("plain errors", func(t *testing.T) {
		plain := errors.New("no token")
		if got := c.FromRPC(t.Context(), plain); got != plain { //nolint:errorlint // It must be the very error.
			t.Errorf("got %v, want it untouched", got)
		}
	})
	t.Run("typed errors", func(t *testing.T) {
		typed := fmt.Errorf("breaker: %w", errors.Unavailable("open"))
		if got := c.FromRPC(t.Context(), typed); got != typed { //nolint:errorlint // It must be the very error.
			t.Errorf("got %v, want it untouched", got)
		}
	})
	t.Run("wrapped status", func(t *testing.T) {
		err := fmt.Errorf("attempt 3: %w", status.Error(codes.NotFound, "user 7"))
		got := c.FromRPC(t.Context(), err)
		if s, ok := status.FromError(got); !ok || s.Code() != codes.NotFound || s.Message() != "user 7" {
			t.Errorf("got %v", s)
		}
		if got.Error() != err.Error() || !errors.Is(got, err) {
			t.Errorf("got %q, want the text of what it wraps", got)
		}
	})
	t.Run("field violations", func(t *testing.T) {
		sent := c.Status(t.Context(), errors.InvalidArgument("bad request").WithField("id", "ZERO", "must not be 0").WithField("name", "EMPTY", ""))
		got := c.FromRPC(t.Context(), sent.Err())
		const want = "rpc error: code = InvalidArgument desc = bad request: id must not be 0; name EMPTY"
		if got.Error() != want || fmt.Sprint(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
		// Once, however often it is read, wrapped or joined with others.
		again := c.Convert(t.Context(), errors.Forward(fmt.Errorf("front: %w", got)))
		if text := again.Error(); text != "front: "+want {
			t.Errorf("read again: got %q, want %q", text, "front: "+want)
		}
		other := errors.InvalidArgument("bad request").WithField("age", "NEGATIVE", "must not be negative")
		joined := c.Convert(t.Context(), errors.Join(errors.Forward(got), other)).Error()
		for _, violation := range []string{"id must not be 0", "name EMPTY", "age must not be negative"} {
			if strings.Count(joined, violation) != 1 {
				t.Errorf("joined: %q does not have %q once", joined, violation)
			}
		}
	})
	t.Run("negative retry delay", func(t *testing.T) {
		s, err := status.New(codes.Unavailable, "m").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(-time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := errors.RetryAfter(c.FromRPC(t.Context(), s.Err())); d != 0 || !ok {
			t.Errorf("got %v, %v, want 0, true", d, ok)
		}
	})
	t.Run("status that is OK", func(t *testing.T) {
		if got := c.FromRPC(t.Context(), statusError{}); errors.Code(got) != codes.Unknown {
			t.Errorf("got %v, want Unknown", errors.Code(got))
		}
	})
	t.Run("context errors", func(t *testing.T) {
		for err, want := range map[error]codes.Code{context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded} {
			got := c.FromRPC(t.Context(), fmt.Errorf("x: %w", err))
			e, _ := errors.AsType[*errors.Error](got)
			if e.Code() != want || !e.Remote() || status.Code(got) != want || !errors.Is(got, err) {
				t.Errorf("%v: got %v, remote %v", err, got, e.Remote())
			}
		}
	})
	t.Run("own deadline", func(t *testing.T) {
		conn := serve(t, c, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		for _, kind := range kinds {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			got := c.FromRPC(ctx, call(ctx, conn, kind))
			cancel()
			if errors.Code(got) != codes.DeadlineExceeded || !errors.Is(got, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want context.DeadlineExceeded", kind, got)
			}
		}
	})
	t.Run("own deadline, before the timer has run", func(t *testing.T) {
		got := c.FromRPC(pastDeadline{t.Context()}, status.Error(codes.DeadlineExceeded, "stream terminated"))
		if !errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", got)
		}
	})
	t.Run("their deadline", func(t *testing.T) {
		got := over(t, c, "Unary", context.DeadlineExceeded)
		if errors.Code(got) != codes.DeadlineExceeded || errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("got %v; the caller's own context is not done", got)
		}
	})
}

// A pastDeadline is a context whose deadline has passed and whose timer has not
// run yet.
type pastDeadline struct{ context.Context }

func (pastDeadline) Deadline() (time.Time, bool) { return time.Unix(0, 0), true }
