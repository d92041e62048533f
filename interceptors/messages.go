package interceptors

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// The event of a message on a span, as OpenTelemetry's semantic conventions for
// gRPC had it until they left messages to the libraries.
const (
	messageEvent           = "rpc.message"
	messageTypeKey         = attribute.Key("rpc.message.type")
	messageIDKey           = attribute.Key("rpc.message.id")
	messageUncompressedKey = attribute.Key("rpc.message.uncompressed_size")
	messageCompressedKey   = attribute.Key("rpc.message.compressed_size")
)

// messageInstruments are those of [WithMessageMetrics].
type messageInstruments struct {
	requestSize, responseSize metric.Int64Histogram
	requests, responses       metric.Int64Histogram
	firstMessage              metric.Float64Histogram
}

var (
	sizeBuckets  = []float64{0, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216}
	countBuckets = []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384}
)

func newMessageInstruments(meter metric.Meter, side Side) (*messageInstruments, error) {
	prefix := "rpcscope." + side.String() + "."
	size := func(name, what string) (metric.Int64Histogram, error) {
		return meter.Int64Histogram(prefix+name, metric.WithUnit("By"), metric.WithExplicitBucketBoundaries(sizeBuckets...),
			metric.WithDescription("Size of each "+what+" message, uncompressed."))
	}
	count := func(name, what string) (metric.Int64Histogram, error) {
		return meter.Int64Histogram(prefix+name, metric.WithUnit("{message}"), metric.WithExplicitBucketBoundaries(countBuckets...),
			metric.WithDescription("Number of "+what+" messages of each call."))
	}
	requestSize, err1 := size("request.size", "request")
	responseSize, err2 := size("response.size", "response")
	requests, err3 := count("requests_per_call", "request")
	responses, err4 := count("responses_per_call", "response")
	first, err5 := meter.Float64Histogram(prefix+"time_to_first_message", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(durationBuckets...),
		metric.WithDescription("Time from the beginning of a call to its first response message."))
	return &messageInstruments{requestSize, responseSize, requests, responses, first}, errors.Join(err1, err2, err3, err4, err5)
}

// message is one that went over the wire. id counts those of its direction
// from 1; sizes are in bytes.
type message struct {
	received         bool
	id               int64
	size, compressed int
}

// message takes note of m, which gRPC has told with ctx, if anybody asked for it.
func (r *rpc) message(ctx context.Context, m message) {
	if !r.observed {
		return
	}
	i := r.engine().messages
	if i == nil && !r.engine().messageEvents {
		return
	}
	defer survive("WithMessageMetrics or WithMessageEvents: an instrument or the span", &r.call)
	if i != nil {
		response := m.received == (r.engine().side == ClientSide)
		size := i.requestSize
		if response {
			size = i.responseSize
		}
		size.Record(ctx, int64(m.size), r.call.m.record...)
		if response && r.answered.CompareAndSwap(false, true) {
			i.firstMessage.Record(ctx, time.Since(r.call.start).Seconds(), r.call.m.record...)
		}
	}
	if !r.engine().messageEvents {
		return
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		kind := messageTypeKey.String("SENT")
		if m.received {
			kind = messageTypeKey.String("RECEIVED")
		}
		span.AddEvent(messageEvent, trace.WithAttributes(kind, messageIDKey.Int64(m.id),
			messageUncompressedKey.Int(m.size), messageCompressedKey.Int(m.compressed)))
	}
}

// countMessages records how many messages the call had, at its end.
func (r *rpc) countMessages(ctx context.Context) {
	i := r.engine().messages
	if i == nil {
		return
	}
	requests, responses := r.call.Received(), r.call.Sent()
	if r.engine().side == ClientSide {
		requests, responses = responses, requests
	}
	i.requests.Record(ctx, requests, r.call.m.record...)
	i.responses.Record(ctx, responses, r.call.m.record...)
}
