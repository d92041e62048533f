package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// diagnostics is where this package speaks about itself: never slog.Default,
// whose records may come back here.
type diagnostics struct {
	*slog.Logger

	mu      sync.Mutex
	secrets []string             // header values, never to be printed; longest first
	seen    map[string]time.Time // what the SDK said, for a minute each
}

// newDiagnostics logs to h; nil means stderr, from the level of OTEL_LOG_LEVEL up.
func (e *environment) newDiagnostics(h slog.Handler) *diagnostics {
	level := resolve(e, "diagnostics.level", parseEnum("none", "error", "warn", "info", "debug"), nil, "", "info", "OTEL_LOG_LEVEL")
	if h == nil {
		h = stderrDiagnostics(os.Stderr, level)
	}
	h = safeBase(h) // never through slog.Default
	d := &diagnostics{seen: map[string]time.Time{}}
	d.Logger = slog.New(&redactor{Handler: h, d: d})
	return d
}

// stderrDiagnostics writes one line per record: rpcscope telemetry: level=WARN msg="..."
func stderrDiagnostics(w io.Writer, level string) slog.Handler {
	if level == "none" {
		return slog.DiscardHandler
	}
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of the four names parseEnum let through
	return slog.NewTextHandler(prefixWriter{w}, &slog.HandlerOptions{
		Level: l,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

type prefixWriter struct{ w io.Writer }

func (p prefixWriter) Write(b []byte) (int, error) {
	if _, err := p.w.Write(append([]byte("rpcscope telemetry: "), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// hide adds values that no message may contain.
func (d *diagnostics) hide(headers map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range headers {
		for _, secret := range append(strings.Fields(v), v) {
			if len(secret) >= 4 && !slices.Contains(d.secrets, secret) {
				d.secrets = append(d.secrets, secret)
			}
		}
	}
	slices.SortFunc(d.secrets, func(a, b string) int { return len(b) - len(a) })
}

// redact removes secrets that a server's answer may quote.
func (d *diagnostics) redact(s string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, secret := range d.secrets {
		s = strings.ReplaceAll(s, secret, "[redacted]")
	}
	return s
}

// redactor removes secrets from messages and attributes.
type redactor struct {
	slog.Handler
	d *diagnostics
}

func (r *redactor) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, r.d.redact(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		if k := a.Value.Kind(); k == slog.KindString || k == slog.KindAny {
			a.Value = slog.StringValue(r.d.redact(a.Value.String()))
		}
		clean.AddAttrs(a)
		return true
	})
	return r.Handler.Handle(ctx, clean)
}

func (r *redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &redactor{Handler: r.Handler.WithAttrs(attrs), d: r.d}
}

func (r *redactor) WithGroup(name string) slog.Handler {
	return &redactor{Handler: r.Handler.WithGroup(name), d: r.d}
}

// Handle reports an error of the OpenTelemetry SDK, the same one at most once a
// minute. It implements [otel.ErrorHandler].
func (d *diagnostics) Handle(err error) {
	if err == nil || errors.Is(err, errReported) || errors.Is(err, context.Canceled) {
		return // reported already, or a collection that a shutdown interrupted
	}
	if text := shorten(d.redact(err.Error()), 500); !d.repeats(text) {
		d.Warn("OpenTelemetry SDK: " + text)
	}
}

// repeats reports whether text was said less than a minute ago; if not, it is now.
func (d *diagnostics) repeats(text string) bool {
	const known = 64 // different texts remembered
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, seen := d.seen[text]; seen && now.Sub(last) < time.Minute {
		return true
	}
	if len(d.seen) >= known {
		clear(d.seen)
	}
	d.seen[text] = now
	return false
}

// install makes d the SDK's error handler and logger.
func (d *diagnostics) install() {
	otel.SetErrorHandler(d)
	otel.SetLogger(logr.New(&sdkLog{d: d}))
}

// sdkLog is what the SDK logs through. It drops what the exporters say about
// the environment: it is validated here, and they quote header values.
type sdkLog struct {
	d      *diagnostics
	values []any
}

func (*sdkLog) Init(logr.RuntimeInfo) {}

// Levels of the SDK: 1 warn, 4 info, 8 debug.
func (*sdkLog) level(v int) slog.Level {
	if v <= 1 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (l *sdkLog) Enabled(v int) bool {
	return l.d.Enabled(context.Background(), l.level(v))
}

func (l *sdkLog) Info(v int, msg string, kv ...any) {
	if v >= 4 || l.d.repeats(msg) { // dumps of whole batches, which hold application data
		return
	}
	l.d.Log(context.Background(), l.level(v), "OpenTelemetry SDK: "+msg, append(slices.Clone(l.values), kv...)...)
}

func (l *sdkLog) Error(err error, msg string, kv ...any) {
	for i := 0; i+1 < len(kv); i += 2 {
		if k := kv[i]; k == "input" || k == "value" || k == "key" || k == "file" {
			return
		}
	}
	l.d.Handle(errors.Join(errors.New(msg), err))
}

func (l *sdkLog) WithValues(kv ...any) logr.LogSink {
	return &sdkLog{d: l.d, values: append(slices.Clone(l.values), kv...)}
}

func (l *sdkLog) WithName(string) logr.LogSink { return l }
