package telemetry

import (
	"context"
	"errors"
	ossignal "os/signal"
	"strings"
	"syscall"
)

// Run is [Setup], fn, and a bounded [Telemetry.Shutdown]:
//
//	func main() {
//		if err := telemetry.Run(context.Background(), serve); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// fn's context ends on SIGINT or SIGTERM; a second signal kills the process,
// whatever it is at. When fn panics, telemetry is flushed and the panic goes
// on, with its own stack and exit code 2.
//
// Run returns fn's error, except the context's own after a signal: that is how
// a program is meant to end. What is wrong with telemetry is said on the
// diagnostics and stops no service: neither a faulty setting, unless
// [WithStrict] is used, nor data lost at the end.
//
// Inside fn, [Setup] returns a handle on what Run set up, with [ErrAlreadySetup],
// unless [WithoutGlobals] is used.
func Run(ctx context.Context, fn func(context.Context) error, opts ...Option) error {
	sigctx, stop := ossignal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(sigctx, stop)() // the second signal finds the default action

	t, err := Setup(ctx, opts...)
	if err != nil && t.opts.strict && !t.shared {
		return errors.Join(err, t.Close())
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			t.diag.Error(line)
		}
	}
	defer func() { // also while a panic passes
		if err := t.Close(); err != nil {
			t.diag.Warn(err.Error())
		}
	}()

	err = fn(sigctx)
	if sigctx.Err() != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
