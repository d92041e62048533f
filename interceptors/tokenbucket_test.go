package interceptors_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rpcscope/rpcscope/interceptors"
)

func ask(t testing.TB, l interceptors.Limiter, key string) interceptors.Decision {
	t.Helper()
	d, err := l.Allow(context.Background(), key)
	if err != nil {
		t.Fatalf("Allow(%q): %v", key, err)
	}
	return d
}

func TestTokenBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := interceptors.NewTokenBucket(10, 3)
		decisions := func() (all []interceptors.Decision) {
			for range 4 {
				all = append(all, ask(t, b, "ada"))
			}
			return all
		}
		ms := time.Millisecond
		want := []interceptors.Decision{
			{Allowed: true, Remaining: 2, Limit: 3, ResetAfter: 100 * ms},
			{Allowed: true, Remaining: 1, Limit: 3, ResetAfter: 200 * ms},
			{Allowed: true, Remaining: 0, Limit: 3, ResetAfter: 300 * ms},
			{RetryAfter: 100 * ms, Limit: 3, ResetAfter: 300 * ms},
		}
		if diff := cmp.Diff(want, decisions()); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		<-time.After(150 * ms)
		want = []interceptors.Decision{
			{Allowed: true, Remaining: 0, Limit: 3, ResetAfter: 250 * ms},
			{RetryAfter: 50 * ms, Limit: 3, ResetAfter: 250 * ms},
			{RetryAfter: 50 * ms, Limit: 3, ResetAfter: 250 * ms},
			{RetryAfter: 50 * ms, Limit: 3, ResetAfter: 250 * ms},
		}
		if diff := cmp.Diff(want, decisions()); diff != "" {
			t.Errorf("150 ms later (-want +got):\n%s", diff)
		}
		if d := ask(t, b, "bob"); !d.Allowed || d.Remaining != 2 {
			t.Errorf("another key got %+v, want a bucket of its own", d)
		}
	})
}

// Who comes when RetryAfter says is let in, and a nanosecond earlier not.
func TestTokenBucketRetryAfterIsExact(t *testing.T) {
	for _, perSecond := range []float64{1e-9, 1.0 / 3600, 1.0 / 3, 0.1, 1, 3, 7, 1e3, 12345.678, 1e6, 3e8, 1e9} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := interceptors.NewTokenBucket(perSecond, 1)
				ask(t, b, "")
				for range 3 {
					d := ask(t, b, "")
					if d.Allowed || d.RetryAfter <= 0 {
						t.Fatalf("got %+v, want a refusal that says when to come back", d)
					}
					if d.RetryAfter > 1 {
						<-time.After(d.RetryAfter - 1)
						if d := ask(t, b, ""); d.Allowed || d.RetryAfter != 1 {
							t.Errorf("a nanosecond too early: got %+v", d)
						}
						d.RetryAfter = 1
					}
					<-time.After(d.RetryAfter)
					if d := ask(t, b, ""); !d.Allowed {
						t.Errorf("after the time that it was told: got %+v", d)
					}
				}
			})
		})
	}
}

// exact is a token bucket in rational numbers that forgets nothing.
type exact struct {
	rate, tokens *big.Rat
	burst        int64
	at           time.Time
}

func newExact(perSecond float64, burst int) *exact {
	perNanosecond := new(big.Rat).Quo(new(big.Rat).SetFloat64(perSecond), big.NewRat(1e9, 1))
	return &exact{perNanosecond, big.NewRat(int64(burst), 1), int64(burst), time.Now()}
}

func (e *exact) allow() interceptors.Decision {
	now := time.Now()
	e.tokens.Add(e.tokens, new(big.Rat).Mul(e.rate, big.NewRat(now.Sub(e.at).Nanoseconds(), 1)))
	if full := big.NewRat(e.burst, 1); e.tokens.Cmp(full) > 0 {
		e.tokens = full
	}
	e.at = now
	one := big.NewRat(1, 1)
	d := interceptors.Decision{Allowed: e.tokens.Cmp(one) >= 0, Limit: int(e.burst)}
	if d.Allowed {
		e.tokens.Sub(e.tokens, one)
	} else {
		d.RetryAfter = e.until(1)
	}
	d.Remaining = int(new(big.Int).Quo(e.tokens.Num(), e.tokens.Denom()).Int64())
	d.ResetAfter = e.until(e.burst)
	return d
}

// until is the time until there are n tokens, rounded up.
func (e *exact) until(n int64) time.Duration {
	need := new(big.Rat).Sub(big.NewRat(n, 1), e.tokens)
	need.Quo(need, e.rate)
	ns, rest := new(big.Int).QuoRem(need.Num(), need.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		ns.Add(ns, big.NewInt(1))
	}
	return time.Duration(ns.Int64())
}

// Buckets do what rational numbers do, also when buckets are forgotten in between
// since they are full again (rule 25): that is never generous to anybody, and
// never takes anything away.
func TestRule25TokenBucketIsExact(t *testing.T) {
	for _, perSecond := range []float64{0.25, 1, 3, 100, 12345.678, 1e6, 3e8} {
		for _, burst := range []int{1, 2, 50} {
			t.Run(fmt.Sprintf("%v,%d", perSecond, burst), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const keys = 20
					b := interceptors.NewTokenBucket(perSecond, burst).WithMaxKeys(keys)
					models := make([]*exact, keys)
					for i := range models {
						models[i] = newExact(perSecond, burst)
					}
					random := rand.New(rand.NewPCG(1, 2))
					for step := range 500 {
						if random.IntN(4) == 0 {
							// From a part of an interval to more than a bucket takes to fill.
							mean := 1e9 / perSecond * math.Pow(float64(2*burst), random.Float64())
							<-time.After(time.Duration(random.ExpFloat64() * mean))
						}
						key := random.IntN(1 + random.IntN(keys)) // some more often than others
						for range 1 + random.IntN(burst+1)*random.IntN(2) {
							want, got := models[key].allow(), ask(t, b, fmt.Sprint(key))
							if diff := cmp.Diff(want, got); diff != "" {
								t.Fatalf("step %d, key %d (-want +got):\n%s", step, key, diff)
							}
						}
					}
				})
			})
		}
	}
}

// Rule 25: goroutines that ask at the same time get what one would, no more and no
// fewer.
func TestRule25TokenBucketConcurrentSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst, perSecond, keys = 500, 100, 4
		b := interceptors.NewTokenBucket(perSecond, burst)
		var admitted [keys]atomic.Int64
		storm := func() {
			var all sync.WaitGroup
			for g := range 40 {
				all.Go(func() {
					for range 100 {
						if ask(t, b, fmt.Sprint(g%keys)).Allowed {
							admitted[g%keys].Add(1)
						}
					}
				})
			}
			all.Wait()
		}
		want := int64(burst)
		for range 20 {
			storm()
			for key := range admitted {
				if got := admitted[key].Load(); got != want {
					t.Fatalf("key %d: %d were let in, want %d", key, got, want)
				}
			}
			<-time.After(1500 * time.Millisecond)
			want += 150
		}
	})
}

// The real clock goes on while goroutines ask: what they get stays within the
// formula.
func TestRule25TokenBucketRealTime(t *testing.T) {
	const burst, perSecond = 100, 20000
	b := interceptors.NewTokenBucket(perSecond, burst)
	before := time.Now()
	var admitted atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for time.Since(before) < 200*time.Millisecond {
				if ask(t, b, "key").Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	all.Wait()
	elapsed := time.Since(before)
	most := burst + perSecond*elapsed.Seconds()
	if got := float64(admitted.Load()); got > most || got < burst {
		t.Errorf("%v were let in within %v, want %v to %v", got, elapsed, burst, most)
	}
}

// Rule 25: however many keys come, the number of buckets is bounded. A flood of
// keys that go unused does not take away the bucket of one that is in use, and
// cannot refill one that is empty by pushing it out.
func TestRule25TokenBucketFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, burst = 100, 10
		b := interceptors.NewTokenBucket(1, burst).WithMaxKeys(room)
		empty := func(key string) {
			for range burst {
				ask(t, b, key)
			}
		}
		flood := func(n int, between func()) {
			for i := range n {
				ask(t, b, fmt.Sprint("flood", rand.Uint64(), i))
				between()
			}
		}
		empty("attacker")
		empty("busy")
		flood(5*room, func() {
			if ask(t, b, "busy").Allowed {
				t.Fatal("the bucket of a key that was in use is full again")
			}
		})
		// The attacker's bucket had to go. It gets the one token that a new key
		// always has, not ten.
		if d := ask(t, b, "attacker"); !d.Allowed || d.Remaining != 0 {
			t.Errorf("after the flood the key has %+v, want one token", d)
		}
		if d := ask(t, b, "attacker"); d.Allowed {
			t.Errorf("after the flood the key has %+v, want no second token", d)
		}
		<-time.After(4 * time.Second)
		if d := ask(t, b, "stranger"); d.Remaining >= burst-1 {
			t.Errorf("while the flood is remembered a new key has %+v, want fewer than a full bucket", d)
		}
		<-time.After(burst * time.Second) // whatever had to go would be full now
		if d := ask(t, b, "stranger2"); d.Remaining != burst-1 {
			t.Errorf("when the flood is over a new key has %+v, want a full bucket", d)
		}
	})
}

// Rule 25: under any flood no key gets more than its bucket gives, but for a
// token each time its bucket had to go, which takes as many other keys as there
// is room for.
func TestRule25TokenBucketFloodIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, burst, perSecond = 16, 8, 2.0
		b := interceptors.NewTokenBucket(perSecond, burst).WithMaxKeys(room)
		begun := time.Now()
		random := rand.New(rand.NewPCG(5, 6))
		admitted := 0.0
		others, gone := map[int]bool{}, 0.0
		for step := range 50000 {
			if random.IntN(50) == 0 {
				<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
			}
			if random.IntN(30) > 0 {
				key := random.IntN(1000)
				others[key] = true
				ask(t, b, fmt.Sprint(key))
				continue
			}
			if len(others) >= room {
				gone++
			}
			clear(others)
			if ask(t, b, "one").Allowed {
				admitted++
			}
			if most := burst + perSecond*time.Since(begun).Seconds() + gone; admitted > most {
				t.Fatalf("step %d: %v were let in within %v, want at most %v", step, admitted, time.Since(begun), most)
			}
		}
		if gone < 100 {
			t.Errorf("the bucket had to go %v times at most: the test shows nothing", gone)
		}
	})
}

// Ten million keys that are never seen again (rule 25).
func TestRule25TokenBucketMemoryIsFlat(t *testing.T) {
	const room = 1 << 16 // as by default
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools held goes with the second one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	b := interceptors.NewTokenBucket(0.001, 5) // none of them is full again
	n, checks := 0, []int64{}
	key := make([]byte, 0, 20)
	many := int(1e7)
	if raceEnabled {
		many = 5e5
	}
	for _, until := range []int{many / 10, many} {
		for ; n < until; n++ {
			key = strconv.AppendInt(key[:0], int64(n), 10)
			_ = ask(t, b, string(key))
		}
		checks = append(checks, heap()-before)
	}
	runtime.KeepAlive(b)
	t.Logf("%d bytes after %d keys, %d after %d: %d for each of %d", checks[0], many/10, checks[1], many, checks[1]/room, room)
	if most := int64(200 * room); checks[0] > most || checks[1] > most {
		t.Errorf("%d bytes after %d keys and %d after %d, want at most %d", checks[0], many/10, checks[1], many, most)
	}
}

// What a flood took is given back when it is over.
func TestTokenBucketShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := interceptors.NewTokenBucket(1, 1).WithMaxKeys(1 << 20)
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		for i := range 200_000 {
			ask(t, b, fmt.Sprint(i))
		}
		full := heap()
		<-time.After(time.Minute)
		for i := range 200_000 {
			ask(t, b, fmt.Sprint("user", i%100))
		}
		if saved := int64(full) - int64(heap()); saved < 10<<20 {
			t.Errorf("%d bytes were given back, want more than 10 MB", saved)
		}
		if d := ask(t, b, "user7"); d.Allowed {
			t.Errorf("a bucket in use was lost: %+v", d)
		}
		runtime.KeepAlive(b)
	})
}

func TestTokenBucketArguments(t *testing.T) {
	for want, f := range map[string]func(){
		"interceptors: NewTokenBucket: perSecond is 0, want 1e-9 to 1e9":            func() { interceptors.NewTokenBucket(0, 1) },
		"interceptors: NewTokenBucket: perSecond is -1, want 1e-9 to 1e9":           func() { interceptors.NewTokenBucket(-1, 1) },
		"interceptors: NewTokenBucket: perSecond is NaN, want 1e-9 to 1e9":          func() { interceptors.NewTokenBucket(math.NaN(), 1) },
		"interceptors: NewTokenBucket: perSecond is +Inf, want 1e-9 to 1e9":         func() { interceptors.NewTokenBucket(math.Inf(1), 1) },
		"interceptors: NewTokenBucket: perSecond is 1e+10, want 1e-9 to 1e9":        func() { interceptors.NewTokenBucket(1e10, 1) },
		"interceptors: NewTokenBucket: burst is 0, want 1 to 2147483647":            func() { interceptors.NewTokenBucket(1, 0) },
		"interceptors: NewTokenBucket: burst is 2147483648, want 1 to 2147483647":   func() { interceptors.NewTokenBucket(1, 1<<31) },
		"interceptors: TokenBucket.WithMaxKeys: n is 0, want 1 or more":             func() { interceptors.NewTokenBucket(1, 1).WithMaxKeys(0) },
		"interceptors: RateLimit: the TokenBucket was not made by NewTokenBucket":   func() { interceptors.RateLimit(new(interceptors.TokenBucket), interceptors.Global) },
		"interceptors: RateLimit: the TokenBucket was not made by NewTokenBucket\n": func() { interceptors.RateLimit((*interceptors.TokenBucket)(nil), interceptors.Global) },
	} {
		if got := panicOf(f); got != strings.TrimSpace(want) {
			t.Errorf("panicked with %v, want %q", got, want)
		}
	}
	for _, b := range []*interceptors.TokenBucket{nil, {}} {
		if d, err := b.Allow(context.Background(), ""); err == nil || d.Allowed {
			t.Errorf("Allow without NewTokenBucket: got %+v, %v, want an error", d, err)
		}
	}
	// As large as can be.
	b := interceptors.NewTokenBucket(1e-9, math.MaxInt32)
	if d := ask(t, b, ""); !d.Allowed || d.Remaining != math.MaxInt32-1 || d.ResetAfter <= 0 {
		t.Errorf("the slowest and largest bucket: got %+v", d)
	}
}

func TestTokenBucketAllocations(t *testing.T) {
	b := interceptors.NewTokenBucket(1000, 10)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { _, _ = b.Allow(ctx, "user:ada") }); n != 0 {
		t.Errorf("Allow makes %v allocations, want none", n)
	}
}

func BenchmarkTokenBucket(b *testing.B) {
	ctx := context.Background()
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprint("user:", i)
	}
	for _, n := range []int{1, len(keys)} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			l := interceptors.NewTokenBucket(1000, 10)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(n); pb.Next(); i++ {
					_, _ = l.Allow(ctx, keys[i%n])
				}
			})
		})
	}
	b.Run("keys=new", func(b *testing.B) {
		l := interceptors.NewTokenBucket(0.001, 10)
		for i := 0; b.Loop(); i++ {
			_, _ = l.Allow(ctx, fmt.Sprint(i))
		}
	})
}
