package redislimit

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Limiter is an [interceptors.Limiter] with buckets in Redis: a call takes a
// token; a bucket holds burst of them, is full at first, and gets perSecond new
// ones. Make it with [New]. It is safe for concurrent use.
type Limiter struct {
	client  redis.Scripter
	rate    string // tokens in a microsecond
	burst   int
	prefix  string
	timeout time.Duration
	circuit circuit
}

var _ interceptors.Limiter = (*Limiter)(nil)

// Option configures [New]. A nil option is skipped.
type Option func(*Limiter)

// WithPrefix sets what the names of the keys in Redis begin with. The default is
// "rpcscope:ratelimit:". Limiters with the same prefix share their buckets: several
// servers should, and several limits of a server must not.
func WithPrefix(prefix string) Option { return func(l *Limiter) { l.prefix = prefix } }

// WithTimeout sets how long a call waits for Redis at most; one that has a deadline
// waits for half of what is left of it at most. The default is 50 ms. It panics if d
// is not positive.
func WithTimeout(d time.Duration) Option {
	if d <= 0 {
		panic(fmt.Sprintf("redislimit: WithTimeout: %v, want more than 0", d))
	}
	return func(l *Limiter) { l.timeout = d }
}

// New makes a limiter that allows each key perSecond calls a second in the long
// run and burst at once, on all servers that use the same Redis and prefix
// together. client is any of go-redis' clients, cluster and sentinel included; it
// stays the caller's, who closes it.
//
// It panics if client is nil, and unless perSecond is between 1e-9 and 1e6, Redis'
// clock having microseconds, and burst between 1 and 2147483647.
func New(client redis.Scripter, perSecond float64, burst int, opts ...Option) *Limiter {
	if client == nil {
		panic("redislimit: New: the client is nil; want one such as redis.NewClient makes")
	}
	if !(perSecond >= 1e-9 && perSecond <= 1e6) {
		panic(fmt.Sprintf("redislimit: New: perSecond is %v, want 1e-9 to 1e6", perSecond))
	}
	if burst < 1 || burst > math.MaxInt32 {
		panic(fmt.Sprintf("redislimit: New: burst is %d, want 1 to %d", burst, math.MaxInt32))
	}
	l := &Limiter{
		client: client, rate: strconv.FormatFloat(perSecond/1e6, 'g', -1, 64), burst: burst,
		prefix: "rpcscope:ratelimit:", timeout: 50 * time.Millisecond,
	}
	for _, o := range opts {
		if o != nil {
			o(l)
		}
	}
	return l
}

//go:embed take.lua
var source string

var take = redis.NewScript(source)

// Allow takes a token of the key's bucket. It fails when Redis does, when the
// timeout is over, and at once while Redis is given a pause.
func (l *Limiter) Allow(ctx context.Context, key string) (interceptors.Decision, error) {
	if !l.circuit.enter(time.Now()) {
		return interceptors.Decision{}, errPaused
	}
	wait := l.waits(ctx)
	reply, err := l.ask(ctx, l.name(key), wait)
	var answer redis.Error
	switch {
	case err == nil || errors.As(err, &answer):
		l.circuit.leave(answered, time.Now()) // what Redis says no to is no matter of waiting
	case errors.Is(ctx.Err(), context.Canceled), wait < l.timeout/10:
		// It says nothing about Redis: callers, who choose their deadlines, could
		// otherwise switch off the limit for all.
		l.circuit.leave(unknown, time.Now())
	default:
		l.circuit.leave(failed, time.Now())
	}
	if err != nil {
		return interceptors.Decision{}, fmt.Errorf("redislimit: %w", err)
	}
	if len(reply) != 4 {
		return interceptors.Decision{}, fmt.Errorf("redislimit: the script answered with %d numbers, want 4", len(reply))
	}
	return interceptors.Decision{
		Allowed: reply[0] == 1, Remaining: int(reply[1]), Limit: l.burst,
		RetryAfter: time.Duration(reply[2]) * time.Microsecond, ResetAfter: time.Duration(reply[3]) * time.Microsecond,
	}, nil
}

// waits is how long the call can wait for Redis: half of its time is its own.
func (l *Limiter) waits(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return l.timeout
	}
	return min(l.timeout, time.Until(deadline)/2)
}

// noAnswer is that there was none within so long.
type noAnswer time.Duration

func (d noAnswer) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(d)) }

// ask runs the script, and leaves it alone when ctx is done or the time is over:
// a client waits for its own timeouts unless it was told otherwise, and those are
// seconds.
func (l *Limiter) ask(ctx context.Context, name string, wait time.Duration) ([]int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, noAnswer(wait))
	defer cancel()
	type answer struct {
		numbers []int64
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil { // one of the client's hooks
				answers <- answer{err: fmt.Errorf("the client panicked: %v", v)}
			}
		}()
		numbers, err := take.Run(ctx, l.client, []string{name}, l.rate, l.burst).Int64Slice()
		answers <- answer{numbers, err}
	}()
	select {
	case a := <-answers:
		return a.numbers, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// name is the key in Redis.
func (l *Limiter) name(key string) string {
	if len(key) > 200 {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return l.prefix + "{" + key + "}"
}
