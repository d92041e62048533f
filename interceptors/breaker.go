package interceptors

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// ErrBreakerOpen is what a call ends with that [CircuitBreaker] did not let
// through: Unavailable, with a google.rpc.RetryInfo that says when one will be. A
// handler that returns it tells its own caller what it would tell of any
// dependency that is down: Unavailable, with that RetryInfo. That is why the error
// is Remote, as are [ErrNoToken] and [ErrPlaintextToken], though nothing was sent.
var ErrBreakerOpen = errors.Define(codes.Unavailable, "rpcscope", "BREAKER_OPEN", "the circuit breaker is open: the service failed too often and is left alone for a while")

// BreakerScope says what calls share a breaker. The zero value is [PerService].
type BreakerScope uint8

// What calls share a breaker, always of one target: see [Call.Target].
const (
	PerService BreakerScope = iota // those to the same service
	PerMethod                      // those to the same method
	PerTarget                      // all
)

// String returns "per_service", "per_method" or "per_target".
func (s BreakerScope) String() string {
	switch s {
	case PerService:
		return "per_service"
	case PerMethod:
		return "per_method"
	case PerTarget:
		return "per_target"
	}
	return fmt.Sprintf("BreakerScope(%d)", uint8(s))
}

// BreakerPolicy tells [CircuitBreaker] when to stop calling, and when to try
// again. The zero value is a policy too: each field has the default that it
// names.
type BreakerPolicy struct {
	// FailureThreshold is how many calls have to fail one after the other for the
	// breaker to open. The default is 5.
	FailureThreshold int

	// OpenFor is how long an open breaker lets no call through. After that it is
	// half-open. The default is 10 seconds.
	OpenFor time.Duration

	// HalfOpenCalls is how many calls a half-open breaker lets through at a time
	// to see how they fare (probes). When as many have succeeded it closes, and with the
	// first that fails it opens again. The default is 1.
	HalfOpenCalls int

	// Per says what calls share a breaker. The default is PerService.
	Per BreakerScope

	// IsFailure tells whether an error, as the caller gets it, says that the
	// service is in trouble. It is not asked about calls that the caller cancelled
	// or that were refused on this side, of which nothing is learned. The default
	// takes Unavailable, DeadlineExceeded, Internal, Unknown and DataLoss for
	// failures. What the caller did wrong (InvalidArgument, NotFound and so on)
	// is none, for the service has answered; nor is ResourceExhausted, which is
	// as a rule the quota of one caller and no matter of the others.
	//
	// It is called by many goroutines at the same time.
	IsFailure func(error) bool

	// MinTimeout is the least time that a call must have had for its
	// DeadlineExceeded to be the fault of the service: a caller who is about to
	// give up anyhow is no judge of it. The default is 10 ms; with a negative one
	// all count whose deadline had not passed before the breaker saw them.
	MinTimeout time.Duration
}

// CircuitBreaker stops calling a service that fails, so that its callers do not
// wait for what will not come, and it gets the time to recover.
//
//	interceptors.DialOptions(interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 10, OpenFor: 5 * time.Second}))
//
// It is closed at first, and lets calls through. After as many failures in a row
// as the policy says it is open: calls end at once with [ErrBreakerOpen],
// without anything being sent. After OpenFor it is half-open, and some calls
// may try: if they go well it closes, else it is open again.
//
// A call is judged at its end, of whatever kind it is. Calls that were under way
// when the state changed are not counted any more. A stream that a half-open
// breaker let through has done its part when the server's headers or its first
// message have come, and does not have to end for the breaker to close. A
// probe that was cancelled, panicked, or never left this side makes room for
// another one, and so does one that has had no answer for as long as OpenFor.
//
// There is a breaker for each target and service, method or nothing more, see
// [BreakerScope], up to 1024 of them; beyond, the one that was not used for the
// longest time is forgotten. Connections whose DialOptions were given the same
// CircuitBreaker share them. Health checks (grpc.health.v1.Health) are neither
// judged nor refused.
//
// The state is rpcscope.client.breaker.state, 0 closed, 1 half-open or 2 open, a
// change of it is counted in rpcscope.client.breaker.transitions and is an event
// rpcscope.breaker.transition on the span of the call that brought it about; both
// have rpcscope.breaker.from and rpcscope.breaker.to (closed, half_open, open),
// and all have server.address, server.port and rpcscope.breaker.name: the
// service, the method, or "*". A call that is refused is counted in
// rpcscope.client.rejected, by the reason breaker_open; its span and log record,
// and those of a probe, have rpcscope.breaker.state.
//
// Put it inside of [Retry], so that it sees each attempt, and outside of [Token].
// It panics if the policy makes no sense. It does nothing on a server.
func CircuitBreaker(p BreakerPolicy) Interceptor {
	return newBreakers(p.checked()).intercept
}

func (p BreakerPolicy) checked() BreakerPolicy {
	refuse := refuser("CircuitBreaker: BreakerPolicy")
	const most = 1 << 20
	switch {
	case p.FailureThreshold < 0 || p.FailureThreshold > most:
		refuse("FailureThreshold", p.FailureThreshold, "1 to 1048576, or 0 for the default of 5")
	case p.OpenFor < 0:
		refuse("OpenFor", p.OpenFor, "more than 0, or 0 for the default of 10s")
	case p.HalfOpenCalls < 0 || p.HalfOpenCalls > most:
		refuse("HalfOpenCalls", p.HalfOpenCalls, "1 to 1048576, or 0 for the default of 1")
	case p.Per > PerTarget:
		refuse("Per", p.Per, "PerService, PerMethod or PerTarget")
	}
	setDefault(&p.FailureThreshold, 5)
	setDefault(&p.OpenFor, 10*time.Second)
	setDefault(&p.HalfOpenCalls, 1)
	setDefault(&p.MinTimeout, 10*time.Millisecond)
	if p.IsFailure == nil {
		p.IsFailure = serviceFails
	}
	return p
}

// serviceFails is the default of BreakerPolicy.IsFailure.
func serviceFails(err error) bool {
	code := errors.Code(err)
	return serverFault(code) && code != codes.Unimplemented
}

const reasonBreakerOpen = "breaker_open"

const (
	breakerNameKey  = attribute.Key("rpcscope.breaker.name")
	breakerStateKey = attribute.Key("rpcscope.breaker.state")
	breakerFromKey  = attribute.Key("rpcscope.breaker.from")
	breakerToKey    = attribute.Key("rpcscope.breaker.to")
)

func (s *breakers) intercept(ctx context.Context, call *Call, next Next) error {
	if call.Side != ClientSide || ctx.Err() != nil || healthCheck(call) {
		return next(ctx)
	}
	b := s.of(call)
	t, wait := b.admit(ctx, call)
	if t.done == nil {
		call.reject(ctx, reasonBreakerOpen)
		call.AddAttributes(breakerNameKey.String(b.name), breakerStateKey.String(t.state()))
		return dependencyFailed(ErrBreakerOpen.WithRetry(wait), nil)
	}
	hurried := false
	if deadline, ok := ctx.Deadline(); ok {
		hurried = time.Until(deadline) < s.MinTimeout
	}
	result := errNothingLearned // also of a panic, which is not the service's
	defer func() { t.settle(ctx, result) }()
	if t.probe != nil {
		call.AddAttributes(breakerNameKey.String(b.name), breakerStateKey.String(t.state()))
		t.watch(ctx, call)
	}
	err := next(ctx)
	result = s.judge(ctx, call, err, hurried)
	return err
}

// judge says what a call's end says about the service: errNothingLearned, errServiceFailed,
// or, with nil, that it works.
func (s *breakers) judge(ctx context.Context, call *Call, err error, hurried bool) error {
	if err == nil {
		return nil
	}
	code := errors.Code(err)
	switch {
	case refusedHere(err), unsendable(call, err):
		return errNothingLearned
	case errors.Is(context.Cause(ctx), errAttemptTimeout): // cancelled by Retry, which waited long enough
	case code == codes.Canceled, ctx.Err() == context.Canceled:
		return errNothingLearned
	}
	switch {
	case code == codes.DeadlineExceeded && hurried:
		return errNothingLearned
	case s.IsFailure(err):
		return errServiceFailed
	case call.m != nil && !answered(err):
		return errNothingLearned
	}
	return nil
}

// refusedHere tells whether the suite itself refused the call on this side, which is
// not the service's fault.
func refusedHere(err error) bool {
	for _, own := range []error{ErrBreakerOpen, ErrNoToken, ErrPlaintextToken} {
		if errors.Is(err, own) {
			return true
		}
	}
	e, ok := errors.AsType[*errors.Error](err)
	return ok && !e.Remote() && e.Domain() == ErrBreakerOpen.Domain() && e.Code() != codes.DeadlineExceeded
}

// unsendable tells whether gRPC could not encode what the caller gave it, which it
// says with a text of its own before anything has come from a server.
func unsendable(call *Call, err error) bool {
	return errors.Code(err) == codes.Internal && len(call.Header())+len(call.Trailer()) == 0 &&
		strings.HasPrefix(errors.Message(err), "grpc: error while ")
}

// answered tells whether the error is one that came from the service: an
// interceptor on this side says nothing about it.
func answered(err error) bool {
	e, ok := errors.AsType[*errors.Error](err)
	return ok && e.Remote()
}
