package errors_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/rpcscope/rpcscope/errors"
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
