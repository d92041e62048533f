package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Shutdown flushes and releases everything. It takes until ctx ends at most,
// and never longer than [WithShutdownTimeout]; then it breaks off what is under
// way, cuts the connections and gives up to half a second to those that have to
// notice. So an expired ctx releases everything too. All signals are stopped
// side by side, each with all of the time.
//
// It returns [ErrDataLost], wrapped, when telemetry that was still queued could
// not be delivered. That nobody ever listened on the default endpoint is no
// loss: nobody asked for the data.
//
// Further calls return what the first one did, or their own ctx's error when
// that ends before. On a handle that came with
// [ErrAlreadySetup] it does nothing. Afterwards the providers do nothing, and
// Setup may be called again.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.shared {
		return nil
	}
	first := false
	t.core.shutdown.Do(func() { first = true })
	if first {
		t.result = t.stopAll(ctx)
		close(t.stopped)
	}
	select {
	case <-t.stopped:
		return t.result
	default:
	}
	select {
	case <-t.stopped:
		return t.result
	case <-ctx.Done(): // not later than told, whatever the first call's ctx allows
		return ctx.Err()
	}
}

// Close is Shutdown within [WithShutdownTimeout]. It implements io.Closer.
func (t *Telemetry) Close() error { return t.Shutdown(context.Background()) }

// ForceFlush delivers what is queued and collects metrics once, all signals
// side by side. It takes until ctx ends at most, and never longer than
// [WithShutdownTimeout] or 10 seconds, whichever is more. It returns the
// context's error when that ends first, and [ErrDataLost], wrapped, when a
// configured back end did not take the data. After Shutdown it does nothing.
func (t *Telemetry) ForceFlush(ctx context.Context) error {
	select {
	case <-t.closing:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, max(t.opts.shutdownTimeout, 10*time.Second))
	defer cancel()
	before := t.lost()
	err := t.eachSignal(ctx, func(s *signal) error { return s.forceFlush(ctx) })
	return errors.Join(err, t.lostSince(before))
}

func (c *core) stopAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.shutdownTimeout)
	defer cancel()
	before := c.lost()
	close(c.closing)
	stop := context.AfterFunc(ctx, func() { // at the deadline nothing sends any more
		c.giveUp()
		c.conns.raw.cut()
	})
	scraped := make(chan error, 1)
	go func() { scraped <- c.scrape.close() }()
	err := c.eachSignal(ctx, func(s *signal) error { return s.shutdown(ctx) })
	c.giveUp()
	err = errors.Join(err, c.conns.close(), <-scraped, c.lostSince(before))
	stop()
	if !c.opts.withoutGlobals {
		activeMu.Lock()
		if active == c {
			active = nil
		}
		activeMu.Unlock()
	}
	return err
}

// shutdown stops a signal's queues and readers side by side, each with all of
// the time: left to itself its provider stops them one after the other.
func (s *signal) shutdown(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, q := range s.queues {
		wg.Go(func() { _ = q.Shutdown(ctx) }) // the provider returns the error too
	}
	if len(s.readers) == 0 {
		err := s.stop(ctx)
		wg.Wait()
		return err
	}
	before := s.settled()
	errs := make([]error, len(s.readers))
	for i, r := range s.readers {
		wg.Go(func() { errs[i] = r.Shutdown(ctx) })
	}
	wg.Wait()
	_ = s.stop(ctx) // nothing but the readers, again
	err := errors.Join(errs...)
	if err != nil && s.settled() == before && slices.ContainsFunc(s.deliveries, (*delivery).wanted) {
		s.cut.Store(true) // there was no time to collect
	}
	return err
}

// forceFlush flushes a signal's queues and readers side by side.
func (s *signal) forceFlush(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.readers))
	for i, r := range s.readers {
		if f, ok := r.(interface{ ForceFlush(context.Context) error }); ok {
			wg.Go(func() { errs[i] = f.ForceFlush(ctx) })
		}
	}
	for _, q := range s.queues {
		wg.Go(func() { _ = q.ForceFlush(ctx) }) // the provider returns the error too
	}
	var err error
	if len(s.readers) == 0 {
		err = s.flush(ctx)
	}
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// settled counts what was delivered or failed.
func (s *signal) settled() (n int64) {
	for _, d := range s.deliveries {
		n += d.counts.exported.Load() + d.counts.failed.Load()
	}
	return n
}

// eachSignal runs f for all signals side by side. Once ctx is done it waits no
// longer than aborted exports may take.
func (c *core) eachSignal(ctx context.Context, f func(*signal) error) error {
	results := make(chan error, len(c.signals))
	n := 0
	for _, s := range c.signals {
		if s.on {
			n++
			go func() { results <- f(s) }()
		}
	}
	var errs []error
	collect := func(until <-chan time.Time, done <-chan struct{}) bool {
		for ; n > 0; n-- {
			select {
			case err := <-results:
				if !errors.Is(err, errReported) {
					errs = append(errs, err)
				}
			case <-done:
				return false
			case <-until:
				return false
			}
		}
		return true
	}
	if !collect(nil, ctx.Done()) {
		grace := time.NewTimer(2 * abortGrace)
		defer grace.Stop()
		if !collect(grace.C, nil) {
			errs = append(errs, ctx.Err())
		}
	}
	return errors.Join(errs...)
}

// lost counts, by signal, what was meant to arrive and did not.
func (c *core) lost() map[string]int64 {
	lost := map[string]int64{}
	for name, s := range c.signals {
		for _, d := range s.deliveries {
			lost[name] += d.counts.lost.Load()
		}
	}
	return lost
}

func (c *core) lostSince(before map[string]int64) error {
	var parts []string
	for _, name := range []string{signalTraces, signalMetrics, signalLogs} {
		if c.signals[name].cut.Load() {
			parts = append(parts, "the last "+name)
		}
		n := c.lost()[name] - before[name]
		if n <= 0 {
			continue
		}
		what := map[string]string{signalTraces: "spans", signalMetrics: "data points", signalLogs: "log records"}[name]
		parts = append(parts, fmt.Sprintf("%d %s", n, what))
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDataLost, strings.Join(parts, ", "))
}
