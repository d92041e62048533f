// Package fault makes a handler fail on purpose, so that a demo or a test can look at what becomes of it. It is switched
// on by -faults, which no service in production should have.
package fault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// Key is the metadata key that asks for a fault:
//
//	x-fault: panic          the handler panics
//	x-fault: error          the handler returns an error whose text is not for strangers
//	x-fault: delay=1.5s     the handler waits, or until the call is over
const Key = "x-fault"

// Injector is called at the start of each handler. A nil Injector does nothing.
type Injector func(context.Context) error

// Inject does what the metadata of the call asks for.
func (i Injector) Inject(ctx context.Context) error {
	if i == nil {
		return nil
	}
	return i(ctx)
}

// FromMetadata is the Injector that obeys Key.
func FromMetadata(ctx context.Context) error {
	for _, fault := range metadata.ValueFromIncomingContext(ctx, Key) {
		if err := do(ctx, fault); err != nil {
			return err
		}
	}
	return nil
}

func do(ctx context.Context, fault string) error {
	name, value, _ := strings.Cut(fault, "=")
	switch name {
	case "panic":
		panic("a fault was asked for: " + Key + ": panic")
	case "error":
		return fmt.Errorf("a fault was asked for: %s: error (password=hunter2 at 10.0.0.1)", Key)
	case "delay":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return errors.InvalidArgument("%s: delay=%q, want a duration such as 500ms", Key, value)
		}
		return wait(ctx, d)
	}
	return errors.InvalidArgument("%s: %q, want panic, error or delay=DURATION", Key, fault)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
