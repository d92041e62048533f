package peers

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what was observed into README.md")

const (
	readme = "../../README.md"
	begin  = "<!-- begin: what the peers do, written by go generate in tests/peers -->\n"
	end    = "<!-- end: what the peers do -->\n"
)

// TestREADME compares README.md with what the stacks do.
func TestREADME(t *testing.T) {
	old, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	section, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		t.Fatalf("%s has no section between %q and %q", readme, begin, end)
	}
	want := table(t)
	switch diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(section), "\n")); {
	case diff == "" || t.Failed():
	case !*update:
		t.Errorf("%s is not what was observed; run go generate ./peers in tests, and read what has changed (-observed +written):\n%s", readme, diff)
	default:
		if err := os.WriteFile(readme, slices.Concat(before, []byte(begin+want+end), after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// table is the README's: what a peer does is in bold where it is not right.
func table(t *testing.T) string {
	t.Helper()
	versions := versions(t)
	var b strings.Builder
	b.WriteString("| what happens | peer and version | what it does | rpcscope |\n| --- | --- | --- | --- |\n")
	for _, d := range defects {
		right := d.observe(t, d.ours, true)
		if diff := cmp.Diff(d.right, right); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", d.name, d.ours.name, diff)
		}
		for _, s := range d.peers {
			seen := d.observe(t, s, true)
			for i, fact := range seen {
				if !slices.Contains(right, fact) {
					seen[i] = "**" + fact + "**"
				}
			}
			fmt.Fprintf(&b, "| %s | %s %s%s | %s | %s |\n", d.what, s.name, versions[s.module], s.how, cell(seen), cell(right))
		}
	}
	return b.String()
}

func cell(o outcome) string {
	return strings.ReplaceAll(strings.Join(o, "; "), "|", `\|`)
}

// versions are those of the peers' modules that this test is built with. The
// build information of a test has no modules, so the go command is asked.
func versions(t *testing.T) map[string]string {
	t.Helper()
	arguments := []string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}
	for _, d := range defects {
		for _, s := range d.peers {
			if !slices.Contains(arguments, s.module) {
				arguments = append(arguments, s.module)
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", arguments...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(arguments, " "), err)
	}
	versions := map[string]string{}
	for line := range strings.Lines(string(out)) {
		module, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		versions[module] = version
	}
	return versions
}
