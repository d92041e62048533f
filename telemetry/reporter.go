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
// from there, with counts; one line when it recovers.
type reporter struct {
	diag      *diagnostics
	endpoint  string
	defaulted bool

	mu       sync.Mutex
	up       bool // it has answered, at least once
	failing  bool
	since    time.Time
	reports  int
	lost     map[string]int // since the trouble began
	rejected map[string]bool
	refused  map[string]bool // signals it does not take
}

func newReporter(diag *diagnostics, endpoint string, defaulted bool) *reporter {
	return &reporter{diag: diag, endpoint: endpoint, defaulted: defaulted,
		lost: map[string]int{}, rejected: map[string]bool{}, refused: map[string]bool{}}
}

var reportAfter = []time.Duration{0, time.Minute, 5 * time.Minute, 15 * time.Minute}

// due reports whether the next line is due, and counts it.
func (r *reporter) due() bool {
	after := reportAfter[min(r.reports, len(reportAfter)-1)]
	if extra := r.reports - (len(reportAfter) - 1); extra > 0 {
		after += time.Duration(extra) * 15 * time.Minute
	}
	if time.Since(r.since) < after {
		return false
	}
	r.reports++
	return true
}

// trying is told of a failed attempt that will be repeated. It matters for an
// endpoint that has never answered: that is most likely a wrong setting, and
// should be said at once.
func (r *reporter) trying(signal string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.up {
		r.trouble(signal, err)
	}
}

// failed is told of n items that will not be delivered.
func (r *reporter) failed(signal string, n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[signal] += n
	r.trouble(signal, err)
}

func (r *reporter) trouble(signal string, err error) {
	if !r.failing {
		r.failing, r.since = true, time.Now()
	}
	if r.defaulted && !r.up {
		if r.reports == 0 {
			r.reports++
			r.diag.Info("no collector at "+r.endpoint+", the default; telemetry is dropped until one listens there (OTEL_EXPORTER_OTLP_ENDPOINT names another)", "error", cause(err))
		}
		return
	}
	if !r.due() {
		return
	}
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
func (r *reporter) succeeded(string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing && r.reports > 0 {
		r.diag.Info("telemetry is delivered again to "+r.endpoint, slog.Duration("after", time.Since(r.since).Round(time.Millisecond)), slog.Group("lost", r.lostAttrs()...))
	}
	r.up, r.failing, r.reports = true, false, 0
	clear(r.lost)
}

// reached reports whether the endpoint has answered and still does.
func (r *reporter) reached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up && !r.failing
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
	if r.refused[signal] {
		return
	}
	r.refused[signal] = true
	r.diag.Warn(r.endpoint+" does not take "+signal+"; trying again every "+pauseUnsupported.String()+" (OTEL_"+strings.ToUpper(signal)+"_EXPORTER=none turns them off)", "error", cause(err))
}

// partial is told of a request that was taken in part; said once per signal.
func (r *reporter) partial(signal string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rejected[signal] {
		return
	}
	r.rejected[signal] = true
	r.diag.Warn(r.endpoint+" rejected some "+signal+"; said once, Stats counts them", "error", cause(err))
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
