package otelconf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment is what lookup finds.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// file writes a file and returns its name.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "otel.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// problems reads a file of this text and returns what is wrong with it.
func problems(t *testing.T, text string, env environment) string {
	t.Helper()
	_, err := Read(file(t, text), env.lookup)
	if err == nil {
		return ""
	}
	return err.Error()
}

// lines joins lines with a file_format before them.
func lines(text ...string) string { return "file_format: \"1.0\"\n" + strings.Join(text, "\n") + "\n" }
