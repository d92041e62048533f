package interceptors

import (
	"encoding/hex"
	"log/slog"
	"slices"
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
	logDuration  = "duration_us"
	logKind      = "rpc.kind"
	logSent      = "rpc.messages_sent"
	logReceived  = "rpc.messages_received"
	logPeer      = string(semconv.NetworkPeerAddressKey)
	logError     = "error.message"
)

func (r *rpc) logs(code codes.Code) (answer bool) {
	defer survive(brokenLog, &r.call)
	wanted := !r.engine().withoutLogging || r.logsException(code)
	return r.panicked || wanted && r.engine().logger.Enabled(r.call.ctx, levelOf(r.call.Side, code))
}

// brokenLog is what panicked where a record is not written.
const brokenLog = "WithLogger: the handler, or a value that it was given,"

// logHandler is the logger's for the calls of the method that end with code:
// what all of them have in common is rendered here, once.
// It is nil where that panics.
func (m *method) logHandler(code codes.Code) slog.Handler {
	defer survive(brokenLog, &Call{FullMethod: "/" + m.name})
	common := []slog.Attr{
		slog.String(string(semconv.RPCMethodKey), m.name),
		slog.String(logKind, m.kind.String()),
	}
	for _, kv := range m.attrs[2:] { // the server's address
		common = append(common, slog.Attr{Key: string(kv.Key), Value: slogValue(kv.Value)})
	}
	if code < undefinedCode {
		common = append(common, slog.String(string(semconv.RPCResponseStatusCodeKey), codeName(code)))
	}
	if m.countsMessages(code) {
		common = append(common, slog.Int64(logSent, 1), slog.Int64(logReceived, 1))
	}
	return m.e.logger.Handler().WithAttrs(common)
}

// logs tells whether a record has the key by itself, and says nothing else of it.
func (m *method) logs(key attribute.Key, code codes.Code) bool {
	switch key {
	case logKind, logSent, logReceived:
		return true
	case semconv.RPCResponseStatusCodeKey:
		return code < undefinedCode
	}
	return slices.ContainsFunc(m.attrs, func(kv attribute.KeyValue) bool { return kv.Key == key })
}

// countsMessages tells whether the code says how many messages there were: one
// each way of a unary call that went well.
func (m *method) countsMessages(code codes.Code) bool { return m.kind == Unary && code == codes.OK }

// log writes the call's record: one, at its end. The text of an error may hold
// what the caller must not see; payloads and metadata are never in it.
func (r *rpc) log(h slog.Handler, code codes.Code, elapsed time.Duration, err error, extra []attribute.KeyValue) {
	if h == nil {
		return // it has been reported
	}
	defer survive(brokenLog, &r.call)
	var room [8]slog.Attr
	attrs := append(room[:0],
		slog.Int64(logDuration, elapsed.Microseconds()),
		slog.String(logRequestID, r.id()),
	)
	ctx := r.call.ctx
	sc := trace.SpanContextFromContext(ctx)
	if span := r.recorded(); span != nil {
		if own := span.SpanContext(); !own.Equal(sc) { // an interceptor made a span of its own
			sc, ctx = own, trace.ContextWithSpan(ctx, span)
		}
	}
	attrs = appendIDs(attrs, sc)
	if r.peer != nil && r.peer.peer != "" {
		attrs = append(attrs, slog.String(logPeer, r.peer.peer))
	}
	if !r.call.m.countsMessages(code) {
		attrs = append(attrs, slog.Int64(logSent, r.call.Sent()), slog.Int64(logReceived, r.call.Received()))
	}
	if err != nil {
		attrs = append(attrs, slog.String(logError, err.Error()))
	}
	if r.logsException(code) {
		for _, kv := range exceptionAttributes(err) {
			attrs = append(attrs, slog.Attr{Key: string(kv.Key), Value: slogValue(kv.Value)})
		}
	}
	for _, kv := range extra {
		if kv.Key != requestIDKey && !r.call.m.logs(kv.Key, code) {
			attrs = set(attrs, string(kv.Key), slogValue(kv.Value))
		}
	}
	record := slog.NewRecord(r.call.start.Add(elapsed), levelOf(r.call.Side, code), r.engine().message, 0)
	record.AddAttrs(attrs...)
	// A handler's error has nowhere to go: the log is where errors go.
	_ = h.Handle(ctx, record)
}

// set appends an attribute, or takes the place of one that has the key already.
func set(attrs []slog.Attr, key string, value slog.Value) []slog.Attr {
	for i := range attrs {
		if attrs[i].Key == key {
			attrs[i].Value = value
			return attrs
		}
	}
	return append(attrs, slog.Attr{Key: key, Value: value})
}

// appendIDs appends the ids of sc, if it has any, in the text form of W3C trace
// context: two attributes that share one string.
func appendIDs(attrs []slog.Attr, sc trace.SpanContext) []slog.Attr {
	if !sc.IsValid() {
		return attrs
	}
	var text [48]byte
	t, s := sc.TraceID(), sc.SpanID()
	hex.Encode(text[:32], t[:])
	hex.Encode(text[32:], s[:])
	ids := string(text[:])
	return append(attrs, slog.String(logTraceID, ids[:32]), slog.String(logSpanID, ids[32:]))
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
