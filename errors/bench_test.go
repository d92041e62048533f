package errors_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Making and converting an error has a budget; a call that succeeds costs
// nothing.
func TestAllocationBudget(t *testing.T) {
	c := errors.NewConverter(errors.WithDomain("d"), errors.WithMapper(ownMapper))
	ctx := t.Context()
	cause := errors.New("x")
	typed := errors.NotFound("user %d", 7)
	wrapped := fmt.Errorf("y: %w", fmt.Errorf("x: %w", typed))
	defined := errUserNotFound.With("id", 7)
	for _, test := range []struct {
		name string
		max  float64
		run  func()
	}{
		{"OK", 0, func() { _ = c.Status(ctx, nil).Err(); _ = c.FromRPC(ctx, nil); _ = c.Convert(ctx, nil) }},
		{"Code of a typed error", 0, func() { _ = errors.Code(typed); _ = errors.Message(typed) }},
		{"Convert typed", 0, func() { _ = c.Convert(ctx, typed) }},
		{"make and convert typed", 12, func() { _ = c.Status(ctx, errors.NotFound("user %d", 7)).Err() }},
		{"convert wrapped", 6, func() { _ = c.Status(ctx, wrapped).Err() }},
		{"make and convert internal", 12, func() { _ = c.Status(ctx, errors.Internal(cause)).Err() }},
		{"convert plain", 12, func() { _ = c.Status(ctx, cause).Err() }},
		{"convert mapped", 12, func() { _ = c.Status(ctx, sql.ErrNoRows).Err() }},
		{"convert defined, with ErrorInfo", 22, func() { _ = c.Status(ctx, defined).Err() }},
	} {
		got := testing.AllocsPerRun(100, test.run)
		t.Logf("%s: %v allocations", test.name, got)
		if got > test.max {
			t.Errorf("%s: got %v allocations, want at most %v", test.name, got, test.max)
		}
	}
}

// Each benchmark makes an error as a handler does and turns it into a status;
// beside it what is done without this package.
func BenchmarkServer(b *testing.B) {
	c := errors.NewConverter()
	ctx := b.Context()
	cause := errors.New("x")
	b.Run("OK/converter", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, nil).Err()
		}
	})
	b.Run("text/status.Errorf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = status.FromError(status.Errorf(codes.NotFound, "user %d", 7))
		}
	})
	b.Run("text/errors.NotFound", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, errors.NotFound("user %d", 7)).Err()
		}
	})
	b.Run("wrapped/status.Errorf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = status.FromError(fmt.Errorf("x: %w", status.Errorf(codes.NotFound, "user %d", 7)))
		}
	})
	b.Run("wrapped/errors.NotFound", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, fmt.Errorf("x: %w", errors.NotFound("user %d", 7))).Err()
		}
	})
	b.Run("details/status.WithDetails", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := status.New(codes.NotFound, "user 7 does not exist").WithDetails(&errdetails.ErrorInfo{
				Domain: "users.example.com", Reason: "USER_NOT_FOUND", Metadata: map[string]string{"id": "7"},
			})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = status.FromError(s.Err())
		}
	})
	b.Run("details/errors.Define", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, errUserNotFound.With("id", 7)).Err()
		}
	})
	b.Run("fault/status.Error", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = status.FromError(status.Error(codes.Internal, cause.Error()))
		}
	})
	b.Run("fault/errors.Internal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, errors.Internal(cause)).Err()
		}
	})
	b.Run("plain/status.FromError", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = status.FromError(cause)
		}
	})
	b.Run("plain/converter", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Status(ctx, cause).Err()
		}
	})
}

// What a client does with the error of a call.
func BenchmarkClient(b *testing.B) {
	c := errors.NewConverter()
	ctx := b.Context()
	plain := status.Error(codes.NotFound, "user 7")
	detailed := c.Status(ctx, errUserNotFound.With("id", 7)).Err()
	for name, err := range map[string]error{"text": plain, "details": detailed} {
		b.Run(name+"/status.FromError", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, _ := status.FromError(err)
				_ = s.Details()
			}
		})
		b.Run(name+"/converter.FromRPC", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = errors.Is(c.FromRPC(ctx, err), errUserNotFound)
			}
		})
	}
}
