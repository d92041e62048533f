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

	mu       sync.Mutex
	queue    []T // from head on
	head     int
	inFlight int // taken out and not yet settled
	stopped  bool
	warned   bool

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
	waiting := len(b.queue) - b.head
	if b.stopped || waiting >= b.cfg.queue {
		first := !b.stopped && !b.warned
		b.warned = b.warned || first
		b.mu.Unlock()
		b.dropped.Add(1)
		if first {
			b.full()
		}
		return
	}
	if len(b.queue) == cap(b.queue) && b.head > waiting { // move up rather than grow
		clear(b.queue[copy(b.queue, b.queue[b.head:]):])
		b.queue, b.head = b.queue[:waiting], 0
	}
	b.queue = append(b.queue, v)
	ready := waiting+1 >= b.cfg.batch
	b.mu.Unlock()
	if ready {
		select {
		case b.kick <- struct{}{}:
		default:
		}
	}
}

// waiting counts the items in the queue.
func (b *batcher[T]) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) - b.head
}

// queued counts the items of which it is not known yet what becomes of them.
func (b *batcher[T]) queued() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) - b.head + b.inFlight
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
			b.err = b.drain(&batch, b.waiting())
			return
		case <-tick.C:
			_ = b.drain(&batch, b.waiting())
		case <-b.kick:
			_ = b.drain(&batch, b.waiting()/b.cfg.batch*b.cfg.batch)
		case reply := <-b.flushes:
			reply <- b.drain(&batch, b.waiting())
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
		b.settled()
		n -= took
	}
	return last
}

// take moves up to n items from the queue into batch.
func (b *batcher[T]) take(batch *[]T, n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := min(b.head+n, len(b.queue))
	taken := b.queue[b.head:end]
	*batch = append((*batch)[:0], taken...)
	clear(taken)
	if b.inFlight, b.head = len(taken), end; end == len(b.queue) {
		b.queue, b.head = b.queue[:0], 0
	}
	return b.inFlight
}

func (b *batcher[T]) settled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight = 0
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

// abortGrace is how long an aborted export may take to return. Shutdown waits
// for twice that, and no longer than half a second beyond its deadline for all.
const abortGrace = 150 * time.Millisecond
