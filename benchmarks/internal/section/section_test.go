package section

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var costs = Section{Name: "what it costs", Writer: "make bench"}

const (
	begin = "<!-- begin: what it costs, written by make bench -->\n"
	end   = "<!-- end: what it costs -->\n"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "before\n" + begin + "\nnew\n\n" + end + "after\n"
	for range 2 { // what is written can be written again
		if err := costs.Write(path, "new\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestReplaceWithoutTheLines(t *testing.T) {
	for text, missing := range map[string]string{"nothing\n": begin, begin + "old\n": end, end + begin: end} {
		if _, err := costs.Replace(text, ""); err == nil || !strings.Contains(err.Error(), missing[:len(missing)-1]) {
			t.Errorf("%q: %v, want an error that names %q", text, err, missing)
		}
	}
	if err := costs.Write(filepath.Join(t.TempDir(), "none"), ""); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}
