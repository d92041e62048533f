package telemetry_test

import (
	"context"
	"errors"
	"log/slog"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func record(msg string, attrs ...slog.Attr) slog.Record {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, msg, 0)
	r.AddAttrs(attrs...)
	return r
}

// blockingExporter blocks until its context ends.
type blockingExporter struct{ started time.Time }

func (e *blockingExporter) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	e.started = time.Now()
	<-ctx.Done()
	return ctx.Err()
}

func (*blockingExporter) Shutdown(context.Context) error { return nil }

// failingExporter fails at once.
type failingExporter struct{ calls int }

func (e *failingExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	e.calls++
	return errors.New("disk full")
}

func (*failingExporter) Shutdown(context.Context) error { return nil }
