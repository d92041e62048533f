package telemetry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exports records batches.
type exports struct {
	mu      sync.Mutex
	batches [][]int
	err     error
	block   bool
}

func (e *exports) export(ctx context.Context, batch []int) error {
	e.mu.Lock()
	e.batches = append(e.batches, append([]int(nil), batch...))
	block := e.block
	e.mu.Unlock()
	if block {
		<-ctx.Done()
		return ctx.Err()
	}
	return e.err
}

func (e *exports) got() [][]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.batches
}

var testBatch = batchConfig{queue: 8, batch: 3, delay: time.Second, timeout: 10 * time.Second}

func TestBatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e exports
		b := newBatcher(testBatch, e.export, func() { t.Error("full") })
		for i := range 7 {
			b.put(i)
			synctest.Wait()
		}
		want := [][]int{{0, 1, 2}, {3, 4, 5}} // full batches at once
		if diff := cmp.Diff(want, e.got()); diff != "" {
			t.Errorf("at once, -want +got:\n%s", diff)
		}
		advance(time.Second)
		synctest.Wait()
		want = append(want, []int{6}) // the rest after the delay
		if diff := cmp.Diff(want, e.got()); diff != "" {
			t.Errorf("after the delay, -want +got:\n%s", diff)
		}
		b.put(7)
		if err := b.flush(t.Context()); err != nil {
			t.Error(err)
		}
		want = append(want, []int{7})
		if diff := cmp.Diff(want, e.got()); diff != "" {
			t.Errorf("flushed, -want +got:\n%s", diff)
		}
		for i := range 2 {
			b.put(10 + i)
		}
		if err := b.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		want = append(want, []int{10, 11})
		if diff := cmp.Diff(want, e.got()); diff != "" {
			t.Errorf("shut down, -want +got:\n%s", diff)
		}
		b.put(99)
		if err := errors.Join(b.shutdown(t.Context()), b.flush(t.Context())); err != nil || b.queued() != 0 || b.droppedItems() != 1 || len(e.got()) != len(want) {
			t.Errorf("after shutdown: error %v, %d queued, %d dropped, %d batches", err, b.queued(), b.droppedItems(), len(e.got()))
		}
	})
}

// A blocked export costs what does not fit into the queue, counted, said once.
func TestBatcherDrops(t *testing.T) { // rules 33, 34
	synctest.Test(t, func(t *testing.T) {
		e := exports{block: true}
		var full atomic.Int64
		b := newBatcher(testBatch, e.export, func() { full.Add(1) })
		for i := range 3 {
			b.put(i)
		}
		synctest.Wait() // the export is under way
		for i := range 20 {
			b.put(i)
		}
		if b.queued() != 8+3 || b.droppedItems() != 12 || full.Load() != 1 {
			t.Errorf("%d queued or under way, %d dropped, said %d times; want 11, 12, once", b.queued(), b.droppedItems(), full.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := b.shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("shutdown: %v after %s", err, time.Since(start))
		}
		if b.queued() != 0 {
			t.Errorf("%d items were neither exported nor given up", b.queued())
		}
	})
}

// One export may take so long, then the next begins.
func TestBatcherTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := exports{block: true}
		b := newBatcher(testBatch, e.export, func() {})
		for i := range 6 {
			b.put(i)
		}
		advance(testBatch.timeout + time.Millisecond)
		synctest.Wait()
		if n := len(e.got()); n != 2 {
			t.Errorf("%d exports began, want 2", n)
		}
		expired, cancel := context.WithCancel(t.Context())
		cancel()
		_ = b.shutdown(expired)
	})
}

// A queue that is never empty does not grow, and does not hold what is gone.
func TestBatcherStaysSmall(t *testing.T) { // rule 33
	release := make(chan struct{})
	b := newBatcher(batchConfig{queue: 8, batch: 2, delay: time.Hour, timeout: time.Hour}, func(context.Context, []*int) error {
		<-release
		return nil
	}, func() {})
	for range 10_000 {
		for b.waiting() < 8 {
			b.put(new(int))
		}
		release <- struct{}{}
	}
	b.mu.Lock()
	for i, v := range b.queue[:b.head] {
		if v != nil {
			t.Errorf("item %d is gone and still held", i)
		}
	}
	if n := cap(b.queue); n > 32 {
		t.Errorf("the queue of 8 has grown to %d", n)
	}
	b.mu.Unlock()
	close(release)
	if err := b.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBatcherConcurrentSafe(t *testing.T) {
	var n atomic.Int64
	b := newBatcher(batchConfig{queue: 100_000, batch: 16, delay: time.Millisecond, timeout: time.Second}, func(_ context.Context, batch []int) error {
		n.Add(int64(len(batch)))
		return nil
	}, func() {})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				b.put(i)
			}
			_ = b.flush(t.Context())
		})
	}
	wg.Wait()
	if err := b.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n.Load() != 8000 || b.droppedItems() != 0 {
		t.Errorf("exported %d, dropped %d; want 8000, 0", n.Load(), b.droppedItems())
	}
}

func BenchmarkBatcherPut(b *testing.B) {
	q := newBatcher(batchConfig{queue: 2048, batch: 512, delay: time.Second, timeout: time.Second}, func(context.Context, []*int) error { return nil }, func() {})
	defer func() { _ = q.shutdown(context.Background()) }()
	x := new(int)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q.put(x)
		}
	})
}
