package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// sample is what one call of one contender took in one round, on average.
type sample struct {
	time   float64 // nanoseconds
	allocs float64
	bytes  float64
}

// result is what a scenario took, by contender and round.
type result struct {
	scenario   scenario
	contenders []contender
	calls      int // of each contender in each round
	samples    map[string][]sample
}

type quantity func(sample) float64

var (
	timeOf   quantity = func(s sample) float64 { return s.time }
	allocsOf quantity = func(s sample) float64 { return s.allocs }
	bytesOf  quantity = func(s sample) float64 { return s.bytes }
)

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

// measure runs rounds of the scenario. In each, every contender makes as many
// calls as the first one makes in about slice.
func measure(s scenario, contenders []contender, rounds int, slice time.Duration) (r *result, err error) {
	r = &result{scenario: s, contenders: contenders, samples: make(map[string][]sample)}
	var rigs []*rig
	defer func() {
		for _, rig := range rigs {
			err = errors.Join(err, rig.close())
		}
	}()
	for _, c := range contenders {
		rig, err := newRig(s, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.name, c.name, err)
		}
		rigs = append(rigs, rig)
	}
	if r.calls, err = calibrate(rigs[0], slice); err != nil {
		return nil, err
	}
	for _, rig := range rigs {
		if err := rig.call(r.calls / 4); err != nil { // warm
			return nil, err
		}
	}
	for round := range rounds {
		for i := range contenders {
			at := (round + i) % len(contenders)
			if round%2 == 1 { // nobody always follows the same one
				at = len(contenders) - 1 - at
			}
			sample, err := rigs[at].measure(r.calls)
			if err != nil {
				return nil, err
			}
			name := contenders[at].name
			r.samples[name] = append(r.samples[name], sample)
		}
	}
	return r, nil
}

// calibrate returns the number of calls that take about slice.
func calibrate(r *rig, slice time.Duration) (int, error) {
	for n := 1; ; n *= 2 {
		start := time.Now()
		if err := r.call(n); err != nil {
			return 0, err
		}
		if took := time.Since(start); took > slice/4 {
			return max(n, int(float64(n)*float64(slice)/float64(took))), nil
		}
	}
}

// measure makes n calls. What the calls before left to collect is not theirs.
func (r *rig) measure(n int) (sample, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	if err := r.call(n); err != nil {
		return sample{}, err
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return sample{
		time:   float64(took.Nanoseconds()) / float64(n),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, nil
}
