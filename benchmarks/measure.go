package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// sample is what one call of one contender took in one round, on average, or
// what one of its open streams held.
type sample struct {
	time   float64 // nanoseconds
	cpu    float64 // nanoseconds of all cores: what a call costs also while others use the machine
	allocs float64
	bytes  float64

	goroutines float64
	heap       float64 // bytes
	stack      float64 // bytes
}

// quantity is one of a sample.
type quantity func(sample) float64

var (
	timeOf       quantity = func(s sample) float64 { return s.time }
	cpuOf        quantity = func(s sample) float64 { return s.cpu }
	allocsOf     quantity = func(s sample) float64 { return s.allocs }
	bytesOf      quantity = func(s sample) float64 { return s.bytes }
	goroutinesOf quantity = func(s sample) float64 { return s.goroutines }
	heapOf       quantity = func(s sample) float64 { return s.heap }
	stackOf      quantity = func(s sample) float64 { return s.stack }
)

// result is what a scenario took, by contender and round.
type result struct {
	scenario   scenario
	contenders []contender
	calls      int // of each contender in each round
	samples    map[string][]sample
}

func newResult(s scenario, contenders []contender, calls int) *result {
	return &result{scenario: s, contenders: contenders, calls: calls, samples: make(map[string][]sample)}
}

// median of a contender's rounds.
func (r *result) median(name string, of quantity) float64 {
	var values []float64
	for _, s := range r.samples[name] {
		values = append(values, of(s))
	}
	return quantile(values, 0.5)
}

// ratios of a contender to another, paired by round.
func (r *result) ratios(name, to string, of quantity) []float64 {
	var values []float64
	for i, s := range r.samples[name] {
		values = append(values, of(s)/of(r.samples[to][i]))
	}
	return values
}

// ratio is the median of the paired ratios.
func (r *result) ratio(name, to string, of quantity) float64 {
	return quantile(r.ratios(name, to, of), 0.5)
}

func (r *result) has(name string) bool { return len(r.samples[name]) > 0 }

// quantile interpolates between the two values that are nearest.
func quantile(values []float64, q float64) float64 {
	values = slices.Sorted(slices.Values(values))
	at := q * float64(len(values)-1)
	below := int(at)
	above := min(below+1, len(values)-1)
	return values[below] + (at-float64(below))*(values[above]-values[below])
}

// turn returns who is the i-th of n in a round, so that nobody is always first
// nor always follows the same one.
func turn(round, i, n int) int {
	at := (round + i) % n
	if round%2 == 1 {
		return n - 1 - at
	}
	return at
}

// measure runs rounds of the scenario, after one that does not count. In each,
// every contender makes so many calls.
func measure(s scenario, contenders []contender, rounds, calls int) (*result, error) {
	r := newResult(s, contenders, calls)
	if err := r.round(0); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	clear(r.samples) // the memory that a scenario needs is new to the process
	for round := range rounds {
		if err := r.round(round); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r, nil
}

// round has servers and connections of its own: how they happen to lie in
// memory and on the cores is not to tell one contender from another in all
// rounds.
func (r *result) round(round int) (err error) {
	idle := runtime.NumGoroutine()
	rigs := make(map[string]*rig)
	defer func() {
		for _, rig := range rigs {
			err = errors.Join(err, rig.close())
		}
		err = errors.Join(err, waitForGoroutines(idle))
	}()
	for _, c := range r.contenders {
		rig, err := newRig(r.scenario, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rigs[c.name] = rig
		if err := rig.call(r.calls / 4); err != nil { // warm
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	totals := make([]sample, len(r.contenders))
	for pass := range passes {
		calls := r.calls*(pass+1)/passes - r.calls*pass/passes
		for i := range r.contenders {
			i = turn(round*passes+pass, i, len(r.contenders))
			name := r.contenders[i].name
			took, err := rigs[name].measure(calls)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			totals[i].add(took)
		}
	}
	for i, c := range r.contenders {
		r.samples[c.name] = append(r.samples[c.name], totals[i].per(r.calls))
	}
	return nil
}

// passes are what a contender's calls of a round are made in, the others' between
// them: a machine that is slower for a while is so for everybody.
const passes = 8

// fewest calls that a round is made of, however long they take: what happens once
// in a round should not count.
const fewest = 100

// calibrate returns the number of calls that take a contender about slice.
func calibrate(s scenario, c contender, slice time.Duration) (calls int, err error) {
	idle := runtime.NumGoroutine()
	rig, err := newRig(s, c)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", s.name, c.name, err)
	}
	defer func() { err = errors.Join(err, rig.close(), waitForGoroutines(idle)) }()
	for n := fewest; ; n *= 2 {
		start := time.Now()
		if err := rig.call(n); err != nil {
			return 0, fmt.Errorf("%s: %s: %w", s.name, c.name, err)
		}
		if took := time.Since(start); took > slice/2 {
			return max(fewest, int(float64(n)*float64(slice)/float64(took))), nil
		}
	}
}

// measure makes n calls and returns what they took together. What the calls
// before left to collect is not theirs.
func (r *rig) measure(n int) (sample, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu, err := cpuTime()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	if err := r.call(n); err != nil {
		return sample{}, err
	}
	took := time.Since(start)
	used, err := cpuTime()
	if err != nil {
		return sample{}, err
	}
	runtime.ReadMemStats(&after)
	return sample{
		time:   float64(took),
		cpu:    float64(used - cpu),
		allocs: float64(after.Mallocs - before.Mallocs),
		bytes:  float64(after.TotalAlloc - before.TotalAlloc),
	}, nil
}

// add adds what other calls took.
func (s *sample) add(o sample) {
	s.time, s.cpu, s.allocs, s.bytes = s.time+o.time, s.cpu+o.cpu, s.allocs+o.allocs, s.bytes+o.bytes
}

// per returns what one of so many calls took.
func (s sample) per(calls int) sample {
	n := float64(calls)
	return sample{time: s.time / n, cpu: s.cpu / n, allocs: s.allocs / n, bytes: s.bytes / n}
}

// cpuTime is what the process has used.
func cpuTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
