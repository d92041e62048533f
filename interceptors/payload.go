package interceptors

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/propagation"
)

// LogPayloads logs the messages of calls, each in a record of its own. No message
// is ever logged without it. It is for debugging: messages hold what people have
// written, and fields that nobody has marked are logged as they are.
//
//	interceptors.For(interceptors.Methods("/users.v1.UserService/*"),
//		interceptors.LogPayloads(interceptors.PayloadRatio(0.01)))
//
// A record has the message as JSON, as [protojson] writes it, in
// rpcscope.payload, and in rpcscope.payload.type the full name of its type;
// rpc.message.type, SENT or RECEIVED; rpc.message.id, counted from 1 in each
// direction; rpc.message.uncompressed_size in bytes; rpc.method, rpc.kind,
// request_id, trace_id and span_id.
//
// Fields with the option debug_redact are "[redacted]", whatever their type and
// wherever they are: in messages of messages, lists, maps, oneofs, extensions and
// in an Any. So are fields with an option whose enum value has debug_redact. The
// content of an Any whose type is not known is not logged, and it is "[too large]"
// where the Anys of a message, those in others included, have more than 64 KB and
// [PayloadBytes] to unpack. JSON ends after 4096 bytes, see PayloadBytes;
// rpcscope.payload.truncated is then true. Of a message that is no protocol buffer
// the Go type alone is logged; metadata never is.
//
// Calls that the engine does not observe, see [WithFilter], are left out. A call
// never fails because its messages cannot be logged: that goes to [otel.Handle].
// Put it last, so that what is logged is what the handler, or the transport, gets.
func LogPayloads(opts ...PayloadOption) Interceptor {
	p := payloads{limit: 4096, ratio: 1, level: slog.LevelInfo}
	for _, o := range opts {
		if o != nil {
			o(&p)
		}
	}
	return func(ctx context.Context, call *Call, next Next) error {
		logger, wanted := p.wants(ctx, call)
		if !wanted {
			return next(ctx)
		}
		out, in := payload{logger, "SENT"}, payload{logger, "RECEIVED"}
		if call.Kind != Unary {
			var sent, received int64 // of a stream's messages one at a time goes each way
			call.OnSend(func(msg any) error { sent++; p.log(ctx, call, out, sent, msg); return nil })
			call.OnReceive(func(msg any) error { received++; p.log(ctx, call, in, received, msg); return nil })
			return next(ctx)
		}
		first, second := in, out
		if call.Side == ClientSide {
			first, second = out, in
		}
		p.log(ctx, call, first, 1, call.Request)
		err := next(ctx)
		if err == nil {
			p.log(ctx, call, second, 1, call.Response)
		}
		return err
	}
}

// PayloadOption configures [LogPayloads]. A nil option is skipped; of several of a
// kind the last one counts.
type PayloadOption func(*payloads)

// PayloadBytes logs at most n bytes of each message's JSON, 4096 by default. Long
// messages cost little more than short ones. It panics if n is not positive.
func PayloadBytes(n int) PayloadOption {
	if n <= 0 {
		panic(fmt.Sprintf("interceptors: PayloadBytes(%d): want more than zero", n))
	}
	return func(p *payloads) { p.limit = n }
}

// PayloadRatio logs the messages of that share of calls, all by default. The
// trace id decides, so that the services that a trace goes through log the same
// calls, independently of what is sampled; where there is none, chance does. It
// panics if ratio is not between 0 and 1.
func PayloadRatio(ratio float64) PayloadOption {
	if !(ratio >= 0 && ratio <= 1) { // NaN is neither
		panic(fmt.Sprintf("interceptors: PayloadRatio(%v): want 0 to 1", ratio))
	}
	return func(p *payloads) { p.ratio = ratio }
}

// PayloadSampledTraces logs only the messages of calls whose trace is sampled.
func PayloadSampledTraces() PayloadOption { return func(p *payloads) { p.sampled = true } }

// PayloadLevel sets the level of the records, [slog.LevelInfo] by default. What
// the logger does not let pass costs nothing.
func PayloadLevel(level slog.Level) PayloadOption { return func(p *payloads) { p.level = level } }

// PayloadLogger sets where the records go, for those who keep messages apart from
// other logs. Without it, or with nil, they go where the access log goes, see
// [WithLogger].
func PayloadLogger(l *slog.Logger) PayloadOption { return func(p *payloads) { p.logger = l } }

type payloads struct {
	limit   int // bytes
	ratio   float64
	sampled bool // traces only
	level   slog.Level
	logger  *slog.Logger
}

// payload is where one goes, and which way it went.
type payload struct {
	logger    *slog.Logger
	direction string
}

var messageText = [...]string{ServerSide: "server message", ClientSide: "client message"}

// The attributes of a record that no other has.
const (
	payloadKey          = "rpcscope.payload"
	payloadTypeKey      = "rpcscope.payload.type"
	payloadTruncatedKey = "rpcscope.payload.truncated"
)

// brokenPayloads is what panicked where a message is not logged.
const brokenPayloads = "LogPayloads: the handler, or a message that it was given,"

// wants tells whether the messages of the call are logged, and where to.
func (p *payloads) wants(ctx context.Context, call *Call) (logger *slog.Logger, wanted bool) {
	defer survive(brokenPayloads, call)
	switch logger = p.logger; {
	case logger != nil:
	case call.m != nil:
		logger = call.m.e.logger
	default:
		logger = slog.Default()
	}
	if r := call.rpcIn(ctx); r != nil && !r.observed {
		return nil, false
	}
	sc := trace.SpanContextFromContext(ctx)
	return logger, (sc.IsSampled() || !p.sampled) && p.drawn(sc.TraceID()) && logger.Enabled(ctx, p.level)
}

// drawn tells whether the call is of the share that is logged.
func (p *payloads) drawn(id trace.TraceID) bool {
	if p.ratio >= 1 {
		return true
	}
	draw := rand.Uint64()
	if id.IsValid() {
		// Samplers look at the upper bits as they are: after the product with an odd
		// number, which is Knuth's multiplicative hash, ours tell nothing of them.
		draw = binary.BigEndian.Uint64(id[8:]) * 0x9E3779B97F4A7C15
	}
	return float64(draw>>11) < p.ratio*(1<<53)
}

// log writes the record of the n-th message that goes that way. It is called by
// the application's goroutines, where nobody else would recover.
func (p *payloads) log(ctx context.Context, call *Call, to payload, n int64, msg any) {
	defer survive(brokenPayloads, call)
	var room [11]slog.Attr
	attrs := append(room[:0],
		slog.String(string(semconv.RPCMethodKey), strings.TrimPrefix(call.FullMethod, "/")),
		slog.String(logKind, call.Kind.String()),
		slog.String(string(messageTypeKey), to.direction),
		slog.Int64(string(messageIDKey), n),
	)
	if m, ok := msg.(proto.Message); ok {
		size := proto.Size(m)
		text, truncated := payloadJSON(m.ProtoReflect(), p.limit)
		attrs = append(attrs,
			slog.Int(string(messageUncompressedKey), size),
			slog.String(payloadTypeKey, string(m.ProtoReflect().Descriptor().FullName())),
			slog.String(payloadKey, text),
		)
		if truncated {
			attrs = append(attrs, slog.Bool(payloadTruncatedKey, true))
		}
	} else {
		attrs = append(attrs, slog.String(payloadTypeKey, fmt.Sprintf("%T", msg)))
	}
	id, sc := propagation.RequestID(ctx), trace.SpanContextFromContext(ctx)
	if r := call.rpcIn(ctx); r != nil {
		if span := r.span(); span != nil {
			id, sc = r.id(), span.SpanContext() // an interceptor may have made a span of its own
		}
	}
	if id != "" {
		attrs = append(attrs, slog.String(logRequestID, id))
	}
	attrs = appendIDs(attrs, sc)
	record := slog.NewRecord(time.Now(), p.level, messageText[call.Side], 0)
	record.AddAttrs(attrs...)
	_ = to.logger.Handler().Handle(ctx, record) // its error has nowhere to go: the log is where errors go
}
