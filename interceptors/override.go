package interceptors

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
)

// overrides are what call options say to the interceptors of one call.
type overrides struct {
	timeout *time.Duration // 0: none
	retry   *RetryPolicy
}

// override is a call option of the suite's. gRPC does not know what it says, and
// need not.
type override struct {
	grpc.EmptyCallOption
	apply func(*overrides)
}

// CallTimeout is a call option that takes the place of what [Timeout] gives the
// call; with 0 it gives nothing. It limits nothing by itself: without Timeout on
// the connection it has no effect, and neither where the caller's context has a
// deadline. It panics if d is negative.
//
//	client.Export(ctx, request, interceptors.CallTimeout(time.Hour))
func CallTimeout(d time.Duration) grpc.CallOption {
	if d < 0 {
		panic(fmt.Sprintf("interceptors: CallTimeout(%v): want more than zero, or zero for none", d))
	}
	return override{apply: func(o *overrides) { o.timeout = &d }}
}

// CallRetry is a call option that takes the place of the policy of [Retry] for
// the call; one with MaxAttempts 1 retries nothing. Its Budget is not looked at:
// that is shared by all calls. Without Retry on the connection it has no effect.
// It panics if the policy makes no sense.
//
//	client.Transfer(ctx, request, interceptors.CallRetry(interceptors.RetryPolicy{MaxAttempts: 1}))
func CallRetry(p RetryPolicy) grpc.CallOption {
	p = p.checked("CallRetry")
	return override{apply: func(o *overrides) { o.retry = &p }}
}

// override notes what the suite's own among the call's options say.
func (c *Call) override(opts []grpc.CallOption) {
	for _, o := range opts {
		if o, ok := o.(override); ok {
			o.apply(&c.add().overrides)
		}
	}
}
