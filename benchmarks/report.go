package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// column is a quantity in a table.
type column struct {
	title string
	of    quantity
	unit  float64 // divides it
	form  string
}

var (
	callColumns = []column{{"allocs", allocsOf, 1, "%.1f"}, {"bytes", bytesOf, 1, "%.0f"}, {"CPU µs", cpuOf, 1000, "%.1f"}, {"µs", timeOf, 1000, "%.1f"}}
	openColumns = []column{{"goroutines", goroutinesOf, 1, "%.2f"}, {"heap KB", heapOf, 1000, "%.2f"}, {"stack KB", stackOf, 1000, "%.2f"}}
)

func (s scenario) columns() []column {
	if s.open > 0 {
		return openColumns
	}
	return callColumns
}

func (c column) value(r *result, contender string) string {
	return fmt.Sprintf(c.form, r.median(contender, c.of)/c.unit)
}

// spread is the median of the paired ratios, and between which quartiles they
// lie.
func (r *result) spread(name, to string, of quantity) string {
	ratios := r.ratios(name, to, of)
	return fmt.Sprintf("%.2f (%.2f-%.2f)", quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// table is a result with a row for each contender, heading first: what a call
// took, and how it compares with the contenders that matter.
func (r *result) table() [][]string {
	heading := []string{""}
	for _, c := range r.scenario.columns() {
		heading = append(heading, c.title)
	}
	var bases []string
	for _, base := range []string{bareName, otelgrpcName, assembledName} {
		if !r.has(base) {
			continue
		}
		bases = append(bases, base)
		if r.scenario.open > 0 {
			heading = append(heading, "heap/"+base)
		} else {
			heading = append(heading, "allocs/"+base, "CPU/"+base, "time/"+base)
		}
	}
	rows := [][]string{heading}
	for _, c := range r.contenders {
		row := []string{c.name}
		for _, column := range r.scenario.columns() {
			row = append(row, column.value(r, c.name))
		}
		for _, base := range bases {
			if r.scenario.open > 0 {
				row = append(row, fmt.Sprintf("%.3f", r.ratio(c.name, base, heapOf)))
			} else {
				row = append(row, fmt.Sprintf("%.3f", r.ratio(c.name, base, allocsOf)), r.spread(c.name, base, cpuOf), r.spread(c.name, base, timeOf))
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// title says what was measured, and how often.
func (r *result) title() string {
	return fmt.Sprintf("%s: %s (%d rounds of %d)", r.scenario.name, r.scenario, len(r.samples[r.contenders[0].name]), r.calls)
}

// printTable is for a terminal.
func printTable(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	_ = t.Flush()
}

// markdown is for a file.
func markdown(rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(rows[0])
	rule := []string{"---"}
	for range rows[0][1:] {
		rule = append(rule, "---:")
	}
	line(rule)
	for _, row := range rows[1:] {
		line(row)
	}
	return b.String()
}
