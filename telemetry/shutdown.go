package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Shutdown flushes and releases everything. It takes until ctx ends at most,
// and never longer than [WithShutdownTimeout]; an expired ctx still releases
// everything. All signals are stopped side by side, each with all of the time.
//
// It returns [ErrDataLost], wrapped, when telemetry that was still queued could
// not be delivered. That nobody ever listened on the default endpoint is no
// loss: nobody asked for the data.
//
// Further calls return what the first one did. On a handle that came with
// [ErrAlreadySetup] it does nothing. Afterwards the providers do nothing, and
// Setup may be called again.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.shared {
		return nil
	}
	t.core.shutdown.Do(func() { t.result = t.stopAll(ctx) })
	return t.result
}

// Close is Shutdown within [WithShutdownTimeout]. It implements io.Closer.
func (t *Telemetry) Close() error { return t.Shutdown(context.Background()) }

// ForceFlush delivers what is queued and collects metrics once. It returns the
// context's error when it ends first, and [ErrDataLost], wrapped, when a
// configured back end did not take the data.
func (t *Telemetry) ForceFlush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(t.opts.shutdownTimeout, 10*time.Second))
	defer cancel()
	before := t.lost()
	err := t.eachSignal(ctx, func(s *signal) error { return s.flush(ctx) })
	return errors.Join(err, t.lostSince(before))
}

func (c *core) stopAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.shutdownTimeout)
	defer cancel()
	before := c.lost()
	close(c.closing)
	err := c.eachSignal(ctx, func(s *signal) error {
		var wg sync.WaitGroup
		for _, q := range s.queues { // side by side: a provider stops them one after the other
			wg.Go(func() { _ = q.Shutdown(ctx) })
		}
		stopErr := s.stop(ctx)
		wg.Wait()
		return stopErr
	})
	c.giveUp()
	err = errors.Join(err, c.scrape.close(), c.conns.close(), c.lostSince(before))
	if !c.opts.withoutGlobals {
		activeMu.Lock()
		if active == c {
			active = nil
		}
		activeMu.Unlock()
	}
	return err
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
