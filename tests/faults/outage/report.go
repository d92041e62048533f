package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// summary is a caller in a phase.
type summary struct {
	p50, p99   time.Duration // of the calls that were begun in it
	failed     float64       // share of those
	asked      float64       // calls that the server had in it, for each one that the caller began
	goroutines int64         // the most
	open       float64       // share of the samples with an open breaker
	guarded    bool          // there is a breaker
}

// summarize tells of a part of the run.
func (r *result) summarize(from, to time.Duration) (s summary) {
	var took []time.Duration
	failed := 0
	for _, c := range r.Calls {
		if c.At < from || c.At >= to {
			continue
		}
		took = append(took, c.Took)
		if c.Code != "OK" {
			failed++
		}
	}
	if len(took) == 0 {
		return s
	}
	slices.Sort(took)
	s.p50, s.p99 = took[len(took)/2], took[len(took)*99/100]
	s.failed = float64(failed) / float64(len(took))
	s.asked = float64(r.askedBy(to)-r.askedBy(from)) / float64(len(took))
	samples, open := 0, 0
	for _, sample := range r.Samples {
		if sample.At < from || sample.At >= to {
			continue
		}
		samples++
		s.goroutines = max(s.goroutines, sample.Goroutines)
		s.guarded = s.guarded || sample.Breaker >= 0
		if sample.Breaker == 2 {
			open++
		}
	}
	s.open = float64(open) / float64(max(samples, 1))
	return s
}

// askedBy is how many calls the server has had by a time of the run.
func (r *result) askedBy(at time.Duration) (calls int64) {
	for _, a := range r.Asked {
		if a.At > at+tick/2 {
			break
		}
		calls = a.Calls
	}
	return calls
}

// report is what was measured, as Markdown.
func report(p plan, results []*result) string {
	var b strings.Builder
	fewest, most := math.MaxInt, 0
	for _, r := range results {
		fewest, most = min(fewest, len(r.Calls)), max(most, len(r.Calls))
	}
	fmt.Fprintf(&b, "%s, %s/%s, %d cores. Each caller began %d to %d calls, one every %v.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), fewest, most, interval)
	b.WriteString("\n| set-up | what it is |\n| --- | --- |\n")
	for _, s := range setups() {
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.what)
	}
	for n, phase := range p {
		from, to := p.window(n)
		fmt.Fprintf(&b, "\n**%s**, second %.0f to %.0f:\n\n", phase.Name, from.Seconds(), to.Seconds())
		b.WriteString("| set-up | p50 | p99 | calls that failed | asked of the server, per call | goroutines at most | breaker open |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for i, r := range results {
			s := r.summarize(from, to)
			open := "-"
			if s.guarded {
				open = fmt.Sprintf("%.0f %% of the time", s.open*100)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %.1f %% | %.2f | %d | %s |\n", setups()[i].name, millis(s.p50), millis(s.p99), s.failed*100, s.asked, s.goroutines, open)
		}
	}
	b.WriteString("\nWhat the metrics say about the whole run:\n\n")
	b.WriteString("| set-up | calls, by code | `rpcscope.client.attempts` | `.retries.stopped` | `.rejected` | `.breaker.transitions` to | the server's calls |\n| --- | --- | --- | --- | --- | --- | ---: |\n")
	for i, r := range results {
		ended := map[string]int64{}
		for _, c := range r.Calls {
			ended[c.Code]++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d |\n", setups()[i].name, list(ended), list(r.Attempts), list(r.Stopped), list(r.Refused), list(r.Moves), r.Asked[len(r.Asked)-1].Calls)
	}
	return b.String()
}

func millis(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// list is "3 a, 5 b", or "-".
func list(counts map[string]int64) string {
	var parts []string
	for name, n := range counts {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// What was measured stands between these lines of docs/faults.md.
const (
	begins = "<!-- begin: what an outage does, written by go run ./faults/outage -write in tests -->\n"
	ends   = "<!-- end: what an outage does -->\n"
)

func write(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replace(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// replace puts section between the two lines of text.
func replace(text, section string) (string, error) {
	before, rest, found := strings.Cut(text, begins)
	_, after, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return "", fmt.Errorf("want the line %q and after it %q", begins, ends)
	}
	return before + begins + "\n" + section + "\n" + ends + after, nil
}
