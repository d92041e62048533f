package load

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc/codes"
)

// How often a run tells how it goes: a line that is written over on a terminal, else one after the other.
const (
	eachOnTerminal = 500 * time.Millisecond
	eachElsewhere  = 5 * time.Second
)

// tell writes how the run goes to w until ctx is done.
func tell(ctx context.Context, w io.Writer, terminal bool, name string, of time.Duration, tally *Tally) {
	each, before, after := eachElsewhere, "", "\n"
	if terminal {
		each, before, after = eachOnTerminal, "\r\x1b[K", ""
		defer fmt.Fprint(w, before)
	}
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			fmt.Fprint(w, before, tally.Progress().line(name, of), after)
		}
	}
}

func (p Progress) line(name string, of time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v/%v  %.0f/s  at once %d  p50 %s  p99 %s  %s", name, p.Elapsed.Round(time.Second), of,
		p.PerSecond, p.AtOnce, short(p.P50), short(p.P99), codesText(p.Codes))
	if p.Late > 0 {
		fmt.Fprintf(&b, "  late %d", p.Late)
	}
	if p.Unexpected > 0 {
		fmt.Fprintf(&b, "  unexpected %d", p.Unexpected)
	}
	return b.String()
}

// codesText returns the codes and how often each came, the most frequent first.
func codesText(counts map[codes.Code]int64) string {
	order := slices.SortedFunc(maps.Keys(counts), func(a, b codes.Code) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, code := range order {
		parts = append(parts, fmt.Sprintf("%s %d", nameOf(code), counts[code]))
	}
	return strings.Join(parts, ", ")
}

// short returns a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// summarize writes what came of a run.
func summarize(w io.Writer, name string, c *Counts) error {
	fmt.Fprintf(w, "%s: %d calls in %v, %.1f/s, at most %d at once\n\n", name, c.Calls, c.Elapsed.Round(time.Millisecond),
		float64(c.Calls)/c.Elapsed.Seconds(), c.MostAtOnce)
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "operation\tcalls\tp50\tp90\tp99\tmax\tcodes")
	row := func(name string, calls int64, l *Latencies, counts map[codes.Code]int64) {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", name, calls,
			short(l.Quantile(0.5)), short(l.Quantile(0.9)), short(l.Quantile(0.99)), short(l.Max()), codesText(counts))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Operations)) {
		op := c.Operations[name]
		row(name, op.Calls, &op.Latencies, op.Codes)
	}
	row("all", c.Calls, &c.Latencies, c.Codes())
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nLatencies count from when a call was due. %d calls began more than %v late, %d never began.\n", c.Late, late, c.Missed)
	for _, name := range slices.Sorted(maps.Keys(c.Operations)) {
		unexpected := c.Operations[name].Unexpected
		for _, code := range slices.Sorted(maps.Keys(unexpected)) {
			fmt.Fprintf(w, "unexpected: %s %s %d, the first: %s\n", name, nameOf(code), unexpected[code].Calls, unexpected[code].First)
		}
	}
	return nil
}
