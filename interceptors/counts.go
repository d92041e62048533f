package interceptors

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// Counts counts calls by method and code and keeps how long they took, in
// memory, for programs that have no back end for metrics: a command line tool
// that says what it did, a page for operators, a test. Make it with [NewCounts].
// It is safe for concurrent use, and may count several servers and clients.
//
//	counts := interceptors.NewCounts()
//	server := grpc.NewServer(interceptors.ServerOptions(counts.Interceptor())...)
//	...
//	for _, m := range counts.Snapshot() {
//		fmt.Println(m.Method, m.Calls, m.Errors(), m.Quantile(0.99))
//	}
type Counts struct {
	methods sync.Map // of *tally by tallyKey
	n       atomic.Int64
}

// NewCounts returns a Counts that has counted nothing.
func NewCounts() *Counts { return new(Counts) }

// MethodCounts is what [Counts] knows of the calls of a method.
type MethodCounts struct {
	Method string // full, "/users.v1.UserService/GetUser"; "_OTHER" for those beyond 4096
	Side   Side

	Calls int64                // that have ended
	Codes map[codes.Code]int64 // of them, by the code they ended with
	Total time.Duration        // that they took together
	Max   time.Duration        // that the longest took

	buckets [numBuckets]int64
}

// Errors is how many calls ended with another code than OK.
func (m MethodCounts) Errors() int64 { return m.Calls - m.Codes[codes.OK] }

// Mean is how long a call took on average, 0 if there was none.
func (m MethodCounts) Mean() time.Duration {
	if m.Calls == 0 {
		return 0
	}
	return m.Total / time.Duration(m.Calls)
}

// Quantile is the time that the share q of the calls, from 0 to 1, took no more
// than: Quantile(0.99) is what 99 of 100 stayed below. It is at most a fifth too
// long, never more than Max, and 0 if there was no call.
func (m MethodCounts) Quantile(q float64) time.Duration {
	rank := int64(q*float64(m.Calls) + 0.999999)
	for i, n := range m.buckets {
		if rank -= n; rank <= 0 && n > 0 {
			return min(bucketLimit(i), m.Max)
		}
	}
	return m.Max
}

// Interceptor returns what counts the calls it is installed for, where it
// stands: put it first to count what the others refuse as well.
func (c *Counts) Interceptor() Interceptor {
	return func(ctx context.Context, call *Call, next Next) error {
		begun, code := time.Now(), codes.Internal // which is that of a panic
		defer func() { c.tally(call).add(code, time.Since(begun)) }()
		err := next(ctx)
		code = call.codeOf(ctx, err)
		return err
	}
}

// codeOf is what the caller gets for err.
func (c *Call) codeOf(ctx context.Context, err error) codes.Code {
	if err == nil || c.m == nil || c.Side == ClientSide {
		return errors.Code(err)
	}
	st, _, _ := c.m.e.convert(ctx, err)
	return st.Code()
}

// Snapshot returns the counts of every method that was called, in the order of
// their names. The calls that end meanwhile may be in it or not.
func (c *Counts) Snapshot() []MethodCounts {
	var all []MethodCounts
	c.methods.Range(func(key, value any) bool {
		k, t := key.(tallyKey), value.(*tally)
		all = append(all, t.counts(k))
		return true
	})
	slices.SortFunc(all, func(a, b MethodCounts) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Side, b.Side))
	})
	return all
}

type tallyKey struct {
	method string
	side   Side
}

// tally is what is counted of a method.
type tally struct {
	mu      sync.Mutex
	codes   map[codes.Code]int64
	total   time.Duration
	max     time.Duration
	buckets [numBuckets]int64
}

// tally is that of call's method, as long as there is room for it: a server
// takes names from strangers where it has a grpc.UnknownServiceHandler.
func (c *Counts) tally(call *Call) *tally {
	key := tallyKey{call.FullMethod, call.Side}
	if known, ok := c.methods.Load(key); ok {
		return known.(*tally)
	}
	if c.n.Add(1) > maxMethods {
		c.n.Add(-1)
		key.method = other
	}
	made, loaded := c.methods.LoadOrStore(key, &tally{codes: map[codes.Code]int64{}})
	if loaded && key.method != other {
		c.n.Add(-1)
	}
	return made.(*tally)
}

func (t *tally) add(code codes.Code, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.codes[min(code, undefinedCode)]++
	t.total += took
	t.max = max(t.max, took)
	t.buckets[bucketOf(took)]++
}

func (t *tally) counts(k tallyKey) MethodCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := MethodCounts{Method: k.method, Side: k.side, Codes: make(map[codes.Code]int64, len(t.codes)), Total: t.total, Max: t.max, buckets: t.buckets}
	for code, n := range t.codes {
		m.Codes[code] = n
		m.Calls += n
	}
	return m
}

// The buckets of durations: the first one ends at 1 µs, each other one 1.2 times
// as late, the last one but one beyond an hour; the last has no end.
const numBuckets = 123

var bucketLimits = func() (limits [numBuckets - 1]time.Duration) {
	limit := float64(time.Microsecond)
	for i := range limits {
		limits[i] = time.Duration(limit)
		limit *= 1.2
	}
	return limits
}()

func bucketLimit(i int) time.Duration {
	if i < len(bucketLimits) {
		return bucketLimits[i]
	}
	return 1<<63 - 1
}

func bucketOf(d time.Duration) int {
	i, _ := slices.BinarySearch(bucketLimits[:], d)
	return i
}
