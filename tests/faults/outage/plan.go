package main

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/tests/faults"
)

// condition is what is wrong with the dependency.
type condition int

const (
	good    condition = iota
	failing           // every call ends with UNAVAILABLE
	slow              // the network takes much longer
)

const (
	work     = 5 * time.Millisecond   // of the server, for each call
	interval = 10 * time.Millisecond  // of a caller's calls
	tick     = 250 * time.Millisecond // of the samples
	drain    = 5 * time.Second        // for what is under way at the end
)

var slowly = faults.Weather{Delay: time.Second}

// phase is a time in which the dependency does not change.
type phase struct {
	Name  string
	State condition
	Lasts time.Duration
}

// plan is what happens, one phase after the other.
type plan []phase

// full is what docs/faults.md tells of.
var full = plan{
	{"good", good, 5 * time.Second},
	{"failing", failing, 8 * time.Second},
	{"good again", good, 6 * time.Second},
	{"slow", slow, 8 * time.Second},
	{"good at last", good, 8 * time.Second},
}

func (p plan) lasts() (d time.Duration) {
	for _, phase := range p {
		d += phase.Lasts
	}
	return d
}

// window is when the nth phase is.
func (p plan) window(n int) (from, to time.Duration) {
	return p[:n].lasts(), p[:n+1].lasts()
}

// setup is what a caller does about failures.
type setup struct {
	name, what string
	suite      []interceptors.ClientOption
	dial       []grpc.DialOption
}

const (
	ofCall    = 500 * time.Millisecond
	ofAttempt = 250 * time.Millisecond
	openFor   = time.Second
)

func setups() []setup {
	policy := interceptors.RetryPolicy{MaxAttempts: 4, Codes: []codes.Code{codes.Unavailable}}
	timed := policy
	timed.PerAttemptTimeout = ofAttempt
	naive, native := timed, policy
	naive.Budget, native.Budget = -1, -1
	return []setup{
		{name: "nothing", what: "calls as they are, without a deadline"},
		{name: "naive retries", what: "`Retry`, 4 attempts of 250 ms, no budget", suite: []interceptors.ClientOption{interceptors.Retry(naive)}},
		{name: "gRPC's, no budget", what: "gRPC's own by `RetryServiceConfig`, 4 attempts, without limit of time, no budget",
			suite: []interceptors.ClientOption{interceptors.WithAttempts()},
			dial:  []grpc.DialOption{grpc.WithDefaultServiceConfig(interceptors.RetryServiceConfig(native))}},
		{name: "gRPC's, budget", what: "the same with the default budget",
			suite: []interceptors.ClientOption{interceptors.WithAttempts()},
			dial:  []grpc.DialOption{grpc.WithDefaultServiceConfig(interceptors.RetryServiceConfig(policy))}},
		{name: "retries, budget", what: "`Retry`, 4 attempts of 250 ms, the default budget", suite: []interceptors.ClientOption{interceptors.Retry(timed)}},
		{name: "all of it", what: "`Timeout` of 500 ms, the same `Retry`, `CircuitBreaker` that is open for 1 s",
			suite: []interceptors.ClientOption{
				interceptors.Timeout(ofCall),
				interceptors.Retry(timed),
				interceptors.CircuitBreaker(interceptors.BreakerPolicy{OpenFor: openFor}),
			}},
	}
}
