//go:build e2e

package e2e

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rpcscope/rpcscope/tests/internal/compose"
)

const repository = "../.."

// TestImage builds what the Dockerfile builds, with its command, from those files only that its ignore file leaves. All programs that
// the compose files run come out, and none of them needs a library, of which their image has none.
func TestImage(t *testing.T) {
	dockerfile, err := os.ReadFile(filepath.Join(repository, "examples/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`cd examples && CGO_ENABLED=0 GOOS=\$TARGETOS GOARCH=\$TARGETARCH (go build .* -o )/out/bin/ (\S+)`).FindSubmatch(dockerfile)
	if command == nil {
		t.Fatal("the Dockerfile does not build as this test knows it")
	}
	dir := t.TempDir()
	src, out := filepath.Join(dir, "src"), filepath.Join(dir, "bin")+string(filepath.Separator)
	copyContext(t, src)
	words := strings.Fields(string(command[1]) + out + " " + string(command[2]))
	build := exec.CommandContext(t.Context(), words[0], words[1:]...)
	build.Dir, build.Env = filepath.Join(src, "examples"), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", words, err, output)
	}

	project, err := compose.Load(t.Context(), repository, compose.Overlay)
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]bool{}
	for _, s := range project.Services {
		if s.Build == nil {
			continue
		}
		programs[s.HealthCheck.Test[1]] = true
		if !strings.HasPrefix(s.Command[0], "-") {
			programs[s.Command[0]] = true
		}
	}
	if len(programs) < 5 {
		t.Errorf("got programs %v, want those of the example's four services and ready", programs)
	}
	for name := range programs {
		f, err := elf.Open(filepath.Join(out, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is not static", name)
		}
		_ = f.Close()
	}
}

// copyContext copies what Docker sends to a build: all that Dockerfile.dockerignore does not ignore. Of its patterns this knows
// those that it has: everything, then files and folders of the root that are wanted, then names that nobody wants.
func copyContext(t *testing.T, to string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, "examples/Dockerfile.dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var wanted, unwanted []string
	everything := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		name, isWanted := strings.CutPrefix(line, "!")
		anywhere, isUnwanted := strings.CutPrefix(line, "**/")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case line == "*":
			everything = true
		case isWanted && !strings.Contains(name, "/"):
			wanted = append(wanted, name)
		case isUnwanted && !strings.Contains(anywhere, "/"):
			unwanted = append(unwanted, anywhere)
		default:
			t.Fatalf("Dockerfile.dockerignore: this test does not know what %q means", line)
		}
	}
	if !everything || len(wanted) == 0 {
		t.Fatal("Dockerfile.dockerignore ignores not everything, or nothing but")
	}
	matches := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := filepath.Match(p, name)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		})
	}
	err = filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repository, path)
		if err != nil || name == "." {
			return err
		}
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		switch {
		case !matches(wanted, top):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || matches(unwanted, d.Name()):
			return nil
		}
		bytes, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		into := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(into), 0o755); err != nil {
			return err
		}
		return os.WriteFile(into, bytes, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
