package interceptors

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// gradient is the limit of [AdaptiveLimit], after Netflix' concurrency-limits and
// Envoy's adaptive concurrency filter: the limit follows the ratio of what calls
// take with little to do to what they take now. Unlike these it compares each
// method with itself, so that a change of what is called is no change of load.
type gradient struct {
	places
	limit   atomic.Int64 // what is let in now
	streams atomic.Int64 // of the places that are taken
	shed    atomic.Bool  // since the window began
	until   atomic.Int64 // when the trial ends at the latest, in ns since 1970; zero is that there is none

	least, most float64

	mu      sync.Mutex
	exact   float64 // the limit as it is when nothing is tried out
	window  window
	mean    float64 // seconds that calls took in the window before; zero is not known
	trying  trial
	rested  time.Time     // when there was little to do
	pause   time.Duration // from then to the next trial
	methods map[string]*duration
}

// window is what was seen since the limit changed and calls have felt it.
type window struct {
	settled  time.Time // calls that ended before say little about it
	calls    int
	peak     int64   // unary calls at the same time
	took     float64 // in seconds, of calls of methods that are known
	expected float64 // with little to do
	total    float64 // of all
}

// duration is what the calls of a method take.
type duration struct {
	usual float64 // in seconds, with little to do; zero is not known
	sum   float64 // of the calls in the window
	calls int
}

// trial is whether little to do is being made.
type trial uint8

const (
	noTrial trial = iota
	draining
	trialling
)

func newGradient(initial, least, most int) *gradient {
	now := time.Now()
	g := &gradient{least: float64(least), most: float64(most), exact: float64(initial), methods: make(map[string]*duration), rested: now, pause: time.Second}
	g.limit.Store(int64(initial))
	g.window = window{settled: now}
	return g
}

// ticket is a place that a call has.
type ticket struct {
	start  time.Time
	stream bool
}

// now is the limit as it is now.
func (g *gradient) now() int {
	if until := g.until.Load(); until != 0 {
		g.expire(until)
	}
	return int(g.limit.Load())
}

// expire ends a trial whose time is over: where no call succeeds, none is measured.
func (g *gradient) expire(until int64) {
	now := time.Now()
	if now.UnixNano() < until {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.Load() == until {
		g.adapt(now)
		g.next(now)
	}
}

func (g *gradient) enter(limit int, stream bool) (ticket, bool) {
	if !g.take(limit) {
		g.shed.Store(true)
		return ticket{}, false
	}
	if stream {
		g.streams.Add(1)
	}
	return ticket{time.Now(), stream}, true
}

// leave gives the place back.
func (g *gradient) leave(t ticket) {
	if t.stream {
		g.streams.Add(-1)
	}
	g.taken.Add(-1)
}

// measured gives the place back and takes the time of the call into account. cut
// says that it would have taken longer.
func (g *gradient) measured(t ticket, method string, cut bool) {
	now := time.Now()
	running := g.taken.Load() - g.streams.Load()
	g.leave(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trying == draining {
		if running-1 <= g.limit.Load()-g.streams.Load() {
			g.trying = trialling
			g.next(now)
		}
		return
	}
	d, seconds := g.duration(method), now.Sub(t.start).Seconds()
	if now.Before(g.window.settled) || cut && seconds <= d.usual {
		return
	}
	g.window.add(d, seconds, running)
	switch {
	case g.window.complete(now) && g.mean == 0:
		// The quick calls of the first window ended first: it only shows how long a window has to be.
		g.next(now)
	case g.window.complete(now):
		g.adapt(now)
		g.next(now)
	}
}

func (g *gradient) duration(method string) *duration {
	d := g.methods[method]
	if d == nil {
		if len(g.methods) >= knownMethods {
			method = ""
		}
		if d = g.methods[method]; d == nil {
			d = new(duration)
			g.methods[method] = d
		}
	}
	return d
}

func (w *window) add(d *duration, seconds float64, running int64) {
	w.calls++
	w.peak = max(w.peak, running)
	w.total += seconds
	if d.usual > 0 {
		w.took += seconds
		w.expected += d.usual
	}
	d.sum += seconds
	d.calls++
}

func (w *window) complete(now time.Time) bool {
	length := now.Sub(w.settled)
	return w.calls >= windowCalls && length >= windowTime && length.Seconds() >= windowLengths*w.total/float64(w.calls)
}

// next begins another window, which counts when the calls that run have ended.
func (g *gradient) next(now time.Time) {
	if g.window.calls > 0 {
		g.mean = g.window.total / float64(g.window.calls)
	}
	g.window = window{settled: now.Add(time.Duration(g.mean * 1e9))}
	g.shed.Store(false)
	for _, d := range g.methods {
		d.sum, d.calls = 0, 0
	}
}

// adapt sets the limit by what the window has shown.
func (g *gradient) adapt(now time.Time) {
	streams := float64(g.streams.Load())
	room := max(g.exact-streams, 1)
	quiet := g.trying != noTrial || !g.shed.Load() && float64(g.window.peak) <= room/2
	ratio := g.window.ratio()
	g.learn(quiet)
	switch {
	case g.trying != noTrial:
		g.trying, g.rested = noTrial, now
		g.until.Store(0)
		// What was better than known is likely to get better still.
		if g.pause = min(2*g.pause, restless); ratio < 1/tolerance {
			g.pause = time.Second
		}
	case quiet:
		g.rested = now
	default:
		factor := min(max(tolerance/ratio, 0.5), 1)
		g.exact = min(max(streams+room*factor+math.Sqrt(room), g.least), g.most)
		if now.Sub(g.rested) > g.pause {
			g.trying = draining
			g.until.Store(now.Add(probeTime).UnixNano())
			g.limit.Store(int64(max(streams+max(room/2, 1), 1)))
			return
		}
	}
	g.limit.Store(int64(g.exact))
}

// ratio is how many times as long as with little to do calls took.
func (w *window) ratio() float64 {
	if w.expected == 0 {
		return 1
	}
	return w.took / w.expected
}

// learn takes what calls took as what they take with little to do, where there
// was, where nothing is known yet, and where it is less.
func (g *gradient) learn(quiet bool) {
	for _, d := range g.methods {
		if d.calls == 0 {
			continue
		}
		mean := d.sum / float64(d.calls)
		switch {
		case d.usual == 0:
			d.usual = mean
		case quiet || mean*tolerance*tolerance < d.usual:
			// A few calls say little: the weight is that of a call in twenty.
			weight := float64(d.calls) / float64(d.calls+windowCalls)
			d.usual += weight * (mean - d.usual)
		}
	}
}
