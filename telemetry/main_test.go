package telemetry

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// What this machine's environment says is no part of a test.
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			_ = os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// env is an environment for WithLookupEnv.
func env(kv map[string]string) Option {
	return WithLookupEnv(func(name string) (string, bool) {
		v, ok := kv[name]
		return v, ok
	})
}

// diagLog collects diagnostics.
type diagLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (d *diagLog) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.Write(p)
}

func (d *diagLog) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.String()
}

// lines returns the lines that contain text.
func (d *diagLog) lines(text string) []string {
	var out []string
	for line := range strings.Lines(d.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

// option returns the log as diagnostics, from DEBUG up.
func (d *diagLog) option() Option {
	return WithDiagnostics(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
