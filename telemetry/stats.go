package telemetry

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

// Stats counts, per signal, what became of the telemetry of a handle.
type Stats struct {
	Traces  SignalStats // in spans
	Metrics SignalStats // in data points
	Logs    SignalStats // in log records
}

// SignalStats counts what became of one signal, summed over its exporters.
// Processors and readers of the user's own are not counted.
type SignalStats struct {
	State     State
	Exported  int64 // accepted by the back end
	Dropped   int64 // never sent: the queue was full
	Failed    int64 // sent in vain, rejected, or not sent because the back end does not take them
	Queued    int   // waiting
	LastError error // of the last failed batch; nil if there was none
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
	for _, d := range s.deliveries {
		st.Exported += d.counts.exported.Load()
		st.Failed += d.counts.failed.Load()
		state, err := d.state()
		if err != nil {
			st.LastError = err
		}
		if severity[state] > severity[st.State] {
			st.State = state
		}
	}
	return st
}

var severity = map[State]int{StateIdle: 0, StateOK: 1, StateUnsupported: 2, StateFailing: 3}

func (d *delivery) state() (State, error) {
	paused := d.paused()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case paused:
		return StateUnsupported, d.lastErr
	case d.failing:
		return StateFailing, d.lastErr
	case d.counts.exported.Load() > 0:
		return StateOK, d.lastErr
	}
	return StateIdle, d.lastErr
}
