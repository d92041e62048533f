package interceptors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Recheck asks the [Authenticator] again while a stream lasts, so that one does
// not outlive, by more than every, the session that was ended or the rights that
// were taken away. The pause is between nine tenths of every and every, which keeps
// streams that were opened together from asking together.
//
// A refusal ends the stream with it, and so does, as [ErrUnauthenticated], an
// identity that is another user's or tenant's, or has lost a role or a scope: what
// was allowed was allowed for those. A later ExpiresAt lets the stream last longer,
// an earlier one ends it earlier; its context has no deadline then. The identity in
// the context, and in those derived from it, is always the last answer. An error with
// a code other than Unauthenticated and PermissionDenied says nothing about the
// caller: the stream lasts, and the next time is asked again. How often that
// happened is rpcscope.auth.rechecks_failed of span and log.
//
// The Authenticator gets the call as it began, without what happened to it since,
// and has until the next check to answer. It is asked by no more than one goroutine
// at a time, none of which is left when the stream has ended: it must return when
// its context is done. An every that is not above zero panics. Without the option
// nobody is asked again.
func Recheck(every time.Duration) AuthOption {
	if every <= 0 {
		panic(fmt.Sprintf("interceptors: Recheck: the interval is %v; want one above zero", every))
	}
	return func(a *authentication) { a.every = every }
}

const recheckFailuresKey = attribute.Key("rpcscope.auth.rechecks_failed")

// recheck lets the stream last while the Authenticator, asked with ctx, does not
// object.
func (a *authentication) recheck(ctx context.Context, call *Call, id propagation.Identity, next Next) error {
	current := &renewable{Context: ctx}
	current.set(id)
	inner, cancel := context.WithCancelCause(current)
	ctx, giveUp := context.WithCancel(ctx)
	w := &watch{auth: a, ctx: ctx, end: cancel, id: id, current: current}
	// Interceptors further inside may be using the call while it is asked about.
	w.call = &Call{FullMethod: call.FullMethod, Kind: call.Kind, Side: call.Side, start: call.start, m: call.m, ctx: ctx}
	defer cancel(nil)
	w.begin()
	err := func() error {
		defer w.stop(giveUp)
		return next(inner)
	}()
	if w.failures > 0 {
		call.AddAttributes(recheckFailuresKey.Int(w.failures))
	}
	if w.refusal != nil && err != nil {
		return endedFor(inner, call, w.refusal, err)
	}
	return err
}

// renewable is a context whose identity is the last one that was set, for contexts
// that were derived from it before as well.
type renewable struct {
	context.Context // without an identity
	identified      atomic.Pointer[context.Context]
}

func (r *renewable) set(id propagation.Identity) {
	ctx := propagation.ContextWithIdentity(r.Context, id)
	r.identified.Store(&ctx)
}

func (r *renewable) Value(key any) any { return (*r.identified.Load()).Value(key) }

// watch is a stream that is watched, with a timer and without a goroutine.
type watch struct {
	auth    *authentication
	ctx     context.Context
	call    *Call
	end     context.CancelCauseFunc
	current *renewable

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	running sync.WaitGroup // at most one check

	// Those of the check that is running, or of who waited for it.
	id       propagation.Identity
	due      time.Time
	failures int
	refusal  error // why the stream was ended
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.pause(), w.wake)
}

// pause is how long nothing happens.
func (w *watch) pause() time.Duration {
	every := w.auth.every
	wait := every - rand.N(every/10+1)
	w.due = time.Now().Add(wait)
	if !w.id.ExpiresAt.IsZero() {
		wait = min(wait, time.Until(w.id.ExpiresAt))
	}
	return wait
}

func (w *watch) stop(giveUp context.CancelFunc) {
	w.mu.Lock()
	w.stopped = true
	w.timer.Stop()
	w.mu.Unlock()
	giveUp()
	w.running.Wait()
}

func (w *watch) wake() {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	w.running.Add(1)
	w.mu.Unlock()
	defer w.running.Done()

	err := error(errors.Internal(errors.New("interceptors: Recheck: the Authenticator left with runtime.Goexit")))
	defer func() { w.checked(err) }()
	err = w.check()
}

func (w *watch) checked(err error) {
	if err != nil {
		w.refusal = err
		w.end(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.pause())
	}
}

// check returns why the stream must end, or nil.
func (w *watch) check() error {
	if time.Now().Before(w.due) { // the timer was for something else
		if expired(w.id) {
			return ErrIdentityExpired
		}
		return nil
	}
	id, err := w.ask()
	if w.ctx.Err() != nil {
		return nil //nolint:nilerr // the stream is over: it says nothing about the caller
	}
	switch code := errors.Code(err); {
	case code == codes.Unauthenticated, code == codes.PermissionDenied:
		return err
	case err == nil && !covers(id, w.id):
		return ErrUnauthenticated.WithCause(errors.New("interceptors: the caller's identity has changed since the stream began"))
	case err == nil:
		w.id = id
		w.current.set(id)
	default:
		w.failures++
		if expired(w.id) {
			return ErrIdentityExpired
		}
	}
	return nil
}

// ask asks the Authenticator. There is nobody else to recover its panic: the
// process would end.
func (w *watch) ask() (id propagation.Identity, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.auth.every)
	defer cancel()
	returned := false
	defer func() {
		if !returned {
			value := recover()
			otel.Handle(fmt.Errorf("interceptors: Recheck: the Authenticator panicked for %s: %T", w.call.FullMethod, value))
			err = errors.Internal(&panicError{value})
		}
	}()
	id, err = identify(ctx, w.call, w.auth.Authenticator)
	returned = true
	return id, err
}

// covers reports whether what was allowed to old is allowed to id.
func covers(id, old propagation.Identity) bool {
	lacks := func(have []string) func(string) bool {
		return func(s string) bool { return !slices.Contains(have, s) }
	}
	return id.UserID == old.UserID && id.TenantID == old.TenantID &&
		!slices.ContainsFunc(old.Roles, lacks(id.Roles)) && !slices.ContainsFunc(old.Scopes, lacks(id.Scopes))
}
