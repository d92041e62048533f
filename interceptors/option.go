package interceptors

import (
	"context"
	"log/slog"
	"reflect"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// ServerOption configures [ServerOptions]. It is sealed: the options are those
// of this package. A nil option is skipped.
type ServerOption interface{ applyServer(*config) }

// ClientOption configures [DialOptions]. It is sealed: the options are those of
// this package. A nil option is skipped.
type ClientOption interface{ applyClient(*config) }

// Option is a [ServerOption] and a [ClientOption]: one value serves both
// sides. Where the same option is given twice the last one counts; for
// interceptors and [WithAttributes] all count, in order.
type Option interface {
	ServerOption
	ClientOption
}

type config struct {
	tracerProvider trace.TracerProvider
	meterProvider  metric.MeterProvider
	propagator     otelpropagation.TextMapPropagator
	logger         *slog.Logger
	converter      *errors.Converter
	observe        Matcher // nil: all but noise
	attributes     []func(context.Context, *Call) []attribute.KeyValue
	chain          []Interceptor

	otelgrpcOptions []otelgrpc.Option

	otelgrpc       bool
	attempts       bool
	messageMetrics bool
	messageEvents  bool
	withoutTracing bool
	withoutMetrics bool
	withoutLogging bool
	publicEndpoint bool
	exceptions     exceptionSignals // servers only
	external       bool
}

func (c *config) setDefaults() {
	if isNil(c.tracerProvider) {
		c.tracerProvider = otel.GetTracerProvider()
	}
	if isNil(c.meterProvider) {
		c.meterProvider = otel.GetMeterProvider()
	}
	if isNil(c.propagator) {
		c.propagator = nil // the global one, as it is at each call
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	if c.converter == nil {
		c.converter = errors.NewConverter()
	}
}

// isNil tells whether v is nil, or an interface with a nil function or pointer in it.
func isNil[T any](v T) bool {
	switch v := reflect.ValueOf(v); v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Func, reflect.Pointer:
		return v.IsNil()
	}
	return false
}

type option func(*config)

func (o option) applyServer(c *config) { o(c) }
func (o option) applyClient(c *config) { o(c) }

type serverOption func(*config)

func (o serverOption) applyServer(c *config) { o(c) }

type clientOption func(*config)

func (o clientOption) applyClient(c *config) { o(c) }

func (i Interceptor) applyServer(c *config) { c.add(i) }
func (i Interceptor) applyClient(c *config) { c.add(i) }

func (c *config) add(i Interceptor) {
	if i != nil {
		c.chain = append(c.chain, i)
	}
}

// WithTracerProvider sets where spans are made. Without it, or with nil, the
// global provider of OpenTelemetry is used, also when it is installed later. If a
// sampler or span processor of it panics, that is reported to [otel.Handle] and the
// call goes on.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return option(func(c *config) { c.tracerProvider = tp })
}

// WithMeterProvider sets where metrics are recorded. Without it, or with nil,
// the global provider of OpenTelemetry is used, also when it is installed later.
func WithMeterProvider(mp metric.MeterProvider) Option {
	return option(func(c *config) { c.meterProvider = mp })
}

// WithPropagator sets how trace context, baggage, request id and identity
// travel. Without it, or with nil, each call uses the global propagator of
// OpenTelemetry. The request id is carried whatever the propagator: where it is
// not a [*propagation.Propagator], one with default options carries the id
// beside it. If p panics, that is reported to [otel.Handle] and the call goes on
// without what it was to carry.
func WithPropagator(p otelpropagation.TextMapPropagator) Option {
	return option(func(c *config) { c.propagator = p })
}

// WithLogger sets where the access log and the stacks of panics go. Without
// it, or with nil, [slog.Default] is used as it is when the options are made. If
// its handler panics, that is reported to [otel.Handle] and the call goes on
// without the record.
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) { c.logger = l })
}

// WithoutTracing makes no spans. Trace context is still carried on from the
// caller to what the handler calls.
func WithoutTracing() Option { return option(func(c *config) { c.withoutTracing = true }) }

// WithoutMetrics records no metrics.
func WithoutMetrics() Option { return option(func(c *config) { c.withoutMetrics = true }) }

// WithoutLogging writes no access log. Panics are still logged, and a server's
// faults where OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN puts them in the log.
func WithoutLogging() Option { return option(func(c *config) { c.withoutLogging = true }) }

// WithFilter observes only the calls that m matches: for others there is no
// span, no metric and no access log, while request id, errors, panics and
// interceptors work as ever. Without it, or with nil, health checks, reflection
// and channelz are not observed; Methods("*") observes everything. If m panics,
// that is reported to [otel.Handle] and the call is observed.
func WithFilter(m Matcher) Option {
	return option(func(c *config) { c.observe = m })
}

// WithErrorConverter sets how errors become statuses and statuses become
// errors. Without it, or with nil, it is [errors.NewConverter] without options.
func WithErrorConverter(converter *errors.Converter) Option {
	return option(func(c *config) { c.converter = converter })
}

// WithAttributes adds attributes to the span and the access log of every
// observed call. f runs once, at the end of the call, with the innermost
// context that the interceptors made; it may run on any goroutine. Values do
// not become metric attributes, so they need not be few. On a client with
// [WithOTelGRPC] it also runs at the end of each attempt. If it panics, that is
// reported to [otel.Handle] and the call goes on. A nil f is skipped.
func WithAttributes(f func(ctx context.Context, call *Call) []attribute.KeyValue) Option {
	return option(func(c *config) {
		if f != nil {
			c.attributes = append(c.attributes, f)
		}
	})
}

// WithMessageMetrics records messages: rpcscope.server.request.size and
// .response.size, the uncompressed size of each in bytes; .requests_per_call
// and .responses_per_call, their numbers; and .time_to_first_message, the
// seconds from the beginning of a call to its first response. The names on
// clients begin with rpcscope.client. Without it they do not exist. On clients
// it costs every call what a stats handler of gRPC costs.
func WithMessageMetrics() Option {
	return option(func(c *config) { c.messageMetrics = true })
}

// WithMessageEvents adds an event rpc.message for each message to the span,
// with rpc.message.type (SENT or RECEIVED), rpc.message.id (counted from 1 in
// each direction) and its sizes in bytes, rpc.message.uncompressed_size and
// rpc.message.compressed_size. The payload is not recorded. The SDK limits the
// number of events per span, 128 by default. On clients it costs every call
// what a stats handler of gRPC costs.
func WithMessageEvents() Option {
	return option(func(c *config) { c.messageEvents = true })
}

// WithAttempts makes a span of each attempt that gRPC makes of a call, a child
// of the call's span and the parent of the server's, and counts attempts in
// rpcscope.client.attempts by method, code and reason (rpcscope.attempt:
// initial, retry or transparent_retry). The spans are named
// "Attempt.users.v1.UserService/GetUser", are of kind INTERNAL, and have the
// attributes previous-rpc-attempts and transparent-retry, all as in gRPC's
// proposal A72. Without it a call has one span whatever gRPC does, and the
// servers' spans are children of that. It costs every call what a stats handler
// of gRPC costs.
//
// Of an attempt that fails while the client is sending, and is made again, gRPC
// does not tell the code: it is the one that the service config retries, or
// UNKNOWN where that names several.
func WithAttempts() ClientOption {
	return clientOption(func(c *config) { c.attempts = true })
}

// WithPublicEndpoint makes every server span the root of a new trace, linked to
// the caller's span, for servers that strangers call. The default is to
// continue the caller's trace.
func WithPublicEndpoint() ServerOption {
	return serverOption(func(c *config) { c.publicEndpoint = true })
}

// External says that the server at the other end is a third party: nothing of
// ours but the trace context is sent to it, no request id, no identity, no
// baggage, whatever the propagator's outbound policy. Without it the policy
// decides.
func External() ClientOption {
	return clientOption(func(c *config) { c.external = true })
}

// propagators returns what carries a call's context. own carries at least the
// request id; foreign is nil unless the configured propagator is not ours.
func (c *config) propagators() (foreign otelpropagation.TextMapPropagator, own *propagation.Propagator) {
	p := c.propagator
	if p == nil {
		p = otel.GetTextMapPropagator()
	}
	if own, ok := p.(*propagation.Propagator); ok && own != nil {
		return nil, own
	}
	return p, requestIDOnly
}

// requestIDOnly stands beside a propagator that knows of no request id.
var requestIDOnly = propagation.New(propagation.WithTraceContext(nil), propagation.WithoutBaggage())
