package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/slogtest"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// Both outputs behave as a slog.Handler must.
func TestSlogHandlerConforms(t *testing.T) {
	t.Run("base", func(t *testing.T) {
		var buf bytes.Buffer
		slogtest.Run(t, func(t *testing.T) slog.Handler {
			buf.Reset()
			return telemetrytest.New(t).Telemetry().SlogHandler(slog.NewJSONHandler(&buf, nil))
		}, func(t *testing.T) map[string]any {
			var m map[string]any
			if err := json.Unmarshal(buf.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
			return m
		})
	})
	t.Run("OTLP", func(t *testing.T) {
		var rec *telemetrytest.Recorder
		slogtest.Run(t, func(t *testing.T) slog.Handler {
			rec = telemetrytest.New(t)
			return rec.Telemetry().SlogHandler(nil)
		}, func(*testing.T) map[string]any { return logMap(rec.Logs().One().Record) })
	})
}

// logMap renders a log record as slogtest wants it.
func logMap(r sdklog.Record) map[string]any {
	m := map[string]any{slog.LevelKey: r.SeverityText(), slog.MessageKey: r.Body().String()}
	if !r.Timestamp().IsZero() {
		m[slog.TimeKey] = r.Timestamp()
	}
	r.WalkAttributes(func(kv attribute.KeyValue) bool {
		m[string(kv.Key)] = plain(kv.Value)
		return true
	})
	return m
}

func plain(v attribute.Value) any {
	if v.Type() != attribute.MAP {
		return v.AsInterface()
	}
	m := map[string]any{}
	for _, kv := range v.AsMap() {
		m[string(kv.Key)] = plain(kv.Value)
	}
	return m
}

// logged logs through derive(logger) on both outputs and returns what came out.
func logged(t *testing.T, ctx func(context.Context) context.Context, log func(context.Context, *slog.Logger)) (base, otlp map[string]any) {
	t.Helper()
	rec := telemetrytest.New(t, telemetry.WithPropagation(propagation.WithUserHash([]byte("key"))))
	var buf bytes.Buffer
	h := slog.NewJSONHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	log(ctx(t.Context()), slog.New(rec.Telemetry().SlogHandler(h)))
	if err := json.Unmarshal(buf.Bytes(), &base); err != nil {
		t.Fatalf("%v: %s", err, &buf)
	}
	r := rec.Logs().One().Record
	if trace.SpanContextFromContext(ctx(t.Context())).IsValid() && (r.TraceID() != traceID || r.SpanID() != spanID) {
		t.Errorf("exported record is of trace %s, span %s", r.TraceID(), r.SpanID())
	}
	otlp = logMap(r)
	delete(otlp, slog.TimeKey)
	return base, otlp
}

var (
	traceID = trace.TraceID{0: 1, 15: 2}
	spanID  = trace.SpanID{0: 3, 7: 4}
)

func fullContext(ctx context.Context) context.Context {
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID}))
	ctx = propagation.ContextWithRequestID(ctx, "req-1")
	return propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u1", TenantID: "acme"})
}

func TestSlogHandlerAddsContext(t *testing.T) {
	p := propagation.New(propagation.WithUserHash([]byte("key")))
	want := map[string]string{}
	for _, kv := range p.AppendAttributes(fullContext(t.Context()), nil) {
		want[string(kv.Key)] = kv.Value.AsString()
	}
	if want["user.hash"] == "" {
		t.Fatalf("identity attributes are %v", want)
	}
	user := want["user.hash"]
	background := func(ctx context.Context) context.Context { return ctx }
	tests := []struct {
		name       string
		ctx        func(context.Context) context.Context
		log        func(context.Context, *slog.Logger)
		base, otlp map[string]any
	}{
		{"nothing known", background,
			func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "a", "1") },
			map[string]any{"level": "INFO", "msg": "m", "a": "1"},
			map[string]any{"level": "INFO", "msg": "m", "a": "1"}},
		{"everything known", fullContext,
			func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "a", "1") },
			map[string]any{"level": "INFO", "msg": "m", "a": "1", "trace_id": traceID.String(), "span_id": spanID.String(), "request_id": "req-1", "tenant.id": "acme", "user.hash": user},
			map[string]any{"level": "INFO", "msg": "m", "a": "1", "request_id": "req-1", "tenant.id": "acme", "user.hash": user}},
		{"the record says it itself", fullContext,
			func(ctx context.Context, l *slog.Logger) {
				l.InfoContext(ctx, "m", "request_id", "mine", "trace_id", traceID.String(), "span_id", spanID.String())
			},
			map[string]any{"level": "INFO", "msg": "m", "trace_id": traceID.String(), "span_id": spanID.String(), "request_id": "mine", "tenant.id": "acme", "user.hash": user},
			map[string]any{"level": "INFO", "msg": "m", "request_id": "mine", "tenant.id": "acme", "user.hash": user}},
		{"another trace is no repetition", fullContext,
			func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "trace_id", "other") },
			map[string]any{"level": "INFO", "msg": "m", "trace_id": "other", "span_id": spanID.String(), "request_id": "req-1", "tenant.id": "acme", "user.hash": user},
			map[string]any{"level": "INFO", "msg": "m", "trace_id": "other", "request_id": "req-1", "tenant.id": "acme", "user.hash": user}},
		{"With says it", fullContext,
			func(ctx context.Context, l *slog.Logger) {
				l.With("request_id", "mine", "tenant.id", "t").InfoContext(ctx, "m")
			},
			map[string]any{"level": "INFO", "msg": "m", "trace_id": traceID.String(), "span_id": spanID.String(), "request_id": "mine", "tenant.id": "t", "user.hash": user},
			map[string]any{"level": "INFO", "msg": "m", "request_id": "mine", "tenant.id": "t", "user.hash": user}},
		{"outside of groups", fullContext,
			func(ctx context.Context, l *slog.Logger) {
				l.With("a", "1").WithGroup("g").With("b", "2").WithGroup("h").InfoContext(ctx, "m", "request_id", "inner")
			},
			map[string]any{"level": "INFO", "msg": "m", "a": "1", "g": map[string]any{"b": "2", "h": map[string]any{"request_id": "inner"}},
				"trace_id": traceID.String(), "span_id": spanID.String(), "request_id": "req-1", "tenant.id": "acme", "user.hash": user},
			map[string]any{"level": "INFO", "msg": "m", "a": "1", "g": map[string]any{"b": "2", "h": map[string]any{"request_id": "inner"}},
				"request_id": "req-1", "tenant.id": "acme", "user.hash": user}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base, otlp := logged(t, tt.ctx, tt.log)
			if diff := cmp.Diff(tt.base, base); diff != "" {
				t.Errorf("base, -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tt.otlp, otlp); diff != "" {
				t.Errorf("OTLP, -want +got:\n%s", diff)
			}
		})
	}
}

// The export has its own level; the base handler keeps its.
func TestSlogHandlerLevels(t *testing.T) {
	rec := telemetrytest.New(t, telemetry.WithMinLogLevel(slog.LevelWarn))
	var buf bytes.Buffer
	l := slog.New(rec.Telemetry().SlogHandler(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l.Debug("one")
	l.Warn("two")
	if n := rec.Logs().Len(); n != 1 {
		t.Errorf("exported %d records, want the warning only", n)
	}
	if n := bytes.Count(buf.Bytes(), []byte("msg=")); n != 2 {
		t.Errorf("base wrote %d records, want 2", n)
	}
	if slog.New(rec.Telemetry().SlogHandler(nil)).Enabled(t.Context(), slog.LevelInfo) {
		t.Error("INFO is enabled though nobody takes it")
	}
}

// An error of one output does not keep the record from the other.
func TestSlogHandlerJoinsErrors(t *testing.T) {
	rec := telemetrytest.New(t)
	failed := errors.New("disk full")
	err := rec.Telemetry().SlogHandler(failingHandler{slog.DiscardHandler, failed}).Handle(t.Context(), record("m"))
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	rec.Logs().Message("m").One()
}

type failingHandler struct {
	slog.Handler
	err error
}

func (failingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h failingHandler) Handle(context.Context, slog.Record) error { return h.err }
