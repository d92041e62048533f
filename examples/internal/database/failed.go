package database

import (
	"context"
	"fmt"

	"github.com/rpcscope/rpcscope/errors"
)

// Failed returns err, unless it is one of the service's own, with what failed in front. When ctx is done that is why,
// however SQLite says so.
func Failed(ctx context.Context, what string, err error) error {
	var typed *errors.Error
	if errors.As(err, &typed) {
		return err
	}
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
