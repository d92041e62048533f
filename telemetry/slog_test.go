package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// Both outputs behave as a slog.Handler must; the one over OTLP is read back
// from the collector.
func TestSlogHandlerConforms(t *testing.T) {
	for _, output := range []string{"base", "OTLP"} {
		t.Run(output, func(t *testing.T) {
			var out *bothOutputs
			slogtest.Run(t, func(t *testing.T) slog.Handler {
				out = newBothOutputs(t)
				return out.handler
			}, func(t *testing.T) map[string]any {
				base, otlp := out.read(t)
				if output == "base" {
					return base
				}
				return logMap(otlp)
			})
		})
	}
}

// bothOutputs is a handler that writes JSON and exports to a collector.
type bothOutputs struct {
	json      bytes.Buffer
	tel       *telemetry.Telemetry
	collector *telemetrytest.Collector
	handler   slog.Handler
}

func newBothOutputs(t *testing.T, opts ...telemetry.Option) *bothOutputs {
	t.Helper()
	b := &bothOutputs{collector: telemetrytest.NewCollector(t, telemetrytest.OK)}
	b.tel = setup(t, nil, append(opts, telemetry.WithEndpoint(b.collector.Endpoint()), telemetry.WithoutTraces(), telemetry.WithoutMetrics())...)
	b.handler = b.tel.SlogHandler(slog.NewJSONHandler(&b.json, nil))
	return b
}

// read returns the one record that came out of each.
func (b *bothOutputs) read(t *testing.T) (base map[string]any, otlp telemetrytest.OTLPLog) {
	t.Helper()
	if err := json.Unmarshal(b.json.Bytes(), &base); err != nil {
		t.Fatalf("%v: %s", err, &b.json)
	}
	if err := b.tel.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs := b.collector.Logs()
	if len(logs) != 1 {
		t.Fatalf("the collector has %d records, want 1", len(logs))
	}
	return base, logs[0]
}

// logMap renders a log record as slogtest wants it.
func logMap(l telemetrytest.OTLPLog) map[string]any {
	m := plainMap(l.GetAttributes())
	m[slog.LevelKey], m[slog.MessageKey] = l.GetSeverityText(), l.GetBody().GetStringValue()
	if l.GetTimeUnixNano() != 0 {
		m[slog.TimeKey] = l.GetTimeUnixNano()
	}
	return m
}

func plainMap(attrs []*commonpb.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range attrs {
		m[kv.GetKey()] = plain(kv.GetValue())
	}
	return m
}

func plain(v *commonpb.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_DoubleValue:
		return v.DoubleValue
	case *commonpb.AnyValue_KvlistValue:
		return plainMap(v.KvlistValue.GetValues())
	case *commonpb.AnyValue_ArrayValue:
		var all []any
		for _, e := range v.ArrayValue.GetValues() {
			all = append(all, plain(e))
		}
		return all
	}
	return nil
}

// logged logs on both outputs and returns what came out, but for the time.
func logged(t *testing.T, ctx func(context.Context) context.Context, log func(context.Context, *slog.Logger)) (base, otlp map[string]any) {
	t.Helper()
	out := newBothOutputs(t, telemetry.WithPropagation(propagation.WithUserHash([]byte("key"))))
	log(ctx(t.Context()), slog.New(out.handler))
	base, record := out.read(t)
	span := trace.SpanContextFromContext(ctx(t.Context()))
	if span.IsValid() && (trace.TraceID(record.GetTraceId()) != traceID || trace.SpanID(record.GetSpanId()) != spanID) {
		t.Errorf("exported record is of trace %x, span %x", record.GetTraceId(), record.GetSpanId())
	}
	otlp = logMap(record)
	for _, m := range []map[string]any{base, otlp} {
		if m[slog.TimeKey] == nil {
			t.Error("a record has no time")
		}
		delete(m, slog.TimeKey)
	}
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

// hiddenText shows as a group with one member of its own.
type hiddenText string

func (hiddenText) LogValue() slog.Value { return slog.GroupValue(slog.String("kind", "secret")) }

// Values of all kinds come out of both outputs.
func TestSlogHandlerValues(t *testing.T) {
	base, otlp := logged(t, fullContext, func(ctx context.Context, l *slog.Logger) {
		l.With("with", hiddenText("s3cret")).WithGroup("g").ErrorContext(ctx, "m",
			"token", hiddenText("s3cret"), "err", errors.New("it failed"), "took", 1500*time.Millisecond, "n", -1, "u", uint64(7), "f", 0.5, "ok", true,
			"at", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "list", []string{"a", "b"}, slog.Group("", "inline", 1), slog.Group("empty"))
	})
	hidden := map[string]any{"kind": "secret"}
	group := func(took, n, u, at, inline any) map[string]any {
		return map[string]any{"token": hidden, "err": "it failed", "took": took, "n": n, "u": u, "f": 0.5, "ok": true, "at": at, "list": []any{"a", "b"}, "inline": inline}
	}
	wantBase := map[string]any{"level": "ERROR", "msg": "m", "with": hidden, "g": group(1.5e9, -1.0, 7.0, "2026-01-02T03:04:05.000000006Z", 1.0)}
	wantOTLP := map[string]any{"level": "ERROR", "msg": "m", "with": hidden, "exception.message": "it failed", "exception.type": "*errors.errorString", "g": group(int64(1500000000), int64(-1), int64(7), int64(1767323045000000006), int64(1))}
	for _, m := range []map[string]any{base, otlp} {
		for _, key := range []string{"trace_id", "span_id", "request_id", "tenant.id", "user.hash"} {
			delete(m, key)
		}
	}
	if diff := cmp.Diff(wantBase, base); diff != "" {
		t.Errorf("base, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(wantOTLP, otlp); diff != "" {
		t.Errorf("OTLP, -want +got:\n%s", diff)
	}
}

// brokenError is an error whose text cannot be had.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }

// Errors keep their keys, all of them; one is the record's exception as well. A
// nil pointer, which panics, is what other handlers make of it.
func TestSlogHandlerErrors(t *testing.T) {
	base, otlp := logged(t, func(ctx context.Context) context.Context { return ctx }, func(ctx context.Context, l *slog.Logger) {
		l.With("first", errors.New("one")).InfoContext(ctx, "m", "second", (*brokenError)(nil), "third", errors.New("three"), "fourth", errors.New("four"))
	})
	want := map[string]any{"level": "INFO", "msg": "m", "first": "one", "second": "<nil>", "third": "three", "fourth": "four"}
	if base["second"] == nil { // as JSON has it
		base["second"] = "<nil>"
	}
	if diff := cmp.Diff(want, base); diff != "" {
		t.Errorf("base, -want +got:\n%s", diff)
	}
	want["exception.message"], want["exception.type"] = "three", "*errors.errorString"
	if diff := cmp.Diff(want, otlp); diff != "" {
		t.Errorf("OTLP, -want +got:\n%s", diff)
	}
}

// A value that panics where the bridge formats it costs no service.
func TestSlogHandlerPanickingValue(t *testing.T) {
	out := newBothOutputs(t)
	err := out.handler.Handle(t.Context(), record("m", slog.Group("g", slog.Any("err", (*brokenError)(nil)))))
	if err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("Handle: %v", err)
	}
	if !strings.Contains(out.json.String(), `"msg":"m"`) {
		t.Errorf("base wrote %q", &out.json)
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
