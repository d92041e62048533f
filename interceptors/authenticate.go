package interceptors

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// An Authenticator finds out who makes a call, from the call's metadata or its
// connection. It is called by many goroutines at the same time, on servers only.
//
// An error refuses the call. One that has a code, an [errors.Error] or a status,
// reaches the caller as it is: [ErrNoCredentials] where the call has none of the
// kind the Authenticator knows, Unauthenticated where they are not valid,
// Unavailable where that cannot be told at present. A plain error is
// [ErrUnauthenticated] with that error as its private cause, unless it says that
// somebody could not be reached or a context is done. No error may quote a
// credential.
//
// [FirstOf], [BearerToken], [HeaderValue] and [PeerCertificate] make one;
// [AuthenticatorFunc] makes one of a function.
type Authenticator interface {
	Authenticate(ctx context.Context, call *Call) (propagation.Identity, error)
}

// AuthenticatorFunc is an [Authenticator] that is a function.
type AuthenticatorFunc func(ctx context.Context, call *Call) (propagation.Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, call *Call) (propagation.Identity, error) {
	return f(ctx, call)
}

// What calls are refused with. The cause, in span and log only, says more.
var (
	// ErrNoCredentials says that a call has no credentials at all, or none of the
	// kind an [Authenticator] knows.
	ErrNoCredentials = errors.Define(codes.Unauthenticated, "rpcscope", "NO_CREDENTIALS", "authentication is required")

	// ErrUnauthenticated says that a call's credentials are not valid.
	ErrUnauthenticated = errors.Define(codes.Unauthenticated, "rpcscope", "UNAUTHENTICATED", "the credentials are not valid")

	// ErrIdentityExpired says that a call's credentials were valid and are no more.
	ErrIdentityExpired = errors.Define(codes.Unauthenticated, "rpcscope", "IDENTITY_EXPIRED", "the credentials have expired")
)

// Authenticate lets a server's calls happen only for callers that a recognises.
// The handler, and interceptors further inside, find who that is with
// [propagation.IdentityFromContext]; it is Verified, and it takes the place of
// what the caller's baggage said. Span and access log tell of it what the
// propagator is configured to tell.
//
// An identity whose ExpiresAt has passed is refused with [ErrIdentityExpired].
// A stream ends with that when the time comes, even where the handler waits for
// a message; its context has ExpiresAt as its deadline. A unary call that has
// begun is let finish.
//
// A refused call is counted in rpcscope.server.rejected by the reasons
// unauthenticated, identity_expired, permission_denied (that was a's word), and
// authenticator_failed where a returned an error with any other code; span and
// log have rpcscope.rejected.reason.
//
// Put it outside of [Authorize] and of all that goes by who the caller is. A nil
// Authenticator panics. Given to a client it fails every call with Internal. The
// interceptor may be used by several servers.
func Authenticate(a Authenticator, opts ...AuthOption) Interceptor {
	if isNil(a) {
		panic("interceptors: Authenticate: the Authenticator is nil; want one, such as BearerToken(verify)")
	}
	auth := &authentication{Authenticator: a}
	for _, o := range opts {
		if o != nil {
			o(auth)
		}
	}
	return auth.intercept
}

// AuthOption configures [Authenticate]. A nil AuthOption is skipped.
type AuthOption func(*authentication)

// AllowAnonymous lets the calls that m matches happen without an identity, such
// as health checks, or the one that a caller gets its first token from:
//
//	AllowAnonymous(Methods("/grpc.health.v1.Health/*", "/users.v1.SessionService/LogIn"))
//
// The [Authenticator] is asked all the same, and a caller that it recognises has
// an identity there too; one whose token is no longer valid is as anonymous as one
// without. Where the option is given several times a call is anonymous if one of
// the matchers matches it. A nil m panics.
func AllowAnonymous(m Matcher) AuthOption {
	if m == nil {
		panic("interceptors: AllowAnonymous: the Matcher is nil; want one, such as Methods(\"/grpc.health.v1.Health/*\")")
	}
	return func(a *authentication) { a.anonymous = append(a.anonymous, m) }
}

// authentication is what an Authenticate interceptor is made of.
type authentication struct {
	Authenticator
	anonymous []Matcher
	every     time.Duration // between re-checks; zero: none
}

func (a *authentication) intercept(ctx context.Context, call *Call, next Next) error {
	if err := serverInterceptor("Authenticate", call); err != nil {
		return err
	}
	id, err := identify(ctx, call, a.Authenticator)
	if err != nil {
		if a.allowsAnonymous(call) {
			call.add().anonymous = true
			return next(ctx)
		}
		if ctx.Err() == nil { // else there is nobody left to refuse
			call.reject(ctx, authenticationReason(err))
		}
		return err
	}
	if call.Kind != Unary && a.every > 0 {
		return a.recheck(ctx, call, id, next)
	}
	inner := propagation.ContextWithIdentity(ctx, id)
	if call.Kind != Unary && !id.ExpiresAt.IsZero() {
		return untilExpiry(inner, call, id.ExpiresAt, next)
	}
	return next(inner)
}

func (a *authentication) allowsAnonymous(call *Call) bool {
	for _, m := range a.anonymous {
		if m(call) {
			return true
		}
	}
	return false
}

// identify is what a says, with errors of this package's kind.
func identify(ctx context.Context, call *Call, a Authenticator) (propagation.Identity, error) {
	id, err := a.Authenticate(ctx, call)
	if err != nil {
		return propagation.Identity{}, asRefusal(err)
	}
	if expired(id) {
		return propagation.Identity{}, ErrIdentityExpired
	}
	return id, nil
}

func expired(id propagation.Identity) bool {
	return !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt)
}

// asRefusal makes a plain error Unauthenticated. What an error says itself, and
// that an Authenticator could not reach those it asks, stays.
func asRefusal(err error) error {
	if coded(err) || unanswered(errors.Code(err)) {
		return err
	}
	return ErrUnauthenticated.WithCause(err)
}

func coded(err error) bool {
	var s interface{ GRPCStatus() *status.Status } // an *errors.Error is one too
	return errors.As(err, &s)
}

func unanswered(code codes.Code) bool {
	return code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
}

func authenticationReason(err error) string {
	switch {
	case errors.Is(err, ErrIdentityExpired):
		return reasonIdentityExpired
	case errors.Code(err) == codes.Unauthenticated:
		return reasonUnauthenticated
	case errors.Code(err) == codes.PermissionDenied:
		return reasonPermissionDenied
	}
	return "authenticator_failed"
}

// The reasons that Authenticate and Authorize have in common.
const (
	reasonUnauthenticated  = "unauthenticated"
	reasonIdentityExpired  = "identity_expired"
	reasonPermissionDenied = "permission_denied"
)

// untilExpiry lets a stream last until the time at most.
func untilExpiry(ctx context.Context, call *Call, at time.Time, next Next) error {
	ctx, cancel := context.WithDeadlineCause(ctx, at, ErrIdentityExpired)
	defer cancel()
	err := next(ctx)
	deadline, _ := ctx.Deadline()
	// Those that the handler called have the same deadline, and may have been faster.
	if errors.Is(context.Cause(ctx), ErrIdentityExpired) || deadline.Equal(at) && !time.Now().Before(at) {
		return endedFor(ctx, call, ErrIdentityExpired, err)
	}
	return err
}

// endedFor is what a stream failed with whose context was ended: why, unless it
// had come to another end before.
func endedFor(ctx context.Context, call *Call, why, err error) error {
	switch errors.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded:
		err = why // the transport is not grpc's own, and the handler watched its context
	case errors.Code(why):
	default:
		return err
	}
	call.reject(ctx, authenticationReason(why))
	return err
}

// serverInterceptor is the error of a client's call that an interceptor for
// servers was given.
func serverInterceptor(name string, call *Call) error {
	if call.Side == ServerSide {
		return nil
	}
	return errors.Internal(fmt.Errorf("interceptors: %s is for servers: give it to ServerOptions, not to DialOptions", name))
}
