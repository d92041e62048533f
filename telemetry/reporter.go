package telemetry

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// reporter says how one endpoint is doing, once for all signals that go there:
// for an endpoint nobody configured one INFO line when nothing listens; for a
// configured one a WARN, then after 1, 5 and 15 minutes and every 15 minutes
// from there, with counts; one line when it recovers. An endpoint that comes
// and goes is reported ever less often.
type reporter struct {
	diag      *diagnostics
	endpoint  string
	defaulted bool

	mu       sync.Mutex
	up       bool            // it has answered, at least once
	failing  map[string]bool // signals it refuses; everyone when it cannot be reached
	since    time.Time       // when the trouble began; zero before the first
	calm     time.Time       // when it was over; zero while it lasts
	relapses int             // times it came back within calmAfter
	reports  int             // the next entry of the schedule
	said     bool            // there was a line about it
	lastLine time.Time
	lost     map[string]int  // what no recovery line has counted yet
	rejected map[string]bool // what partial has said
	refused  map[string]bool // signals it does not take
}

// everyone stands for all signals at once.
const everyone = ""

func newReporter(diag *diagnostics, endpoint string, defaulted bool) *reporter {
	return &reporter{diag: diag, endpoint: endpoint, defaulted: defaulted, failing: map[string]bool{},
		lost: map[string]int{}, rejected: map[string]bool{}, refused: map[string]bool{}}
}

// calmAfter is how long an endpoint must do well for its next trouble to be news.
const calmAfter = 5 * time.Minute

// schedule says how long after the trouble began the nth line is due.
func schedule(n int) time.Duration {
	switch n {
	case 0:
		return 0
	case 1:
		return time.Minute
	case 2:
		return 5 * time.Minute
	}
	return time.Duration(n-2) * 15 * time.Minute
}

// due reports whether a line is due, and counts it. What comes back is news
// only if nothing was said for a while, longer each time.
func (r *reporter) due() bool {
	lasts := time.Since(r.since)
	if lasts < schedule(r.reports) || r.relapses > 0 && time.Since(r.lastLine) < schedule(min(r.relapses, 3)) {
		return false
	}
	for lasts >= schedule(r.reports) {
		r.reports++
	}
	return true
}

// trying is told of a failed attempt that will be repeated. It matters for an
// endpoint that has never answered: that is most likely a wrong setting, and
// should be said at once.
func (r *reporter) trying(signal string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.up {
		r.trouble(signal, 0, err)
	}
}

// failed is told of n items that will not be delivered.
func (r *reporter) failed(signal string, n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble(signal, n, err)
}

func (r *reporter) trouble(signal string, n int, err error) {
	if len(r.failing) == 0 {
		if r.relapses++; r.since.IsZero() || time.Since(r.calm) >= calmAfter {
			r.relapses = 0
		}
		r.since, r.reports, r.said = time.Now(), 0, false
	}
	r.lost[signal] += n
	if again, _ := retryable(err); again {
		r.failing[everyone] = true
	} else {
		r.failing[signal] = true // what is wrong with this signal may be right with the next
	}
	if r.defaulted && !r.up {
		if r.reports == 0 {
			r.reports, r.said, r.lastLine = 1, true, time.Now()
			r.diag.Info("no collector at "+r.endpoint+", the default; telemetry is dropped until one listens there (OTEL_EXPORTER_OTLP_ENDPOINT names another)", "error", cause(err))
		}
		return
	}
	if !r.due() {
		return
	}
	r.said, r.lastLine = true, time.Now()
	attrs := []any{slog.String("signal", signal), slog.String("error", cause(err))}
	if r.reports > 1 {
		attrs = append(attrs, slog.Duration("for", time.Since(r.since).Round(time.Second)))
	}
	attrs = append(attrs, slog.Group("lost", r.lostAttrs()...))
	r.diag.Warn("cannot deliver telemetry to "+r.endpoint, attrs...)
}

func (r *reporter) lostAttrs() []any {
	var attrs []any
	for _, signal := range []string{signalTraces, signalMetrics, signalLogs} {
		if n := r.lost[signal]; n > 0 {
			attrs = append(attrs, slog.Int(signal, n))
		}
	}
	return attrs
}

// succeeded is told of a delivered batch.
func (r *reporter) succeeded(signal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = true
	if r.refused[signal] {
		delete(r.refused, signal)
		r.diag.Info(r.endpoint + " takes " + signal + " now")
	}
	troubled := len(r.failing) > 0
	delete(r.failing, everyone)
	delete(r.failing, signal)
	if !troubled || len(r.failing) > 0 {
		return
	}
	r.calm = time.Now()
	if r.said {
		r.lastLine = r.calm
		r.diag.Info("telemetry is delivered again to "+r.endpoint, slog.Duration("after", time.Since(r.since).Round(time.Millisecond)), slog.Group("lost", r.lostAttrs()...))
		clear(r.lost)
	}
}

// reached reports whether the endpoint has answered and still does.
func (r *reporter) reached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up && !r.failing[everyone]
}

// unasked reports whether this is the default endpoint and nobody has ever
// listened there: no one waits for the data.
func (r *reporter) unasked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.defaulted && !r.up
}

// unsupported is told of a signal that the back end does not take.
func (r *reporter) unsupported(signal string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = true
	delete(r.failing, signal)
	if r.refused[signal] {
		return
	}
	r.refused[signal] = true
	r.diag.Warn(r.endpoint+" does not take "+signal+"; trying again every "+pauseUnsupported.String()+" (OTEL_"+strings.ToUpper(signal)+"_EXPORTER=none turns them off)", "error", cause(err))
}

// partial is told of a request that was taken with n items rejected, or none
// but a warning; said once per signal.
func (r *reporter) partial(signal string, n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, what := signal, " rejected some "+signal+"; said once, Stats counts them"
	if n == 0 {
		key, what = "warned of "+signal, " took all "+signal+" with a warning; said once"
	}
	if r.rejected[key] {
		return
	}
	r.rejected[key] = true
	r.diag.Warn(r.endpoint+what, "error", cause(err))
}

// cause cuts the exporters' prefixes, which say nothing, off an error.
func cause(err error) string {
	text := err.Error()
	for line := range strings.SplitSeq(text, "\n") {
		for _, prefix := range []string{"traces export: ", "failed to upload metrics: ", "failed to upload logs: "} {
			line = strings.TrimPrefix(line, prefix)
		}
		if i := strings.Index(line, "desc = "); i >= 0 {
			line = line[i+len("desc = "):]
		}
		if line = strings.Trim(line, `" `); line != "" && !slices.Contains([]string{"<nil>"}, line) {
			return shorten(line, 300)
		}
	}
	return shorten(text, 300)
}
