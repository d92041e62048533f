package errors

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
)

// A RemotePolicy says what a handler's caller is told when the handler returns
// the error of another service it called. The result's cause, if it has none,
// becomes the error that was returned. A nil result is that of [Translate].
type RemotePolicy func(ctx context.Context, remote *Error) *Error

// Translate is the default [RemotePolicy]: a dependency's error is not the
// caller's. Unavailable and ResourceExhausted become Unavailable, with the
// retry delay if there is one; DeadlineExceeded stays; Canceled is the outcome
// of ctx, the handler's context, if that is done; everything else is a fault of
// this service, Internal. Text, identity and details stay behind.
func Translate(ctx context.Context, remote *Error) *Error {
	code := codes.Internal
	switch remote.Code() {
	case codes.Unavailable, codes.ResourceExhausted:
		code = codes.Unavailable
	case codes.DeadlineExceeded:
		code = codes.DeadlineExceeded
	case codes.Canceled:
		if done := codeOf(ctx); done != codes.OK {
			code = done
		}
	}
	e := &Error{code: code, message: defaultText(code)}
	if code == codes.Unavailable && remote.retries {
		e.retry, e.retries = remote.retry, true
	}
	return e
}

// Pass is a [RemotePolicy] for a service that stands in front of others and
// speaks for them, such as a gateway: what they say, the caller is told, text,
// identity and details.
func Pass(_ context.Context, remote *Error) *Error { return remote }

// Forward lets the error of another service that err is, or has beneath it,
// through to this service's caller, whatever the [RemotePolicy]. Other errors
// are returned as they are, and nil as nil.
func Forward(err error) error {
	e := explicit(err, nil).err
	if e == nil || !e.remote || e.settled {
		return err
	}
	forwarded := e.copied()
	forwarded.settled = true
	if error(e) != err {
		forwarded.cause, forwarded.over = err, true
	}
	return forwarded
}

// codeOf is the code of a context that is done, else OK. A context is done when
// its deadline has passed: the peer that has the same deadline may be heard of
// before the timer here has run.
func codeOf(ctx context.Context) codes.Code {
	if ctx == nil {
		return codes.OK
	}
	if err := ctx.Err(); err != nil {
		return mapContext(err)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return codes.DeadlineExceeded
	}
	return codes.OK
}
