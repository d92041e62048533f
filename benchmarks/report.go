package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// printResult is a result for a terminal: what a call took, and how it compares
// with the contenders that matter.
func printResult(w io.Writer, r *result) {
	fmt.Fprintf(w, "\n%s: %s (%d rounds of %d calls)\n", r.scenario.name, r.scenario, len(r.samples[r.contenders[0].name]), r.calls)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer func() { _ = t.Flush() }()
	fmt.Fprint(t, "\tallocs\tbytes\tµs")
	var bases []string
	for _, base := range []string{bareName, otelgrpcName, assembledName} {
		if r.has(base) {
			bases = append(bases, base)
			fmt.Fprintf(t, "\tallocs/%s\ttime/%s\t(quartiles)", base, base)
		}
	}
	fmt.Fprintln(t, "\t")
	for _, c := range r.contenders {
		fmt.Fprintf(t, "%s\t%.1f\t%.0f\t%.1f", c.name, r.median(c.name, allocsOf), r.median(c.name, bytesOf), r.median(c.name, timeOf)/1000)
		for _, base := range bases {
			times := r.ratios(c.name, base, timeOf)
			fmt.Fprintf(t, "\t%.3f\t%.2f\t(%.2f-%.2f)", r.ratio(c.name, base, allocsOf), quantile(times, 0.5), quantile(times, 0.25), quantile(times, 0.75))
		}
		fmt.Fprintln(t, "\t")
	}
}
