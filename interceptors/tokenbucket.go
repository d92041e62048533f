package interceptors

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"math/big"
	"math/bits"
	"sync"
	"time"

	"github.com/rpcscope/rpcscope/errors"
)

// defaultKeys is how many keys a [TokenBucket] knows at most.
const defaultKeys = 1 << 16

// TokenBucket is a [Limiter] within this process, with a bucket for each key. A
// call takes a token; a bucket holds burst of them, is full at first, and gets
// perSecond new ones, so that in any time t a key is allowed burst +
// perSecond*t calls at most, and no fewer if it asks often enough. The
// arithmetic is in integers and does not drift.
//
// The number of keys is bounded, see [TokenBucket.WithMaxKeys]. A bucket that
// is full again is forgotten, which makes no difference: a new one is full too.
// Only where more keys are in use at the same time than there is room for, the
// bucket that was not used for the longest time has to go. So that a flood of
// keys does not refill anybody's bucket, a key that is not known then
// begins with no more than the emptiest of the buckets that had to go would have
// by now, but with one token at least. Keys that are in use keep their buckets.
//
// Make it with [NewTokenBucket]: of the zero value and nil, Allow returns an error, and
// [RateLimit] and WithMaxKeys panic. It is safe for concurrent use.
type TokenBucket struct {
	pace
	epoch  time.Time
	seeds  [2]maphash.Seed
	shards []bucketShard
}

// NewTokenBucket makes a limiter that allows each key perSecond calls a second in
// the long run and burst at once. For 100 an hour perSecond is 100.0/3600.
//
// It panics unless perSecond is between 1e-9 (one in 31 years) and 1e9, and burst
// between 1 and 2147483647: a mistake that should not survive the start of a
// program.
func NewTokenBucket(perSecond float64, burst int) *TokenBucket {
	return newTokenBucket(newPace("NewTokenBucket", perSecond, burst), defaultKeys)
}

// WithMaxKeys returns a new limiter like b, with buckets of its own, that knows n
// keys at most. The default is 65536. A key takes about 170 bytes, however long it
// is: 11 MB for the default, whether a million keys come or ten. What a flood took
// is given back when it is over. It panics if n is not positive.
func (b *TokenBucket) WithMaxKeys(n int) *TokenBucket {
	if !b.made() {
		panic("interceptors: TokenBucket.WithMaxKeys: the TokenBucket was not made by NewTokenBucket")
	}
	if n < 1 {
		panic(fmt.Sprintf("interceptors: TokenBucket.WithMaxKeys: n is %d, want 1 or more", n))
	}
	return newTokenBucket(b.pace, n)
}

// made tells whether NewTokenBucket made b.
func (b *TokenBucket) made() bool { return b != nil && len(b.shards) > 0 }

func newTokenBucket(p pace, keys int) *TokenBucket {
	b := &TokenBucket{pace: p, epoch: time.Now(), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	n := 16
	if keys < 4096 {
		n = 1 // not worth the unevenness
	}
	b.shards = make([]bucketShard, n)
	for i := range b.shards {
		b.shards[i].room = min(max(1, keys/n), math.MaxInt32-1)
	}
	return b
}

var errNoTokenBucket = errors.New("interceptors: this TokenBucket was not made by NewTokenBucket")

// Allow takes a token of the key's bucket. It never waits, does not look at ctx,
// and fails only for a TokenBucket that [NewTokenBucket] did not make.
func (b *TokenBucket) Allow(_ context.Context, key string) (Decision, error) {
	if !b.made() {
		return Decision{}, errNoTokenBucket
	}
	// Strangers may choose the keys, so that they are neither kept nor trusted
	// to be short; the seeds are random, and 128 bits have no collisions.
	id := keyHash{maphash.String(b.seeds[0], key), maphash.String(b.seeds[1], key)}
	return b.shards[id[0]%uint64(len(b.shards))].take(&b.pace, id, int64(time.Since(b.epoch))), nil
}

// pace is how fast buckets fill. The interval between two tokens has 63
// significant bits: it is in units of 2^-shift nanoseconds.
type pace struct {
	burst    int32
	interval uint64 // 2^62 <= interval < 2^63
	shift    uint   // 0 to 62
}

func newPace(function string, perSecond float64, burst int) pace {
	if !(perSecond >= 1e-9 && perSecond <= 1e9) {
		panic(fmt.Sprintf("interceptors: %s: perSecond is %v, want 1e-9 to 1e9", function, perSecond))
	}
	if burst < 1 || burst > math.MaxInt32 {
		panic(fmt.Sprintf("interceptors: %s: burst is %d, want 1 to %d", function, burst, math.MaxInt32))
	}
	nanoseconds := new(big.Float).SetPrec(200).Quo(big.NewFloat(1e9), big.NewFloat(perSecond))
	exponent := nanoseconds.MantExp(nil)
	interval, _ := nanoseconds.SetMantExp(nanoseconds, 63-exponent).Uint64()
	return pace{burst: int32(burst), interval: interval, shift: uint(63 - exponent)}
}

// level is what is in a bucket at a time, in nanoseconds since the epoch.
type level struct {
	at     int64
	part   uint64 // of the next token, in the units of the pace; less than an interval
	tokens int32
}

func (p *pace) full(now int64) level { return level{at: now, tokens: p.burst} }

// refill adds what has come by now. Where another goroutine was faster with a
// later time, it came already.
func (p *pace) refill(l *level, now int64) {
	if now <= l.at {
		return
	}
	hi, lo := bits.Mul64(uint64(now-l.at), 1<<p.shift)
	lo, carry := bits.Add64(lo, l.part, 0)
	hi += carry
	if hi >= p.interval {
		*l = p.full(now) // 2^64 tokens and more
		return
	}
	come, part := bits.Div64(hi, lo, p.interval)
	if come >= uint64(p.burst-l.tokens) {
		*l = p.full(now)
		return
	}
	l.at, l.part = now, part
	l.tokens += int32(come)
}

// until is the time until the level has n more tokens, rounded up; at most the
// longest Duration.
func (p *pace) until(l *level, n int32) time.Duration {
	if n <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n), p.interval)
	lo, borrow := bits.Sub64(lo, l.part, 0)
	lo, carry := bits.Add64(lo, 1<<p.shift-1, 0)
	hi += carry - borrow
	if hi>>p.shift > 0 {
		return math.MaxInt64
	}
	return time.Duration(min(hi<<(64-p.shift)|lo>>p.shift, math.MaxInt64))
}

// take takes a token, if there is one.
func (p *pace) take(l *level, now int64) Decision {
	p.refill(l, now)
	d := Decision{Allowed: l.tokens > 0, Limit: int(p.burst)}
	if d.Allowed {
		l.tokens--
	} else {
		d.RetryAfter = p.until(l, 1)
	}
	d.Remaining, d.ResetAfter = int(l.tokens), p.until(l, p.burst-l.tokens)
	return d
}

func (l *level) less(than *level) bool {
	return l.tokens < than.tokens || l.tokens == than.tokens && l.part < than.part
}

type keyHash [2]uint64

// bucketShard has the buckets of some of the keys, in a ring from the one that was not
// used for the longest time to the one that was used last. There are no
// pointers in it, so that the garbage collector has nothing to look at.
type bucketShard struct {
	mu    sync.Mutex
	room  int // for so many keys
	index map[keyHash]int32
	slots []bucketSlot // the first one holds the ends of the ring
	free  int32        // a list of those that are not used, by newer; 0: none

	flooded bool  // a bucket had to go that was not full
	lost    level // the emptiest of those

	_ [64]byte // the next shard's lock is on another cache line
}

type bucketSlot struct {
	key          keyHash
	older, newer int32
	level
}

func (s *bucketShard) take(p *pace, key keyHash, now int64) Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[key]
	if ok {
		s.unlink(i)
	} else {
		i = s.add(p, key, now)
	}
	s.link(i)
	d := p.take(&s.slots[i].level, now)
	s.expire(p, now)
	return d
}

// add makes a bucket that is not in the ring yet.
func (s *bucketShard) add(p *pace, key keyHash, now int64) int32 {
	if s.index == nil {
		s.index, s.slots = make(map[keyHash]int32), make([]bucketSlot, 1)
	}
	if len(s.index) >= s.room {
		s.lose(p, now)
	}
	i := s.free
	if i != 0 {
		s.free = s.slots[i].newer
	} else {
		i = int32(len(s.slots))
		s.slots = append(s.slots, bucketSlot{})
	}
	s.slots[i] = bucketSlot{key: key, level: s.initial(p, now)}
	s.index[key] = i
	return i
}

// initial is what a key begins with that is not known.
func (s *bucketShard) initial(p *pace, now int64) level {
	if !s.flooded {
		return p.full(now)
	}
	p.refill(&s.lost, now)
	if s.flooded = s.lost.tokens < p.burst; s.lost.tokens == 0 {
		return level{at: now, tokens: 1}
	}
	return s.lost
}

// lose makes room where there is none.
func (s *bucketShard) lose(p *pace, now int64) {
	oldest := s.slots[0].newer
	l := s.slots[oldest].level
	p.refill(&l, now)
	if l.tokens < p.burst {
		p.refill(&s.lost, now)
		if !s.flooded || l.less(&s.lost) {
			s.flooded, s.lost = true, l
		}
	}
	s.forget(oldest)
}

// expire forgets two of the buckets that are full again. Each call makes one at
// most, so that this keeps up.
func (s *bucketShard) expire(p *pace, now int64) {
	for range 2 {
		oldest := s.slots[0].newer
		l := s.slots[oldest].level
		if p.refill(&l, now); l.tokens < p.burst {
			break
		}
		s.forget(oldest)
	}
	if len(s.slots) > 1024 && len(s.index) < len(s.slots)/4 {
		s.shrink()
	}
}

func (s *bucketShard) forget(i int32) {
	s.unlink(i)
	delete(s.index, s.slots[i].key)
	s.slots[i].newer, s.free = s.free, i
}

// shrink gives back the memory of a flood that is over.
func (s *bucketShard) shrink() {
	old := s.slots
	s.index, s.slots, s.free = make(map[keyHash]int32, len(s.index)), make([]bucketSlot, 1, 2*len(s.index)+1), 0
	for i := old[0].newer; i != 0; i = old[i].newer {
		j := int32(len(s.slots))
		s.slots = append(s.slots, bucketSlot{key: old[i].key, level: old[i].level})
		s.index[old[i].key] = j
		s.link(j)
	}
}

// link makes slot i the newest.
func (s *bucketShard) link(i int32) {
	newest := s.slots[0].older
	s.slots[i].older, s.slots[i].newer = newest, 0
	s.slots[newest].newer, s.slots[0].older = i, i
}

func (s *bucketShard) unlink(i int32) {
	older, newer := s.slots[i].older, s.slots[i].newer
	s.slots[older].newer, s.slots[newer].older = newer, older
}
