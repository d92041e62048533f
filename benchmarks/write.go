package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rpcscope/rpcscope/benchmarks/internal/section"
)

// Where the results go, from this folder.
const (
	readmePath  = "../README.md"
	resultsPath = "RESULTS.md"
)

var tables = section.Section{Name: "what it costs", Writer: "make bench"}

// write writes the README's tables and RESULTS.md.
func write(results []*result, environment []string) error {
	if err := tables.Write(readmePath, readmeTables(results)); err != nil {
		return err
	}
	return os.WriteFile(resultsPath, []byte(resultsFile(results, environment)), 0o644)
}

// readmeTables has a column for each contender, and a row for each scenario
// that is the README's.
func readmeTables(results []*result) string {
	var names []string
	for _, c := range contenders {
		names = append(names, c.name)
	}
	allocs := [][]string{append([]string{"allocations per call"}, names...)}
	times := [][]string{append([]string{"CPU time per call, in otelgrpc's"}, names...)}
	open := [][]string{append([]string{"per open stream"}, names...)}
	for _, r := range results {
		switch {
		case r.scenario.open > 0:
			for _, column := range openColumns {
				row := []string{column.title}
				for _, name := range names {
					row = append(row, column.value(r, name))
				}
				open = append(open, row)
			}
		case r.scenario.readme:
			allocsRow, timesRow := []string{r.scenario.String()}, []string{r.scenario.String()}
			for _, name := range names {
				allocsRow = append(allocsRow, fmt.Sprintf("%.0f", r.median(name, allocsOf)))
				timesRow = append(timesRow, r.spread(name, otelgrpcName, cpuOf))
			}
			allocs, times = append(allocs, allocsRow), append(times, timesRow)
		}
	}
	return strings.Join([]string{markdown(allocs), markdown(times), markdown(open)}, "\n")
}

// resultsFile has everything.
func resultsFile(results []*result, environment []string) string {
	var b strings.Builder
	b.WriteString(`# Results

Written by ` + "`make bench`" + `; [doc.go](doc.go) tells how it measures and what is compared. A call takes what both sides take: they are in
one process. Values are medians of the rounds, ratios are medians of the ratios of each round, with the quartiles of times. CPU
is what the process used, time what the clock says: other load on the machine shows in the second.

`)
	for _, line := range environment {
		b.WriteString("- " + line + "\n")
	}
	for _, r := range results {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", r.title(), strings.TrimSuffix(markdown(r.table()), "\n"))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
