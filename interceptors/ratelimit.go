package interceptors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// A Limiter decides how often what a key stands for may happen. [TokenBucket]
// is one for a process; package
// github.com/rpcscope/rpcscope/interceptors/redislimit has one that several
// servers share.
type Limiter interface {
	// Allow counts one more use of key and decides about it. An error means that
	// it cannot tell; what happens then is up to its caller, see [FailClosed].
	// It must not wait longer than a call may, honours ctx, and is called by
	// many goroutines at the same time.
	Allow(ctx context.Context, key string) (Decision, error)
}

// Decision is what a [Limiter] decided. A zero field other than Allowed is not
// known to the limiter, but for Remaining, which then is told as zero.
type Decision struct {
	Allowed    bool
	Remaining  int           // how many more would be allowed now
	RetryAfter time.Duration // if not allowed: until one would be; zero is told as a second
	Limit      int           // how many are allowed at once
	ResetAfter time.Duration // until Remaining is Limit again if nobody asks
}

// ErrRateLimited is what a caller gets whom [RateLimit] refuses: ResourceExhausted,
// with a google.rpc.RetryInfo and a google.rpc.QuotaFailure.
var ErrRateLimited = errors.Define(codes.ResourceExhausted, "rpcscope", "RATE_LIMITED", "rate limit exceeded")

// ErrLimiterFailed is what a caller gets where a limiter failed and
// [FailClosed] was given: Unavailable, with a google.rpc.RetryInfo.
var ErrLimiterFailed = errors.Define(codes.Unavailable, "rpcscope", "LIMITER_FAILED", "the rate limit cannot be checked at present")

// RateLimitOption configures [RateLimit]. A nil option is skipped.
type RateLimitOption func(*rateLimit)

// FailClosed refuses calls with [ErrLimiterFailed] while the limiter, or the
// KeyFunc, fails. Without it they are let happen: a limiter that is down should
// not take the service down with it. Either way
// rpcscope.server.limiter.failures counts them and the span has
// rpcscope.ratelimit.error.
func FailClosed() RateLimitOption { return func(r *rateLimit) { r.failClosed = true } }

// PerMessage limits what a client sends on a stream: for streams of requests each
// message is one use of the key, and opening the stream is none. What
// goes over the limit ends the stream. Calls with one request are limited as
// ever. Use it beside a RateLimit without it to limit both, each with its own
// [PolicyName].
func PerMessage() RateLimitOption { return func(r *rateLimit) { r.perMessage = true } }

// QuotaHeaders tells callers what is left: in the headers of calls that are let
// happen, and in the trailers of those that are refused. The fields are those of
// draft-ietf-httpapi-ratelimit-headers-10, in lower case as gRPC has them, r
// being [Decision].Remaining, t ResetAfter in seconds, rounded up, and q Limit:
//
//	ratelimit-policy: "default";q=20
//	ratelimit: "default";r=12;t=3
//
// Where a limiter does not know Limit there is no ratelimit-policy, and no t
// without ResetAfter. With [PerMessage], streams of requests have them only when
// they are refused. It is not the default, since it tells strangers the limits,
// and setting headers costs a call about a microsecond.
func QuotaHeaders() RateLimitOption { return func(r *rateLimit) { r.headers = true } }

// PolicyName tells several RateLimits of a server apart: in the headers of
// [QuotaHeaders], as the subject of the QuotaFailure, and as
// rpcscope.ratelimit.policy on spans, in logs and metrics. The default is
// "default". It panics unless the name is 1 to 64 of a-z, 0-9, "_", "." and "-".
func PolicyName(name string) RateLimitOption {
	if !policyNames.MatchString(name) {
		panic(fmt.Sprintf(`interceptors: PolicyName: %q, want 1 to 64 of a-z, 0-9, "_", "." and "-"`, name))
	}
	return func(r *rateLimit) { r.policy = name }
}

var policyNames = regexp.MustCompile(`^[a-z0-9_.-]{1,64}$`)

// RateLimit refuses calls with [ErrRateLimited] when l says that there were
// enough for their key. Put it behind [Authenticate] if the key is made of the
// identity: [ByUser], [ByTenant], [ByPeer], [ByPeerPrefix], [ByMethod], [Global]
// or a function of one's own.
//
//	interceptors.RateLimit(interceptors.NewTokenBucket(10, 20), interceptors.ByUser)
//
// A stream is limited when it is opened, see also [PerMessage]. The status of a
// refusal says in its google.rpc.RetryInfo when to come back, and the trailer
// grpc-retry-pushback-ms tells the same to gRPC clients that retry; its
// google.rpc.QuotaFailure names the policy, and never the key. It is counted in
// rpcscope.server.rejected, with the reason rate_limited.
//
// A limiter that fails lets calls happen, unless [FailClosed]; a panic of
// l or key is a failure like any other. One that fails since its call is over is
// none: the call ends with its context's error.
//
// It panics if l or key is nil, or l a [TokenBucket] that NewTokenBucket did not make.
// On a client it limits the calls that go out, with
// PerMessage the messages that are sent.
func RateLimit(l Limiter, key KeyFunc, opts ...RateLimitOption) Interceptor {
	if b, ok := l.(*TokenBucket); ok && !b.made() {
		panic("interceptors: RateLimit: the TokenBucket was not made by NewTokenBucket")
	}
	if isNil(l) {
		panic("interceptors: RateLimit: the limiter is nil; want one such as NewTokenBucket(10, 20)")
	}
	if key == nil {
		panic("interceptors: RateLimit: the KeyFunc is nil; want one such as ByUser or Global")
	}
	r := &rateLimit{limiter: l, key: key, policy: "default"}
	for _, o := range opts {
		if o != nil {
			o(r)
		}
	}
	return r.intercept
}

type rateLimit struct {
	limiter    Limiter
	key        KeyFunc
	policy     string
	failClosed bool
	perMessage bool
	headers    bool
}

func (r *rateLimit) intercept(ctx context.Context, call *Call, next Next) error {
	key, err := r.keyOf(ctx, call)
	if r.perMessage && manyMessages(call) {
		return r.messages(ctx, call, key, err, next)
	}
	var d Decision
	if err == nil {
		d, err = r.allow(ctx, key)
	}
	switch {
	case err != nil:
		if err := r.failed(ctx, call, err); err != nil {
			return err
		}
	case !d.Allowed:
		return r.refuse(ctx, call, d)
	case r.headers:
		_ = call.SetHeader(r.quota(d)) // fails only on a client
	}
	return next(ctx)
}

// manyMessages tells whether this side's peer, or on a client this side, may
// send several.
func manyMessages(call *Call) bool { return call.Kind == ClientStream || call.Kind == BidiStream }

// messages limits those of a stream. A hook runs on the goroutine of the handler,
// or on one that the handler started: what belongs to the chain's is done when
// next has returned.
func (r *rateLimit) messages(ctx context.Context, call *Call, key string, keyErr error, next Next) error {
	var end atomic.Pointer[messageEnd]
	var failure atomic.Pointer[error]
	register := call.OnReceive
	if call.Side == ClientSide {
		register = call.OnSend
	}
	register(func(any) error {
		if e := end.Load(); e != nil {
			return e.err
		}
		d, err := Decision{}, keyErr
		if err == nil {
			d, err = r.allow(ctx, key)
		}
		e := &messageEnd{decision: d, failed: err != nil}
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			failure.CompareAndSwap(nil, &err)
			r.countFailure(ctx, call)
			if !r.failClosed {
				return nil
			}
			e.err = unchecked(err)
		case d.Allowed:
			return nil
		default:
			e.err = r.refusal(call, d)
		}
		end.CompareAndSwap(nil, e)
		return end.Load().err
	})
	err := next(ctx)
	if f := failure.Load(); f != nil {
		call.AddAttributes(r.failureAttributes(*f)...)
	}
	e := end.Load()
	switch {
	case e == nil:
		return err
	case e.failed:
		call.reject(ctx, reasonLimiterFailed)
		return e.err
	}
	return r.refuse(ctx, call, e.decision)
}

// messageEnd is why a message ended its stream.
type messageEnd struct {
	err      error
	decision Decision
	failed   bool
}

// Why the suite's limits refuse calls, in rpcscope.rejected.reason.
const (
	reasonRateLimited   = "rate_limited"
	reasonLimiterFailed = "limiter_failed"
)

const (
	policyKey         = attribute.Key("rpcscope.ratelimit.policy")
	limiterErrorKey   = attribute.Key("rpcscope.ratelimit.error")
	limiterOutcomeKey = attribute.Key("rpcscope.ratelimit.outcome")
)

func (r *rateLimit) keyOf(ctx context.Context, call *Call) (key string, err error) {
	defer asError(&err)
	return r.key(ctx, call), nil
}

func (r *rateLimit) allow(ctx context.Context, key string) (d Decision, err error) {
	defer asError(&err)
	return r.limiter.Allow(ctx, key)
}

// asError is deferred around what is a failure when it panics, and may run on a
// goroutine on which nobody else would recover.
func asError(err *error) {
	if v := recover(); v != nil {
		*err = &panicError{v}
	}
}

// refuse ends the call that there is no token for.
func (r *rateLimit) refuse(ctx context.Context, call *Call, d Decision) error {
	call.reject(ctx, reasonRateLimited)
	call.AddAttributes(policyKey.String(r.policy))
	if r.headers {
		// In the trailers: with headers of its own a refusal would not be
		// retried, as gRPC retries only what is nothing but trailers.
		_ = call.SetTrailer(r.quota(d))
	}
	pushBack(call, d.wait())
	return r.refusal(call, d)
}

func (r *rateLimit) refusal(call *Call, d Decision) error {
	violation := &errdetails.QuotaFailure_Violation{
		Subject: r.policy, Description: "too many calls", ApiService: call.Service(),
	}
	if d.Limit > 0 {
		violation.QuotaValue = int64(d.Limit)
	}
	return ErrRateLimited.WithRetry(d.wait()).WithDetails(&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{violation}})
}

// wait is what a caller who is refused is told.
func (d Decision) wait() time.Duration {
	if d.RetryAfter <= 0 {
		return time.Second
	}
	return d.RetryAfter
}

// pushBack tells gRPC clients that retry how long they have to wait.
func pushBack(call *Call, d time.Duration) {
	// Fails only where there is nobody to tell.
	_ = call.SetTrailer(metadata.MD{pushbackTrailer: {strconv.FormatInt(roundedUp(d, time.Millisecond), 10)}})
}

func roundedUp(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}

// jittered is d, give or take a half, so that those who were refused together do
// not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// quota is what draft-ietf-httpapi-ratelimit-headers-10 calls the RateLimit and
// the RateLimit-Policy fields.
func (r *rateLimit) quota(d Decision) metadata.MD {
	var room [128]byte // for the longest of them
	b := append(append(append(room[:0], '"'), r.policy...), '"')
	name := len(b)
	b = strconv.AppendInt(append(b, ";r="...), int64(max(d.Remaining, 0)), 10)
	if d.ResetAfter > 0 {
		b = strconv.AppendInt(append(b, ";t="...), roundedUp(d.ResetAfter, time.Second), 10)
	}
	md := metadata.MD{"ratelimit": {string(b)}}
	if d.Limit > 0 {
		md["ratelimit-policy"] = []string{string(strconv.AppendInt(append(b[:name], ";q="...), int64(d.Limit), 10))}
	}
	return md
}

// failed says what becomes of a call whose limiter failed.
func (r *rateLimit) failed(ctx context.Context, call *Call, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	call.AddAttributes(r.failureAttributes(err)...)
	r.countFailure(ctx, call)
	if !r.failClosed {
		return nil
	}
	call.reject(ctx, reasonLimiterFailed)
	return unchecked(err)
}

func unchecked(err error) error {
	return ErrLimiterFailed.WithCause(err).WithRetry(jittered(time.Second))
}

func (r *rateLimit) failureAttributes(err error) []attribute.KeyValue {
	return []attribute.KeyValue{policyKey.String(r.policy), limiterErrorKey.String(err.Error())}
}

func (r *rateLimit) countFailure(ctx context.Context, call *Call) {
	if call.m == nil || call.m.e.limiterFailures == nil {
		return
	}
	outcome := "allowed"
	if r.failClosed {
		outcome = "refused"
	}
	call.m.e.limiterFailures.Add(ctx, 1, call.m.with(policyKey.String(r.policy), limiterOutcomeKey.String(outcome)))
}
