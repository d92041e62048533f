package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "interceptors:", err)
		os.Exit(1)
	}
}

func run() error {
	writes := flag.Bool("write", false, "write the README's table; run it in the folder benchmarks")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	var results []*result
	for _, s := range scenarios {
		r, err := measure(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		results = append(results, r)
	}
	fmt.Print(table(results))
	if !*writes {
		return nil
	}
	return write("../README.md", table(results))
}

// table has a row for each scenario.
func table(results []*result) string {
	var b strings.Builder
	b.WriteString("| interceptor | allocations, in a call | alone | time alone | go-grpc-middleware's | its allocations | time, in its |\n")
	b.WriteString("| --- | ---: | ---: | ---: | --- | ---: | ---: |\n")
	for _, r := range results {
		peer, allocs, ratio := "none", "", ""
		if len(r.ratios) > 0 {
			peer, allocs = r.scenario.peer, fmt.Sprintf("%.0f", r.theirs)
			ratio = fmt.Sprintf("%.2f (%.2f-%.2f)", quantile(r.ratios, 0.5), quantile(r.ratios, 0.25), quantile(r.ratios, 0.75))
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f µs | %s | %s | %s |\n",
			r.scenario.name, math.Abs(math.Round(r.added)), r.ours, quantile(r.times, 0.5)/1000, peer, allocs, ratio)
	}
	return b.String()
}

// The README's table stands between these lines.
const (
	tableBegin = "<!-- begin: what interceptors cost, written by go run ./interceptors -write in benchmarks -->\n"
	tableEnd   = "<!-- end: what interceptors cost -->\n"
)

func write(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replace(string(text), table)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// replace puts table between the two lines of text.
func replace(text, table string) (string, error) {
	before, rest, found := strings.Cut(text, tableBegin)
	_, after, foundEnd := strings.Cut(rest, tableEnd)
	if !found || !foundEnd {
		return "", fmt.Errorf("want the line %q and after it %q", tableBegin, tableEnd)
	}
	return before + tableBegin + table + tableEnd + after, nil
}
