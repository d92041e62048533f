package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/propagation"
)

// Keys that every record gets from its context. The span's two are not
// exported as attributes: OTLP has fields for them.
const (
	keyTraceID   = "trace_id"
	keySpanID    = "span_id"
	keyRequestID = "request_id"
)

// contextHandler adds what the context knows to each record, and hands it to
// the base handler and to the OTLP bridge.
type contextHandler struct {
	propagator *propagation.Propagator
	outputs    []output
	grouped    bool     // WithGroup was called: what is added must go outside of it
	taken      []string // keys that WithAttrs set outside any group
}

// output is one of the two handlers that records go to.
type output struct {
	slog.Handler
	level  slog.Level
	native bool // trace and span id travel outside the attributes

	// Once grouped: the handler before the first group, and what to do to it.
	root slog.Handler
	then []func(slog.Handler) slog.Handler
}

func (c *core) slogHandler(base slog.Handler) slog.Handler {
	h := &contextHandler{propagator: c.propagator}
	const anyLevel = slog.Level(-1 << 31)
	if base != nil {
		h.outputs = append(h.outputs, output{Handler: safeBase(base), level: anyLevel})
	}
	if c.signals[signalLogs].on {
		bridge := otelslog.NewHandler("github.com/rpcscope/rpcscope/telemetry", otelslog.WithLoggerProvider(c.loggerProvider))
		h.outputs = append(h.outputs, output{Handler: bridge, level: c.opts.minLogLevel, native: true})
	}
	return h
}

func (o *output) enabled(ctx context.Context, level slog.Level) bool {
	return level >= o.level && o.Handler.Enabled(ctx, level)
}

func (h *contextHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return slices.ContainsFunc(h.outputs, func(o output) bool { return o.enabled(ctx, level) })
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	var room [6]slog.Attr
	extra := h.contextAttrs(ctx, &r, room[:0])
	span := trace.SpanContextFromContext(ctx)
	var errs []error
	for i := range h.outputs {
		o := &h.outputs[i]
		if !o.enabled(ctx, r.Level) {
			continue
		}
		if o.native {
			errs = append(errs, o.export(ctx, forExport(r.Clone(), span, h.grouped), withoutSpanAttrs(extra)))
		} else {
			errs = append(errs, o.handle(ctx, r.Clone(), extra))
		}
	}
	return errors.Join(errs...)
}

// export is handle for the bridge, which formats what standard handlers format
// with more care: a value that panics costs its record and not the service.
func (o *output) export(ctx context.Context, r slog.Record, extra []slog.Attr) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("telemetry: exporting a log record: panic: %v", v)
		}
	}()
	return o.handle(ctx, r, extra)
}

func (o *output) handle(ctx context.Context, r slog.Record, extra []slog.Attr) error {
	switch {
	case len(extra) == 0:
		return o.Handler.Handle(ctx, r)
	case o.root == nil:
		r.AddAttrs(extra...)
		return o.Handler.Handle(ctx, r)
	}
	h := o.root.WithAttrs(slices.Clone(extra))
	for _, then := range o.then {
		h = then(h)
	}
	return h.Handle(ctx, r)
}

// contextAttrs appends what ctx knows and the record does not say itself.
func (h *contextHandler) contextAttrs(ctx context.Context, r *slog.Record, dst []slog.Attr) []slog.Attr {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		dst = append(dst, slog.String(keyTraceID, span.TraceID().String()), slog.String(keySpanID, span.SpanID().String()))
	}
	if id := propagation.RequestID(ctx); id != "" {
		dst = append(dst, slog.String(keyRequestID, id))
	}
	var room [3]attribute.KeyValue
	for _, kv := range h.propagator.AppendAttributes(ctx, room[:0]) {
		dst = append(dst, slog.String(string(kv.Key), kv.Value.AsString()))
	}
	if len(dst) == 0 {
		return nil
	}
	drop := func(key string) {
		dst = slices.DeleteFunc(dst, func(a slog.Attr) bool { return a.Key == key })
	}
	for _, key := range h.taken {
		drop(key)
	}
	if !h.grouped {
		r.Attrs(func(a slog.Attr) bool {
			drop(a.Key)
			return true
		})
	}
	return dst
}

func isSpanKey(key string) bool { return key == keyTraceID || key == keySpanID }

func withoutSpanAttrs(attrs []slog.Attr) []slog.Attr {
	return slices.DeleteFunc(slices.Clone(attrs), func(a slog.Attr) bool { return isSpanKey(a.Key) })
}

// forExport makes of a record what the bridge exports in full: without the ids
// of the context's own span, which the access log names, and with errors kept.
func forExport(r slog.Record, span trace.SpanContext, grouped bool) slog.Record {
	repeats := func(a slog.Attr) bool {
		return !grouped && span.IsValid() &&
			(a.Key == keyTraceID && a.Value.String() == span.TraceID().String() ||
				a.Key == keySpanID && a.Value.String() == span.SpanID().String())
	}
	change := false
	r.Attrs(func(a slog.Attr) bool {
		change = isError(a) || isSpanKey(a.Key) && repeats(a)
		return !change
	})
	if !change {
		return r
	}
	attrs := make([]slog.Attr, 0, r.NumAttrs()+1)
	r.Attrs(func(a slog.Attr) bool {
		if !isSpanKey(a.Key) || !repeats(a) {
			attrs = append(attrs, a)
		}
		return true
	})
	clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	clean.AddAttrs(keepErrors(attrs)...)
	return clean
}

func isError(a slog.Attr) bool {
	if a.Value.Kind() != slog.KindAny {
		return false
	}
	_, ok := a.Value.Any().(error)
	return ok
}

// keepErrors replaces errors by their text, and adds the first: the bridge makes
// the exception.* attributes of one error and drops that, and all others.
func keepErrors(attrs []slog.Attr) []slog.Attr {
	if !slices.ContainsFunc(attrs, isError) {
		return attrs
	}
	kept, exception := make([]slog.Attr, 0, len(attrs)+1), false
	for _, a := range attrs {
		if !isError(a) {
			kept = append(kept, a)
			continue
		}
		text, ok := errorText(a.Value.Any().(error))
		if kept = append(kept, slog.String(a.Key, text)); ok && !exception {
			kept, exception = append(kept, a), true
		}
	}
	return kept
}

// errorText returns the text of an error; of one that panics, a nil pointer
// above all, what slog's handlers write.
func errorText(err error) (text string, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("!PANIC: %v", v)
			if p := reflect.ValueOf(err); p.Kind() == reflect.Pointer && p.IsNil() {
				text = "<nil>"
			}
		}
	}()
	return err.Error(), true
}

// WithAttrs implements [slog.Handler].
func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	exported := keepErrors(attrs)
	h2 := h.apply(func(o *output) func(slog.Handler) slog.Handler {
		if o.native {
			return func(b slog.Handler) slog.Handler { return b.WithAttrs(exported) }
		}
		return func(b slog.Handler) slog.Handler { return b.WithAttrs(attrs) }
	}, h.grouped)
	if !h.grouped {
		h2.taken = slices.Clone(h.taken)
		for _, a := range attrs {
			h2.taken = append(h2.taken, a.Key)
		}
	}
	return h2
}

// WithGroup implements [slog.Handler].
func (h *contextHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h2 := h.apply(func(*output) func(slog.Handler) slog.Handler {
		return func(b slog.Handler) slog.Handler { return b.WithGroup(name) }
	}, true)
	h2.grouped = true
	return h2
}

// apply derives a handler by a step for each output; the steps after the first group are remembered, to
// be repeated behind what a record's context adds.
func (h *contextHandler) apply(stepOf func(*output) func(slog.Handler) slog.Handler, grouped bool) *contextHandler {
	h2 := *h
	h2.outputs = slices.Clone(h.outputs)
	for i := range h2.outputs {
		o := &h2.outputs[i]
		step := stepOf(o)
		if grouped {
			if o.root == nil {
				o.root = o.Handler
			}
			o.then = append(slices.Clip(o.then), step)
		}
		o.Handler = step(o.Handler)
	}
	return &h2
}
