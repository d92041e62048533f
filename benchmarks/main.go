package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		names  = flag.String("scenario", "*", "names of scenarios, or patterns as of path.Match, separated by commas")
		who    = flag.String("contender", "*", "names of contenders, or patterns, separated by commas")
		rounds = flag.Int("rounds", 10, "rounds per scenario")
		slice  = flag.Duration("slice", 200*time.Millisecond, "about how long the first contender runs in each round")
		writes = flag.Bool("write", false, "write README.md's tables and RESULTS.md; run it in the folder of this program")
	)
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *rounds < 1 || *slice <= 0 {
		return fmt.Errorf("-rounds %d -slice %v: both must be positive", *rounds, *slice)
	}
	if *writes && (*names != "*" || *who != "*") {
		return errors.New("-write writes everything: it goes with neither -scenario nor -contender")
	}
	chosenScenarios, err := choose(scenarios, *names, func(s scenario) string { return s.name })
	if err != nil {
		return fmt.Errorf("-scenario: %w", err)
	}
	chosenContenders, err := choose(contenders, *who, func(c contender) string { return c.name })
	if err != nil {
		return fmt.Errorf("-contender: %w", err)
	}
	before := environment("go run . " + strings.Join(os.Args[1:], " "))
	var results []*result
	for _, s := range chosenScenarios {
		r, err := s.run(chosenContenders, *rounds, *slice)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s\n", r.title())
		printTable(os.Stdout, r.table())
		results = append(results, r)
	}
	if *writes {
		return write(results, before)
	}
	return nil
}

// run measures the scenario. A round of open streams takes as long as they do,
// and repeats to 1 %: 3 rounds tell.
func (s scenario) run(contenders []contender, rounds int, slice time.Duration) (*result, error) {
	if s.open > 0 {
		return measureOpen(s, contenders, min(rounds, 3))
	}
	calls, err := calibrate(s, contenders[0], slice)
	if err != nil {
		return nil, err
	}
	return measure(s, contenders, rounds, calls)
}

// choose returns those of all whose name one of the patterns matches.
func choose[T any](all []T, patterns string, name func(T) string) ([]T, error) {
	var chosen []T
	var known []string
	for _, candidate := range all {
		known = append(known, name(candidate))
		for pattern := range strings.SplitSeq(patterns, ",") {
			matched, err := path.Match(pattern, name(candidate))
			if err != nil {
				return nil, fmt.Errorf("%q: %w", pattern, err)
			}
			if matched {
				chosen = append(chosen, candidate)
				break
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%q matches nothing; there are %s", patterns, strings.Join(known, ", "))
	}
	return chosen, nil
}
