package errors_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// go vet checks the formats of all constructors, and that they are constant.
func TestVetChecksFormats(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "vet", "vet.go"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]bool{}
	for i, line := range strings.Split(string(source), "\n") {
		if strings.HasSuffix(line, "// report") {
			want[i+1] = true
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "vet", "./testdata/vet").CombinedOutput()
	if err == nil {
		t.Fatal("go vet reported nothing")
	}
	got := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m)vet\.go:(\d+):`).FindAllStringSubmatch(string(out), -1) {
		line, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		got[line] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines reported: -want +got:\n%s\n%s", diff, out)
	}
}
