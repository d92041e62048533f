// Package fault makes a handler fail on purpose, so that a demo or a test can look at what becomes of it. It is switched
// on by -faults, which no service in production should have.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// Key is the metadata key that asks for a fault:
//
//	x-fault: panic              the handler panics
//	x-fault: error              the handler returns an error whose text is not for strangers
//	x-fault: code=UNAVAILABLE   the handler returns an error with this code
//	x-fault: delay=1.5s         the handler waits, or until the call is over
//	x-fault: audit:error        the service does that which is called audit, and which this one calls
//
// With "@" and a share, 0 to 1, a fault comes as often: error@0.1. With "all:" in front of it, as in all:audit:error, it is
// for the calls of everybody for a minute, but not for the call that says so; all:none ends it. See Switch.
const Key = "x-fault"

// Injector is called at the start of each handler. A nil Injector does nothing.
type Injector func(context.Context) error

// Inject does what was asked for.
func (i Injector) Inject(ctx context.Context) error {
	if i == nil {
		return nil
	}
	return i(ctx)
}

// FromMetadata is the Injector that obeys Key.
func FromMetadata(ctx context.Context) error {
	for _, wanted := range metadata.ValueFromIncomingContext(ctx, Key) {
		if strings.Contains(wanted, ":") {
			continue // another service's
		}
		f, err := parse(wanted)
		if err != nil {
			return errors.InvalidArgument("%s: %v", Key, err)
		}
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Always returns an Injector that does what wanted says, such as "delay=200ms" or "error@0.1", whatever the call asks for;
// nil for "". An error says what it does not understand.
func Always(wanted string) (Injector, error) {
	if wanted == "" {
		return nil, nil
	}
	return parse(wanted)
}

// Both returns an Injector that is a, then b. Both may be nil.
func Both(a, b Injector) Injector {
	return func(ctx context.Context) error {
		if err := a.Inject(ctx); err != nil {
			return err
		}
		return b.Inject(ctx)
	}
}

func parse(wanted string) (Injector, error) {
	what, share, sometimes := strings.Cut(wanted, "@")
	f, err := parseAlways(what)
	if err != nil || !sometimes {
		return f, err
	}
	p, err := strconv.ParseFloat(share, 64)
	if err != nil || !(p >= 0 && p <= 1) {
		return nil, fmt.Errorf("%q, want a share from 0 to 1 after @", wanted)
	}
	return func(ctx context.Context) error {
		if rand.Float64() >= p {
			return nil
		}
		return f(ctx)
	}, nil
}

func parseAlways(what string) (Injector, error) {
	name, value, _ := strings.Cut(what, "=")
	switch name {
	case "panic":
		return func(context.Context) error { panic("a fault was asked for: " + Key + ": panic") }, nil
	case "error":
		return func(context.Context) error {
			return fmt.Errorf("a fault was asked for: %s: error (password=hunter2 at 10.0.0.1)", Key)
		}, nil
	case "code":
		n, ok := code.Code_value[value]
		if !ok || n == 0 {
			return nil, fmt.Errorf("code=%q, want a code such as UNAVAILABLE", value)
		}
		return func(context.Context) error { return errors.Coded(codes.Code(n), "a fault was asked for") }, nil
	case "delay":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("delay=%q, want a duration such as 500ms", value)
		}
		return func(ctx context.Context) error { return wait(ctx, d) }, nil
	}
	return nil, fmt.Errorf("%q, want panic, error, code=CODE or delay=DURATION", what)
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
