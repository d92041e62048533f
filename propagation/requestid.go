package propagation

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// RequestIDHeader is the header, and the gRPC metadata key, of the request id.
// HTTP spells it X-Request-Id; Envoy and most gateways use the same name.
const RequestIDHeader = "x-request-id"

const maxRequestID = 128

// NewRequestID returns a new request id: a UUIDv7 in its canonical text form
// (RFC 9562, section 5.7). The 12 bits after the version hold the fraction of
// the millisecond (section 6.2, method 3), so that ids of one process sort in
// the order they were made, to a quarter of a microsecond. What is random in it
// comes from [math/rand/v2], as OpenTelemetry's trace ids do: a request id tells
// calls apart and is no secret. It is safe for concurrent use.
func NewRequestID() string {
	var id [16]byte
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	now := time.Now()
	ms := uint64(now.UnixMilli())
	fraction := uint64(now.Nanosecond()) % 1e6 << 12 / 1e6
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = 0x70 | byte(fraction>>8)
	id[7] = byte(fraction)
	id[8] = 0x80 | id[8]&0x3f

	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// ValidRequestID reports whether id may be used as a request id: 1 to 128 bytes
// of [A-Za-z0-9][A-Za-z0-9._~:/+=-]*. Such an id is safe in a header, a log line
// and a URL query without quoting.
func ValidRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID || !isAlphaNum(id[0]) {
		return false
	}
	for i := 1; i < len(id); i++ {
		if !requestIDChars[id[i]] {
			return false
		}
	}
	return true
}

// RequestID returns the request id in ctx, or "" if there is none. What it
// returns is always valid in the sense of [ValidRequestID].
func RequestID(ctx context.Context) string {
	return stateOf(ctx).requestID
}

// ContextWithRequestID returns a copy of ctx that carries id, in place of a
// request id it had. An id that [ValidRequestID] refuses leaves ctx as it is.
func ContextWithRequestID(ctx context.Context, id string) context.Context {
	if !ValidRequestID(id) {
		return ctx
	}
	next := stateOf(ctx)
	if next.requestID == id {
		return ctx
	}
	next.requestID = id
	return next.in(ctx)
}

// requestIDIn returns the request id of a carrier: "" if it has none, if it is
// invalid, and if several values contradict each other. repeated tells that the
// carrier holds it more than once.
func requestIDIn(carrier otelprop.TextMapCarrier) (id string, repeated bool) {
	ids := values(carrier, RequestIDHeader)
	if len(ids) == 0 || !ValidRequestID(ids[0]) {
		return "", false
	}
	for _, other := range ids[1:] {
		if other != ids[0] {
			return "", true
		}
	}
	return ids[0], len(ids) > 1
}

var requestIDChars = func() (ok [256]bool) {
	for c := range 256 {
		ok[c] = isAlphaNum(byte(c))
	}
	for _, c := range []byte("._~:/+=-") {
		ok[c] = true
	}
	return ok
}()

func isAlphaNum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
