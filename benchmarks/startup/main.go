package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "startup:", err)
		os.Exit(1)
	}
}

func run() error {
	writes := flag.Bool("write", false, "write the README's table")
	rounds := flag.Int("rounds", 101, "how often each program is started")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		return fmt.Errorf("want no arguments and at least one round; got %q and %d", flag.Args(), *rounds)
	}
	dir, err := os.MkdirTemp("", "rpcscope-startup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is temporary
	results, err := measure(dir, *rounds)
	if err != nil {
		return err
	}
	fmt.Print(table(results))
	if !*writes {
		return nil
	}
	return write("../../README.md", table(results))
}

// reference is the program that the others' times are divided by.
const reference = "rpcscope"

// table has a row for each program.
func table(results []*result) string {
	var b strings.Builder
	b.WriteString("| program | binary | modules | ready after | in rpcscope's | allocations of the set-up |\n")
	b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range results {
		q := quartiles(r.ratios)
		fmt.Fprintf(&b, "| %s | %.1f MB | %d | %.1f ms | %.2f (%.2f-%.2f) | %.0f, %.0f KB |\n", r.title, float64(r.size)/1e6, r.modules,
			quartiles(r.millis)[1], q[1], q[0], q[2], quartiles(r.allocs)[1], quartiles(r.bytes)[1]/1e3)
	}
	return b.String()
}

// The README's table stands between these lines.
const (
	tableBegin = "<!-- begin: what start-up costs, written by go run . -write in benchmarks/startup -->\n"
	tableEnd   = "<!-- end: what start-up costs -->\n"
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
	return before + tableBegin + "\n" + table + "\n" + tableEnd + after, nil
}
