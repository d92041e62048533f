package interceptors

import (
	"context"

	"github.com/rpcscope/rpcscope/errors"
)

// Interceptor is code around an RPC, written once and right for unary calls
// and all kinds of streams, on servers and on clients.
//
// It runs before the RPC, calls next to let it happen, and goes on when it has
// ended: next returns at the end of the RPC on both sides and for every kind,
// a client's stream included, so that defer, recover, timing and error mapping
// are ordinary Go. The error it returns is the error the RPC ends with: the
// server's status, or what the client's caller gets from the stub or from
// RecvMsg.
//
// It may return without calling next, which refuses the call, or, of a unary call
// with [Call.Response] set, answers it; to return nil without either is a mistake
// that ends the call with Internal, on streams too. After next failed it may be called again
// as long as no message of the server has reached the caller; where that is no
// longer possible it returns the same error again.
//
// An Interceptor is an [Option]: give it to [ServerOptions] or [DialOptions],
// in the order in which they shall run, the first one outermost. A nil
// Interceptor is skipped. It is called by many goroutines at the same time.
type Interceptor func(ctx context.Context, call *Call, next Next) error

// Next runs the rest of the call and returns when it has ended. ctx is what
// the rest of the chain, the handler or the transport see; derive it from the
// one the interceptor was given. With a nil ctx it calls nothing and fails with
// Internal.
type Next func(ctx context.Context) error

// Chain makes one interceptor of several; the first is the outermost. nil ones
// are skipped, and without any it does nothing but call next.
func Chain(interceptors ...Interceptor) Interceptor {
	chain := compact(interceptors)
	switch len(chain) {
	case 0:
		return func(ctx context.Context, _ *Call, next Next) error { return next(ctx) }
	case 1:
		return chain[0]
	}
	return func(ctx context.Context, call *Call, next Next) error {
		return walk(ctx, chain, call, next)
	}
}

// For makes the interceptors run only on calls that m matches; on others next
// is called at once. A nil matcher matches every call.
func For(m Matcher, interceptors ...Interceptor) Interceptor {
	chain := Chain(interceptors...)
	if m == nil {
		return chain
	}
	return func(ctx context.Context, call *Call, next Next) error {
		if m(call) {
			return chain(ctx, call, next)
		}
		return next(ctx)
	}
}

func compact(interceptors []Interceptor) []Interceptor {
	var chain []Interceptor
	for _, i := range interceptors {
		if i != nil {
			chain = append(chain, i)
		}
	}
	return chain
}

// walk runs the chain with last at its end. It costs one allocation for each
// interceptor: the closure that its next is.
func walk(ctx context.Context, chain []Interceptor, call *Call, last Next) error {
	if len(chain) == 0 {
		return last(ctx)
	}
	call.depth++
	depth := call.depth
	return chain[0](ctx, call, func(ctx context.Context) error {
		if ctx == nil {
			return errors.Internal(errors.New("interceptors: " + call.FullMethod + ": an interceptor gave next a nil context"))
		}
		call := call.attempted(ctx)
		call.enter(ctx, depth)
		err := walk(ctx, chain[1:], call, last)
		call.depth = depth
		return err
	})
}
