package demo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// recorder is a span processor. It keeps spans and log records by trace id.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // is closed, and another, at each change
	traces  map[string]*traced
}

// traced is what was recorded of a trace.
type traced struct {
	open  int
	spans []sdktrace.ReadOnlySpan
	logs  []sdklog.Record
}

func newRecorder() *recorder {
	return &recorder{changed: make(chan struct{}), traces: map[string]*traced{}}
}

func (r *recorder) change(id trace.TraceID, f func(*traced)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.traces[id.String()]
	if t == nil {
		t = &traced{}
		r.traces[id.String()] = t
	}
	f(t)
	close(r.changed)
	r.changed = make(chan struct{})
}

// OnStart implements sdktrace.SpanProcessor.
func (r *recorder) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	r.change(s.SpanContext().TraceID(), func(t *traced) { t.open++ })
}

// OnEnd implements sdktrace.SpanProcessor.
func (r *recorder) OnEnd(s sdktrace.ReadOnlySpan) {
	r.change(s.SpanContext().TraceID(), func(t *traced) { t.open, t.spans = t.open-1, append(t.spans, s) })
}

// Shutdown implements sdktrace.SpanProcessor.
func (*recorder) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (*recorder) ForceFlush(context.Context) error { return nil }

// logs returns r as a log processor, whose methods have the names of a span processor's.
func (r *recorder) logs() sdklog.Processor { return logRecorder{r} }

type logRecorder struct{ recorder *recorder }

func (logRecorder) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (l logRecorder) OnEmit(_ context.Context, record *sdklog.Record) error {
	l.recorder.change(record.TraceID(), func(t *traced) { t.logs = append(t.logs, record.Clone()) })
	return nil
}

func (logRecorder) Shutdown(context.Context) error   { return nil }
func (logRecorder) ForceFlush(context.Context) error { return nil }

// finished returns what was recorded of a trace once there are so many log records and no open span.
func (r *recorder) finished(id string, logs int) (traced, error) {
	timeout := time.After(2 * time.Second)
	for {
		r.mu.Lock()
		var t traced
		if found := r.traces[id]; found != nil {
			t = *found
		}
		changed := r.changed
		r.mu.Unlock()
		if len(t.spans) > 0 && t.open == 0 && len(t.logs) >= logs {
			return t, nil
		}
		select {
		case <-changed:
		case <-timeout:
			return t, fmt.Errorf("trace %s has %d spans, %d of them open, and %d log records after 2 s, want none open and %d records",
				id, len(t.spans)+t.open, t.open, len(t.logs), logs)
		}
	}
}

// tree returns a line for each span, "service  name", two spaces deeper than its parent, in the order they began.
func (t traced) tree() string {
	spans := slices.SortedStableFunc(slices.Values(t.spans), func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	var b strings.Builder
	var walk func(parent trace.SpanID, indent string)
	walk = func(parent trace.SpanID, indent string) {
		for _, s := range spans {
			if s.Parent().SpanID() == parent {
				service, _ := s.Resource().Set().Value(semconv.ServiceNameKey)
				fmt.Fprintf(&b, "%s%s  %s\n", indent, service.AsString(), s.Name())
				walk(s.SpanContext().SpanID(), indent+"  ")
			}
		}
	}
	walk(trace.SpanID{}, "")
	return b.String()
}

// requestIDs returns the request ids that spans and log records of the trace have, each once. A record without is "".
func (t traced) requestIDs() []string {
	var ids []string
	for _, s := range t.spans {
		if id, ok := valueOf(s.Attributes(), "request.id"); ok {
			ids = append(ids, id)
		}
	}
	for _, record := range t.logs {
		id := ""
		record.WalkAttributes(func(kv attribute.KeyValue) bool {
			if kv.Key == "request_id" {
				id = kv.Value.AsString()
			}
			return true
		})
		ids = append(ids, id)
	}
	slices.SortFunc(ids, cmp.Compare)
	return slices.Compact(ids)
}

// valueOf returns the text of the attribute with this key.
func valueOf(attrs []attribute.KeyValue, key attribute.Key) (string, bool) {
	for _, kv := range attrs {
		if kv.Key == key {
			return kv.Value.AsString(), true
		}
	}
	return "", false
}
