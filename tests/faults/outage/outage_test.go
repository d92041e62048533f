package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is the caller's process too.
func TestMain(m *testing.M) {
	if os.Getenv(asCaller) != "" {
		if err := serveCaller(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// brief is the plan of the test.
var brief = plan{
	{"good", good, time.Second},
	{"failing", failing, 2 * time.Second},
	{"good again", good, time.Second},
	{"slow", slow, 2500 * time.Millisecond},
	{"good at last", good, 3 * time.Second},
}

// With time limits, retries and a breaker a dependency that fails, or is slow, costs its
// callers neither time nor goroutines, and is left alone; without them it does.
func TestOutage(t *testing.T) {
	results, err := brief.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	phases := map[string]int{}
	for n, phase := range brief {
		phases[phase.Name] = n
	}
	in := func(setup, phase string) summary {
		from, to := brief.window(phases[phase])
		for n, s := range setups() {
			if s.name == setup {
				return results[n].summarize(from, to)
			}
		}
		t.Fatalf("no set-up %q", setup)
		return summary{}
	}
	check := func(what string, got, least, most float64) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s: %.2f, want %.2f to %.2f", what, got, least, most)
		}
	}

	const unlimited = 1e9
	check("load of naive retries on the failing server, per call", in("naive retries", "failing").asked, 3, 4)
	check("the same of gRPC's without a budget", in("gRPC's, no budget", "failing").asked, 3, 4)
	check("the same of gRPC's with a budget", in("gRPC's, budget", "failing").asked, 0.8, 1.3)
	check("the same of retries with a budget", in("retries, budget", "failing").asked, 0.8, 1.3)
	check("the same of all of it", in("all of it", "failing").asked, 0, 0.3)
	check("load of naive retries on the slow server, per call", in("naive retries", "slow").asked, 1.5, 4)
	check("the same of all of it", in("all of it", "slow").asked, 0, 0.5)

	check("goroutines of nothing while the server is slow", float64(in("nothing", "slow").goroutines), 80, unlimited)
	check("goroutines of gRPC's retries while the server is slow", float64(in("gRPC's, budget", "slow").goroutines), 80, unlimited)
	for _, phase := range []string{"failing", "slow"} {
		s := in("all of it", phase)
		check("goroutines of all of it while the server is "+phase, float64(s.goroutines), 1, 70)
		check("p99 of all of it in ms while the server is "+phase, float64(s.p99.Milliseconds()), 0, float64(2*ofCall.Milliseconds()))
		check("share of the time that the breaker is open while the server is "+phase, s.open, 0.3, 1)
	}
	check("p50 of nothing in ms while the server is slow", float64(in("nothing", "slow").p50.Milliseconds()), 1500, unlimited)

	for n, s := range setups() {
		r := results[n]
		server := float64(r.Asked[len(r.Asked)-1].Calls)
		sent := float64(r.Attempts["initial"] + r.Attempts["retry"] - r.Refused["breaker_open"])
		if s.suite == nil {
			sent = float64(len(r.Calls)) // no attempts are counted
		}
		check(s.name+": attempts that the client counts, of those of the server", sent/server, 0.99, 1.01)
		if r.Left != 0 {
			t.Errorf("%s: %d calls never ended", s.name, r.Left)
		}
		last := r.Samples[len(r.Samples)-1]
		if want := map[bool]int64{true: 0, false: -1}[s.name == "all of it"]; last.Breaker != want {
			t.Errorf("%s: the breaker's state is %d when all is well again, want %d", s.name, last.Breaker, want)
		}
		check(s.name+": share of calls that fail when the server was well for a while", r.summarize(brief.lasts()-time.Second, brief.lasts()).failed, 0, 0.1)
	}

	text, picture := report(brief, results), plot(brief, results)
	if rows := strings.Count(text, "\n| all of it |"); rows != len(brief)+2 {
		t.Errorf("all of it has %d rows, want %d in\n%s", rows, len(brief)+2, text)
	}
	decoder := xml.NewDecoder(strings.NewReader(picture))
	lines := 0
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the plot is not XML: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "polyline" {
			lines++
		}
	}
	if want := len(panels) * len(setups()); lines != want {
		t.Errorf("the plot has %d lines, want %d", lines, want)
	}
}

// What is written is the command's section of the page, and nothing else.
func TestReplace(t *testing.T) {
	page := "before\n" + begins + "old\n" + ends + "after\n"
	got, err := replace(page, "new\n")
	if want := "before\n" + begins + "\nnew\n\n" + ends + "after\n"; err != nil || got != want {
		t.Errorf("got %q and %v, want %q", got, err, want)
	}
	if _, err := replace("a page without a place for it", "new"); err == nil {
		t.Error("no error for a page without a section")
	}
}

// The page that is committed has the section that the command writes.
func TestPageHasSection(t *testing.T) {
	page, err := os.ReadFile("../../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replace(string(page), ""); err != nil {
		t.Error(err)
	}
	for _, s := range setups() {
		if !strings.Contains(string(page), "| "+s.name+" | "+s.what+" |\n") {
			t.Errorf("docs/faults.md does not tell of %q; run go run ./faults/outage -write in tests", s.name)
		}
	}
}
