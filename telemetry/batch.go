package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// batcher is a bounded queue that one goroutine empties in batches. Putting
// never blocks: what does not fit is dropped and counted. It replaces the
// SDK's batch processors, which can neither tell what they dropped nor be
// stopped before their exports time out.
type batcher[T any] struct {
	cfg    batchConfig
	export func(ctx context.Context, batch []T) error // serial calls; reports its own failures
	full   func()                                     // called once, when the first item is dropped

	mu      sync.Mutex
	queue   []T
	stopped bool
	warned  bool

	dropped atomic.Int64
	kick    chan struct{}      // a batch is ready
	flushes chan chan error    // ForceFlush asks
	stop    chan struct{}      // closed by shutdown
	ctx     context.Context    // of exports; ends when shutdown gives up
	cancel  context.CancelFunc // of ctx
	done    chan struct{}      // closed when the goroutine has returned
	err     error              // of the last drain; read after done
}

func newBatcher[T any](cfg batchConfig, export func(context.Context, []T) error, full func()) *batcher[T] {
	b := &batcher[T]{
		cfg:     cfg,
		export:  export,
		full:    full,
		kick:    make(chan struct{}, 1),
		flushes: make(chan chan error),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	go b.run()
	return b
}

// put queues v, or drops it when the queue is full or stopped.
func (b *batcher[T]) put(v T) {
	b.mu.Lock()
	switch {
	case b.stopped:
		b.mu.Unlock()
		return
	case len(b.queue) >= b.cfg.queue:
		first := !b.warned
		b.warned = true
		b.mu.Unlock()
		b.dropped.Add(1)
		if first {
			b.full()
		}
		return
	}
	b.queue = append(b.queue, v)
	ready := len(b.queue) >= b.cfg.batch
	b.mu.Unlock()
	if ready {
		select {
		case b.kick <- struct{}{}:
		default:
		}
	}
}

func (b *batcher[T]) queued() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

func (b *batcher[T]) droppedItems() int64 { return b.dropped.Load() }

func (b *batcher[T]) run() {
	defer close(b.done)
	tick := time.NewTicker(b.cfg.delay)
	defer tick.Stop()
	batch := make([]T, 0, min(b.cfg.batch, 64))
	for {
		select {
		case <-b.stop:
			b.err = b.drain(&batch, b.queued())
			return
		case <-tick.C:
			_ = b.drain(&batch, b.queued())
		case <-b.kick:
			_ = b.drain(&batch, b.queued()/b.cfg.batch*b.cfg.batch)
		case reply := <-b.flushes:
			reply <- b.drain(&batch, b.queued())
		}
	}
}

// drain exports n queued items in batches and returns the last error.
func (b *batcher[T]) drain(batch *[]T, n int) error {
	var last error
	for n > 0 {
		took := b.take(batch, min(n, b.cfg.batch))
		if took == 0 {
			break
		}
		ctx, cancel := context.WithTimeout(b.ctx, b.cfg.timeout)
		if err := b.export(ctx, *batch); err != nil {
			last = err
		}
		cancel()
		clear(*batch)
		n -= took
	}
	return last
}

// take moves up to n items from the queue into batch.
func (b *batcher[T]) take(batch *[]T, n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.queue))
	*batch = append((*batch)[:0], b.queue[:n]...)
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	return n
}

// flush exports what was queued when it was called.
func (b *batcher[T]) flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case b.flushes <- reply:
	case <-b.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shutdown exports what is queued and ends the goroutine. When ctx ends first
// the exports are aborted, and what is left counts as not delivered.
func (b *batcher[T]) shutdown(ctx context.Context) error {
	b.mu.Lock()
	first := !b.stopped
	b.stopped = true
	b.mu.Unlock()
	if first {
		close(b.stop)
	}
	defer b.cancel()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	}
	b.cancel()
	grace := time.NewTimer(abortGrace)
	defer grace.Stop()
	select {
	case <-b.done:
	case <-grace.C: // an exporter that ignores its context
	}
	return ctx.Err()
}

// abortGrace is how long an aborted export may take to return.
const abortGrace = 250 * time.Millisecond
