package load

import (
	"cmp"
	"maps"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// late is by how much a call may begin after it was due without being counted as late.
const late = 10 * time.Millisecond

// Outcome is what came of a call.
type Outcome struct {
	Operation string
	Err       error
	Wanted    bool // the operation may end like that
}

// Tally counts the calls of a run. It is safe for concurrent use; make one with NewTally. It knows what interceptors.Counts
// does not: when a call was due, which its latency counts from, and how it was to end.
type Tally struct {
	mu     sync.Mutex
	start  time.Time
	end    time.Duration // when the first caller stopped before the plan was done; 0: none did
	wanted time.Time     // when a call ended as its operation wants for the last time
	counts Counts
	recent Latencies // since the last Progress
	told   Progress  // the last
}

// Counts is what a Tally knows at the end.
type Counts struct {
	Elapsed    time.Duration
	Calls      int64 // that ended
	Late       int64 // began more than 10 ms after they were due, all callers being busy
	Missed     int64 // were due, and never began
	MostAtOnce int
	AtOnce     int // under way
	Latencies  Latencies
	Operations map[string]*Operation
}

// Operation is what a Tally knows of the calls of one operation.
type Operation struct {
	Calls      int64
	Latencies  Latencies
	Codes      map[codes.Code]int64
	Unexpected map[codes.Code]*Unexpected
}

// Unexpected is what a Tally knows of the calls that ended with a code that their operation does not want.
type Unexpected struct {
	Calls int64
	First string // the error, as its caller is told
}

// Progress is how a run goes: all until now, but rate and latencies of the time since the last Progress.
type Progress struct {
	Elapsed     time.Duration
	Calls, Late int64
	AtOnce      int
	PerSecond   float64
	Codes       map[codes.Code]int64
	Unexpected  int64
	P50, P99    time.Duration
}

// NewTally returns a Tally of nothing.
func NewTally() *Tally { return &Tally{counts: Counts{Operations: map[string]*Operation{}}} }

// SinceWanted returns how long ago a call ended as its operation wants, and whether one did.
func (t *Tally) SinceWanted() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.wanted), !t.wanted.IsZero()
}

func (t *Tally) begin(start time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = start
}

func (t *Tally) started(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after > late {
		t.counts.Late++
	}
	t.counts.AtOnce++
	t.counts.MostAtOnce = max(t.counts.MostAtOnce, t.counts.AtOnce)
}

func (t *Tally) ended(o Outcome, latency time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.AtOnce--
	t.counts.Calls++
	t.counts.Latencies.Add(latency)
	t.recent.Add(latency)
	op := t.counts.Operations[o.Operation]
	if op == nil {
		op = &Operation{Codes: map[codes.Code]int64{}, Unexpected: map[codes.Code]*Unexpected{}}
		t.counts.Operations[o.Operation] = op
	}
	op.add(o, latency)
	if o.Wanted {
		t.wanted = time.Now()
	}
}

func (op *Operation) add(o Outcome, latency time.Duration) {
	op.Calls++
	op.Latencies.Add(latency)
	code := errors.Code(o.Err)
	op.Codes[code]++
	if o.Wanted {
		return
	}
	if op.Unexpected[code] == nil {
		op.Unexpected[code] = &Unexpected{First: messageOf(o.Err)}
	}
	op.Unexpected[code].Calls++
}

func messageOf(err error) string {
	if err == nil {
		return "it went well"
	}
	return errors.Message(err)
}

func (t *Tally) stopped(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end == 0 {
		t.end = after
	}
}

func (t *Tally) finish(p Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Elapsed = time.Since(t.start)
	t.counts.Missed = p.Pace.due(min(cmp.Or(t.end, p.Duration), p.Duration), p.calls()) - t.counts.Calls
}

// Counts returns what was counted. The run is over.
func (t *Tally) Counts() *Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &t.counts
}

// Progress returns how the run goes.
func (t *Tally) Progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Progress{
		Elapsed: time.Since(t.start), Calls: t.counts.Calls, Late: t.counts.Late, AtOnce: t.counts.AtOnce,
		Codes: t.counts.Codes(), Unexpected: t.counts.Unexpected(), P50: t.recent.Quantile(0.5), P99: t.recent.Quantile(0.99),
	}
	if since := p.Elapsed - t.told.Elapsed; since > 0 {
		p.PerSecond = float64(p.Calls-t.told.Calls) / since.Seconds()
	}
	t.recent, t.told = Latencies{}, p
	return p
}

// Total is Progress of all the time until now.
func (t *Tally) Total() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Progress{
		Calls: t.counts.Calls, Late: t.counts.Late, AtOnce: t.counts.AtOnce, Codes: t.counts.Codes(), Unexpected: t.counts.Unexpected(),
		P50: t.counts.Latencies.Quantile(0.5), P99: t.counts.Latencies.Quantile(0.99),
	}
	if t.start.IsZero() {
		return p
	}
	p.Elapsed = time.Since(t.start)
	p.PerSecond = float64(p.Calls) / max(p.Elapsed.Seconds(), 1e-9)
	return p
}

// Codes returns how many calls ended with each code.
func (c *Counts) Codes() map[codes.Code]int64 {
	all := map[codes.Code]int64{}
	for op := range maps.Values(c.Operations) {
		for code, n := range op.Codes {
			all[code] += n
		}
	}
	return all
}

// Unexpected returns how many calls ended with a code that their operation does not want.
func (c *Counts) Unexpected() int64 {
	var n int64
	for op := range maps.Values(c.Operations) {
		for _, u := range op.Unexpected {
			n += u.Calls
		}
	}
	return n
}

func nameOf(c codes.Code) string { return code.Code(c).String() }
