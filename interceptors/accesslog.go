package interceptors

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
)

// The keys of the access log that are not attributes of OpenTelemetry's
// semantic conventions. trace_id and span_id are those of its specification
// for logs in other formats.
const (
	logTraceID   = "trace_id"
	logSpanID    = "span_id"
	logRequestID = "request_id"
	logDuration  = "duration_ms"
	logKind      = "rpc.kind"
	logSent      = "rpc.messages_sent"
	logReceived  = "rpc.messages_received"
	logPeer      = string(semconv.NetworkPeerAddressKey)
	logError     = "error.message"
)

func (r *rpc) logs(code codes.Code) bool {
	return r.panicked || (!r.e.withoutLogging && r.e.logger.Enabled(r.call.ctx, levelOf(code)))
}

// log writes the call's record: one, at its end. The text of an error may hold
// what the caller must not see; payloads and metadata are never in it.
func (r *rpc) log(code codes.Code, elapsed time.Duration, err error, extra []attribute.KeyValue) {
	record := slog.NewRecord(time.Now(), levelOf(code), r.e.side.String()+" call", 0)
	record.AddAttrs(
		slog.String(string(semconv.RPCMethodKey), r.m.name),
		slog.String(logKind, r.call.Kind.String()),
		slog.String(string(semconv.RPCResponseStatusCodeKey), codeName(code)),
		slog.Float64(logDuration, float64(elapsed.Microseconds())/1000),
		slog.String(logRequestID, r.id),
	)
	ctx := r.call.ctx
	if span := r.recorded(); span != nil && !span.SpanContext().Equal(trace.SpanContextFromContext(ctx)) {
		ctx = trace.ContextWithSpan(ctx, span) // an interceptor made a span of its own
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		record.AddAttrs(slog.String(logTraceID, sc.TraceID().String()), slog.String(logSpanID, sc.SpanID().String()))
	}
	record.AddAttrs(slog.Int64(logSent, r.call.Sent()), slog.Int64(logReceived, r.call.Received()))
	switch {
	case r.peer != nil:
		record.AddAttrs(slog.String(logPeer, r.peer.String()))
	case r.call.target != "":
		record.AddAttrs(slog.String(string(semconv.ServerAddressKey), r.call.target))
	}
	if err != nil {
		record.AddAttrs(slog.String(logError, err.Error()))
	}
	if r.panicked {
		record.AddAttrs(slog.String(string(semconv.ExceptionStacktraceKey), stackOf(err)))
	}
	for _, kv := range extra {
		if kv.Key == requestIDKey || kv.Key == semconv.RPCResponseStatusCodeKey {
			continue
		}
		record.AddAttrs(slog.Attr{Key: string(kv.Key), Value: slogValue(kv.Value)})
	}
	// A handler's error has nowhere to go: the log is where errors go.
	_ = r.e.logger.Handler().Handle(ctx, record)
}

func slogValue(v attribute.Value) slog.Value {
	switch v.Type() {
	case attribute.STRING:
		return slog.StringValue(v.AsString())
	case attribute.INT64:
		return slog.Int64Value(v.AsInt64())
	case attribute.FLOAT64:
		return slog.Float64Value(v.AsFloat64())
	case attribute.BOOL:
		return slog.BoolValue(v.AsBool())
	}
	return slog.AnyValue(v.AsInterface())
}
