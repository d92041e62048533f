package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// measureOpen runs rounds in which each contender in turn holds s.open streams
// open, over one connection.
func measureOpen(s scenario, contenders []contender, rounds int) (*result, error) {
	r := newResult(s, contenders, s.open)
	growGoroutines(4 * s.open)
	for round := range rounds {
		for i := range contenders {
			c := contenders[turn(round, i, len(contenders))]
			sample, err := holdOpen(s, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", s.name, c.name, err)
			}
			r.samples[c.name] = append(r.samples[c.name], sample)
		}
	}
	return r, nil
}

// holdOpen opens streams and looks at what they hold while nothing moves: on
// both sides together, per stream.
func holdOpen(s scenario, c contender) (held sample, err error) {
	idle := runtime.NumGoroutine()
	rig, err := newRig(s, c)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, rig.close(), waitForGoroutines(idle)) }()
	before := inUse()
	streams, err := rig.open(s.open)
	if err != nil {
		return sample{}, err
	}
	after := inUse()
	runtime.KeepAlive(streams)
	n := float64(s.open)
	return sample{
		goroutines: (after.goroutines - before.goroutines) / n,
		heap:       (after.heap - before.heap) / n,
		stack:      (after.stack - before.stack) / n,
	}, nil
}

// open opens n streams and exchanges a message on each.
func (r *rig) open(n int) ([]testpb.TestService_FullDuplexCallClient, error) {
	streams := make([]testpb.TestService_FullDuplexCallClient, n)
	errs := make([]error, callers)
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			for i := caller; i < n && errs[caller] == nil; i += callers {
				if streams[i], errs[caller] = r.client.FullDuplexCall(context.Background()); errs[caller] == nil {
					errs[caller] = exchange(streams[i])
				}
			}
		})
	}
	wait.Wait()
	return streams, errors.Join(errs...)
}

// inUse is what is reachable once collecting finds nothing more: pools empty in
// two collections.
func inUse() sample {
	var m runtime.MemStats
	for before := uint64(math.MaxUint64); ; before = m.HeapAlloc {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if before < m.HeapAlloc+1<<16 {
			return sample{goroutines: float64(runtime.NumGoroutine()), heap: float64(m.HeapAlloc), stack: float64(m.StackInuse)}
		}
	}
}

// growGoroutines lets the runtime have the descriptors of so many goroutines:
// it keeps them for the next ones, so that only the first contender would pay.
func growGoroutines(n int) {
	var wait sync.WaitGroup
	held := make(chan struct{})
	for range n {
		wait.Go(func() { <-held })
	}
	close(held)
	wait.Wait()
}
