package telemetry

import (
	"context"
	"log/slog"
	"os"
	"reflect"
)

// stdLogHandler stands for log/slog's initial handler, which writes through
// package log. Once another handler is the default, package log writes through
// that one: if it leads here, the initial handler would wait for itself,
// forever. From then on text is written to stderr instead.
// https://go.dev/issue/62424
type stdLogHandler struct{ initial, text slog.Handler }

// safeBase returns base, with slog's initial handler made safe.
func safeBase(base slog.Handler) slog.Handler {
	if !isInitial(base) {
		return base
	}
	const all = slog.Level(-1 << 31) // the initial handler's own level counts
	return &stdLogHandler{base, slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: all})}
}

// isInitial tells slog's initial handler, whose type is not exported.
func isInitial(h slog.Handler) bool { return reflect.TypeOf(h).String() == "*slog.defaultHandler" }

func (h *stdLogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.initial.Enabled(ctx, level)
}

func (h *stdLogHandler) Handle(ctx context.Context, r slog.Record) error {
	if isInitial(slog.Default().Handler()) {
		return h.initial.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h *stdLogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &stdLogHandler{h.initial.WithAttrs(attrs), h.text.WithAttrs(attrs)}
}

func (h *stdLogHandler) WithGroup(name string) slog.Handler {
	return &stdLogHandler{h.initial.WithGroup(name), h.text.WithGroup(name)}
}
