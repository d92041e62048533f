package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	rounds = 10
	slice  = 20 * time.Millisecond
)

func main() {
	fmt.Println("<!-- Written by `go run ./errors > errors/RESULTS.md`; do not edit. -->")
	fmt.Printf("\n# Errors, measured\n\nTime and allocations of one operation, %s on %s/%s with %d processors. Compare within a row.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	write(os.Stdout, measure())
}

// A cell is what a contender needs for an operation.
type cell struct {
	time   time.Duration
	allocs float64
}

// measure runs every operation of every contender, a row for each.
func measure() [][]cell {
	table := make([][]cell, len(operations))
	for i, op := range operations {
		runs := make([]func(), len(contenders))
		table[i] = make([]cell, len(contenders))
		for j, c := range contenders {
			if runs[j] = op.prepare(c); runs[j] != nil {
				table[i][j] = cell{timed(runs[j]), testing.AllocsPerRun(1000, runs[j])}
			}
		}
		for range rounds {
			for j, run := range runs {
				if run != nil {
					table[i][j].time = min(table[i][j].time, timed(run))
				}
			}
		}
	}
	return table
}

// timed is the time of one run, of many that take a slice together.
func timed(run func()) time.Duration {
	start := time.Now()
	for n := 1; ; n++ {
		run()
		if n&(n-1) == 0 || n%1024 == 0 { // the clock is slower than some of what runs
			if elapsed := time.Since(start); elapsed >= slice {
				return elapsed / time.Duration(n)
			}
		}
	}
}

func write(w io.Writer, table [][]cell) {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	row := func(cells []string) { fmt.Fprintf(t, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	header, line := []string{""}, []string{"---"}
	for _, c := range contenders {
		header, line = append(header, c.name), append(line, "---")
	}
	row(header)
	row(line)
	for i, op := range operations {
		cells := []string{op.name}
		for _, c := range table[i] {
			text := "-"
			if c.time > 0 {
				text = fmt.Sprintf("%.2f µs, %.0f", float64(c.time.Nanoseconds())/1000, c.allocs)
			}
			cells = append(cells, text)
		}
		row(cells)
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "errors:", err)
		os.Exit(1)
	}
}
