package telemetry

import "time"

// State is what became of a signal.
type State string

// The states of a signal.
const (
	StateOff         State = "off"         // not exported anywhere
	StateIdle        State = "idle"        // nothing sent yet
	StateOK          State = "ok"          // the last batch was delivered
	StateFailing     State = "failing"     // the last batch was not
	StateUnsupported State = "unsupported" // the back end does not take it; tried again every 5 minutes
)

// Stats counts, per signal, what became of the telemetry of a handle. The same is
// among its metrics, as otel.sdk.exporter.*.exported, otel.sdk.processor.*.processed
// and otel.sdk.processor.*.queue.size of the semantic conventions: there, points
// with error.type are those that failed, or that a full queue dropped.
type Stats struct {
	Traces  SignalStats // in spans
	Metrics SignalStats // in data points
	Logs    SignalStats // in log records
}

// SignalStats counts what became of one signal, summed over its exporters:
// every sampled span that has ended and every log record is, once for each
// exporter, exported, dropped, failed or queued. Processors and readers of the
// user's own, the console and what Prometheus scrapes are not counted: State
// stays idle where there is nothing else.
type SignalStats struct {
	State     State // the worst of its exporters
	Exported  int64 // accepted by the back end
	Dropped   int64 // never sent: the queue was full, or Shutdown had begun
	Failed    int64 // sent in vain, rejected, or not sent because the back end does not take them
	Queued    int   // waiting or being sent
	LastError error // of the batch that failed last; nil if there was none
}

// Stats returns the counts so far.
func (t *Telemetry) Stats() Stats {
	return Stats{
		Traces:  t.signals[signalTraces].stats(),
		Metrics: t.signals[signalMetrics].stats(),
		Logs:    t.signals[signalLogs].stats(),
	}
}

func (s *signal) stats() SignalStats {
	if !s.on {
		return SignalStats{State: StateOff}
	}
	st := SignalStats{State: StateIdle}
	for _, q := range s.queues {
		st.Queued += q.queued()
		st.Dropped += q.droppedItems()
	}
	var last time.Time
	for _, d := range s.deliveries {
		st.Exported += d.counts.exported.Load()
		st.Failed += d.counts.failed.Load()
		state, at, err := d.current()
		if err != nil && !at.Before(last) {
			st.LastError, last = err, at
		}
		if severity[state] > severity[st.State] {
			st.State = state
		}
	}
	return st
}

var severity = map[State]int{StateIdle: 0, StateOK: 1, StateUnsupported: 2, StateFailing: 3}

// current returns the state, and the last error with its time.
func (d *delivery) current() (State, time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, d.failedAt, d.lastErr
}
