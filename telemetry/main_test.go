package telemetry

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if runChild() { // see run_test.go
		return
	}
	if os.Getenv("TELEMETRY_TEST_SECRETS") == "" { // see secrets_test.go
		// What this machine's environment says is no part of a test.
		for _, kv := range os.Environ() {
			if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
				_ = os.Unsetenv(name)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// Env is an environment for WithLookupEnv.
type Env map[string]string

func (e Env) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

func (e Env) Option() Option { return WithLookupEnv(e.lookup) }

// DiagLog collects diagnostics.
type DiagLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (d *DiagLog) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.Write(p)
}

func (d *DiagLog) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.String()
}

// Lines returns the lines that contain text.
func (d *DiagLog) Lines(text string) []string {
	var out []string
	for line := range strings.Lines(d.String()) {
		if strings.Contains(line, text) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// Handler writes to the log, from DEBUG up and without times.
func (d *DiagLog) Handler() slog.Handler {
	return slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

// testDiagnostics are diagnostics that go to the log.
func (d *DiagLog) diagnostics() *diagnostics {
	return (&environment{lookup: Env{}.lookup}).newDiagnostics(d.Handler())
}

// Closing reports whether Shutdown has begun.
func (t *Telemetry) Closing() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// advance lets d pass in a synctest bubble.
func advance(d time.Duration) { <-time.After(d) }
