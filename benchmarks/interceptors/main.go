package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/rpcscope/rpcscope/benchmarks/internal/section"
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
	return costs.Write("../README.md", table(results))
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

var costs = section.Section{Name: "what interceptors cost", Writer: "go run ./interceptors -write in benchmarks"}
