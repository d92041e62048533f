package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Scenario is what callers do.
type Scenario struct {
	Name, About string
	Pace        func(perSecond float64) Pace
	Operations  []operation
	Sessions    bool                               // the service must have them
	Dial        func() []interceptors.ClientOption // of the connection; nil: none
}

// operation is something that callers do, and how it is to end.
type operation struct {
	name  string
	share int // of all calls, as one of the sum of all shares
	wants []codes.Code
	do    func(ctx context.Context, t *target, dice *rand.Rand) error
}

var ok = []codes.Code{codes.OK}

// Scenarios are all that there are.
var Scenarios = []Scenario{
	{
		Name: "steady", About: "what a day is like: users are looked up, created, imported and followed", Pace: Even,
		Operations: []operation{
			{"get", 70, ok, get},
			{"get nobody", 4, []codes.Code{codes.NotFound}, getNobody},
			{"create", 20, ok, create},
			{"import", 2, ok, importMany},
			{"watch", 4, ok, watch},
		},
	},
	{
		Name: "burst", About: "the same, with five times as many calls in the last second of every five", Pace: Bursts,
		Operations: []operation{
			{"get", 80, ok, get},
			{"create", 20, ok, create},
		},
	},
	{
		Name: "hostile", About: "clients that do everything wrong, while others work", Pace: Even, Sessions: true,
		Operations: []operation{
			{"get", 25, ok, get},
			{"no token", 5, []codes.Code{codes.Unauthenticated}, noToken},
			{"bad token", 10, []codes.Code{codes.Unauthenticated}, badToken},
			{"over the limit", 25, []codes.Code{codes.OK, codes.ResourceExhausted}, overLimit},
			{"delete", 5, []codes.Code{codes.PermissionDenied}, deleteSomebody},
			{"guess password", 4, []codes.Code{codes.Unauthenticated, codes.ResourceExhausted}, guess},
			{"create invalid", 15, []codes.Code{codes.InvalidArgument}, createInvalid},
			{"import invalid", 5, []codes.Code{codes.InvalidArgument}, importInvalid},
			{"watch wrongly", 5, []codes.Code{codes.InvalidArgument}, watchWrongly},
			{"unknown method", 10, []codes.Code{codes.Unimplemented}, unknownMethod},
			{"not a message", 10, []codes.Code{codes.Internal}, notAMessage},
			{"too large", 1, []codes.Code{codes.ResourceExhausted}, tooLarge},
			{"hang up", 4, []codes.Code{codes.Canceled}, hangUp},
		},
	},
	{
		Name: "slow", About: "the audit service takes 200 ms or, one time in 10, longer than anybody waits; needs -faults", Pace: Even,
		Operations: []operation{
			{"get", 60, ok, get},
			{"create", 36, ok, with("audit:delay=200ms", create)},
			{"create too slow", 4, []codes.Code{codes.DeadlineExceeded}, with("audit:delay=1h", create)},
		},
	},
	{
		Name: "failing", About: "the audit service fails in each way there is; what does not need it goes on; needs -faults", Pace: Even,
		Operations: []operation{
			{"get", 60, ok, get},
			{"create", 10, ok, create},
			{"create, audit away", 15, []codes.Code{codes.Unavailable}, with("audit:code=UNAVAILABLE", create)},
			{"create, audit refuses", 10, []codes.Code{codes.Internal}, with("audit:code=PERMISSION_DENIED", create)},
			{"create, audit panics", 5, []codes.Code{codes.Internal}, with("audit:panic", create)},
		},
	},
	{
		Name: "storm", About: "the service is away for 2 s of every 6, and every call that fails is made again, 4 times; needs -faults", Pace: Even,
		Operations: storm,
		Dial:       func() []interceptors.ClientOption { return []interceptors.ClientOption{interceptors.Retry(stubborn)} },
	},
	{
		Name: "breaker", About: "the same, with a circuit breaker behind the retries; needs -faults", Pace: Even,
		Operations: storm,
		Dial: func() []interceptors.ClientOption {
			return []interceptors.ClientOption{
				interceptors.Retry(stubborn),
				interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 5, OpenFor: 500 * time.Millisecond}),
			}
		},
	},
}

// stubborn makes calls again that fail, whatever that does to the service.
var stubborn = interceptors.RetryPolicy{MaxAttempts: 5, InitialBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Budget: -1}

// storm is what callers do while the service is away for 2 s of every 6.
var storm = []operation{
	{"get", 80, []codes.Code{codes.OK, codes.Unavailable, codes.ResourceExhausted}, outage(get)},
	{"create", 20, []codes.Code{codes.OK, codes.Unavailable, codes.ResourceExhausted}, outage(create)},
}

// scenarioOf returns the scenario with this name.
func scenarioOf(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("scenario %q, want %s", name, strings.Join(names, ", "))
}

// pick returns an operation, each as often as its share says.
func (s Scenario) pick(dice *rand.Rand) operation {
	sum := 0
	for _, op := range s.Operations {
		sum += op.share
	}
	n := dice.IntN(sum)
	for _, op := range s.Operations {
		if n -= op.share; n < 0 {
			return op
		}
	}
	panic("shares do not add up")
}

// call makes call i of the scenario, which takes no longer than timeout. The same seed makes the same calls.
func (s Scenario) call(t *target, seed uint64, timeout time.Duration) func(context.Context, int64) Outcome {
	return func(ctx context.Context, i int64) Outcome {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		dice := rand.New(rand.NewPCG(seed, uint64(i)))
		op := s.pick(dice)
		err := op.do(t.as(ctx, dice), t, dice)
		return Outcome{Operation: op.name, Err: err, Wanted: slices.Contains(op.wants, errors.Code(err))}
	}
}
