package load

import (
	"math/bits"
	"time"
)

// Latencies counts durations in buckets that are 1/32 of their value wide or narrower, from a microsecond to an hour. What
// is below or above is in the first or the last. The zero value has none.
type Latencies struct {
	n       int64
	max     time.Duration
	buckets [buckets]int64
}

const (
	subBits = 5
	sub     = 1 << subBits // buckets each time the value doubles
	buckets = 28 * sub
)

// Add counts d.
func (l *Latencies) Add(d time.Duration) {
	l.n++
	l.max = max(l.max, d)
	l.buckets[bucketOf(d)]++
}

// Merge adds what other counted.
func (l *Latencies) Merge(other *Latencies) {
	l.n += other.n
	l.max = max(l.max, other.max)
	for i, n := range other.buckets {
		l.buckets[i] += n
	}
}

// Max returns the longest; 0 if there is none.
func (l *Latencies) Max() time.Duration { return l.max }

// Quantile returns the duration that a share q of all, 0 to 1, does not exceed, too long by at most 1/32; 0 if there is none.
func (l *Latencies) Quantile(q float64) time.Duration {
	below := int64(0)
	for i, n := range l.buckets {
		below += n
		if n > 0 && float64(below) >= q*float64(l.n) {
			return min(boundOf(i), l.max)
		}
	}
	return l.max
}

// bucketOf: up to sub microseconds there is a bucket for each, above that sub for each power of two.
func bucketOf(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < sub {
		return int(us)
	}
	shift := bits.Len64(us) - subBits - 1
	return min((shift+1)*sub+int(us>>shift)-sub, buckets-1)
}

// boundOf returns the end of bucket i, which is in the next.
func boundOf(i int) time.Duration {
	if i < sub {
		return time.Duration(i+1) * time.Microsecond
	}
	shift := i/sub - 1
	return time.Duration((i%sub+sub+1)<<shift) * time.Microsecond
}
