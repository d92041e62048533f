package interceptors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// scopeName is the instrumentation scope of the suite's spans and metrics.
const scopeName = "github.com/rpcscope/rpcscope/interceptors"

// engine is what all calls of one set of options share.
type engine struct {
	config
	instruments

	side    Side
	tracer  trace.Tracer
	methods methods
	others  [len(kindNames)]*method // for methods that a stranger made up
	message string                  // of the access log's records
	reasons reasons

	breakers sync.Map // of *breakers: those that calls have asked
	limits   sync.Map // of *limitGauge: those that calls have met
}

func newEngine(c config, side Side) *engine {
	c.setDefaults()
	e := &engine{config: c, side: side, message: side.String() + " call"}
	if !c.withoutTracing && !c.otelgrpc {
		e.tracer = c.tracerProvider.Tracer(scopeName, trace.WithSchemaURL(semconv.SchemaURL))
	}
	provider := c.meterProvider
	if c.withoutMetrics {
		provider = noop.NewMeterProvider()
	}
	var err error
	for kind := range e.others {
		e.others[kind] = newMethod(e, other, Kind(kind), nil)
	}
	meter := provider.Meter(scopeName, metric.WithSchemaURL(semconv.SchemaURL))
	e.instruments, err = newInstruments(meter, side, &e.config)
	if err = errors.Join(err, e.observeActive(meter), e.observeBreakers(meter), e.observeLimits(meter)); err != nil {
		otel.Handle(fmt.Errorf("interceptors: %s instruments: %w", side, err))
	}
	return e
}

// rpc is one call on one side: its context, its Call and its end, in one
// allocation. Whatever notices that the call is over calls end; the first one
// counts.
type rpc struct {
	context.Context

	call     Call
	own      any // of a server: the handler's reply, then see failure; of a client: see conn
	ended    atomic.Bool
	answered atomic.Bool // a response message went by
	observed bool
	minted   bool // the request id was made here
	panicked bool
	exited   bool   // runtime.Goexit
	spanned  bool   // the context has a span of the call's own
	previous uint16 // attempts, as a server is told

	peer  *connection // nil on clients
	tries *tries      // nil unless a client's attempts are watched
}

func (r *rpc) engine() *engine { return r.call.m.e }

// failure is what a server's handler or chain failed with, with its private
// cause.
func (r *rpc) failure() error {
	err, _ := r.own.(error)
	return err
}

// conn is the connection that a client makes the call with.
func (r *rpc) conn() *grpc.ClientConn {
	cc, _ := r.own.(*grpc.ClientConn)
	return cc
}

// rpcKey finds the innermost rpc of a side in a context.
type rpcKey Side

func (r *rpc) Value(key any) any {
	if k, ok := key.(rpcKey); ok && Side(k) == r.call.Side {
		return r
	}
	return r.Context.Value(key)
}

func rpcFromContext(ctx context.Context, side Side) *rpc {
	if r, ok := ctx.(*rpc); ok && r.call.Side == side { // as stats handlers get it
		return r
	}
	r, _ := ctx.Value(rpcKey(side)).(*rpc)
	return r
}

// rpcIn is the rpc that c is the call of, if ctx is of its chain; else nil.
func (c *Call) rpcIn(ctx context.Context) *rpc {
	if r := rpcFromContext(ctx, c.Side); r != nil && &r.call == c {
		return r
	}
	return nil
}

// begin observes the call from here on: r.Context, r.call and r.call.m are set.
func (r *rpc) begin() {
	r.call.ctx = r.Context
	if r.observed = r.observes(); !r.observed {
		return
	}
	if r.engine().tracer != nil {
		options := r.call.m.start
		if r.previous > 0 {
			options = append(options[:len(options):len(options)], trace.WithAttributes(previousAttemptsKey.Int(int(r.previous))))
		}
		if r.engine().publicEndpoint {
			options = r.newRoot(options)
		}
		if ctx, span := r.startSpan(r.Context, r.call.m.name, options...); span != nil {
			r.Context, r.call.ctx, r.spanned = ctx, ctx, true
		}
	}
	r.call.m.begin()
}

// startSpan is the tracer's Start. Where that panics there is no span.
func (r *rpc) startSpan(ctx context.Context, name string, options ...trace.SpanStartOption) (within context.Context, span trace.Span) {
	within = ctx //nolint:wastedassign // it is what is left where Start panics
	defer survive("WithTracerProvider: the tracer, or a sampler or span processor,", &r.call)
	return r.engine().tracer.Start(ctx, name, options...)
}

func (r *rpc) newRoot(options []trace.SpanStartOption) []trace.SpanStartOption {
	options = append(options[:len(options):len(options)], trace.WithNewRoot())
	if caller := trace.SpanContextFromContext(r.Context); caller.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: caller}))
	}
	return options
}

// end ends the call, once: span, metrics and access log say the same. err is
// nil or what the call failed with; message is for strangers.
func (r *rpc) end(code codes.Code, message string, err error) {
	if !r.ended.CompareAndSwap(false, true) {
		return
	}
	elapsed := time.Since(r.call.start)
	if r.observed {
		defer r.over()
	}
	defer survive("WithMeterProvider: an instrument", &r.call)
	ctx := r.traced()
	if r.panicked {
		r.engine().panics.Add(ctx, 1, r.call.m.add...)
	}
	ended := r.call.m.outcome(code)
	if !r.observed {
		if r.panicked {
			r.log(ended.log, code, elapsed, err, nil)
		}
		return
	}
	logging := r.logs(code)
	var room [4]attribute.KeyValue
	extra := r.describe(room[:0], ended, code, message, err, logging)
	if logging {
		r.log(ended.log, code, elapsed, err, extra)
	}
	record, tenant := ended.record, r.tenant()
	if tenant != nil {
		record = []metric.RecordOption{r.call.m.with(slices.Concat(ended.attrs, tenant)...)}
	}
	r.engine().duration.Record(ctx, elapsed.Seconds(), record...)
	r.countMessages(ctx)
	if code != codes.OK {
		r.countFailure(ctx, ended, err, tenant)
	}
}

// describe tells the span how the call ended, and returns what is for the log as
// well; room is for that where there is no span.
func (r *rpc) describe(room []attribute.KeyValue, ended *outcome, code codes.Code, message string, err error, logging bool) (extra []attribute.KeyValue) {
	defer survive("WithTracerProvider: the span, or WithPropagator's attributes,", &r.call)
	span := r.span()
	if span == nil || !span.IsRecording() {
		if logging {
			return r.attributes(room, code, err)
		}
		return nil
	}
	attrs := r.attributes(append(make([]attribute.KeyValue, 0, len(ended.attrs)+1), ended.attrs...), code, err)
	extra = attrs[len(ended.attrs):]
	span.SetAttributes(attrs...) // at once: each time is a copy of all
	if failed(r.engine().side, code) {
		span.SetStatus(otelcodes.Error, message)
		if r.engine().side == ServerSide {
			r.exception(span, err)
		}
	}
	return extra
}

// over comes last, so that who sees the span end finds the call in the metrics.
func (r *rpc) over() {
	defer survive("WithTracerProvider: the span, or a span processor,", &r.call)
	r.call.m.end()
	if span := r.span(); span != nil && !r.engine().otelgrpc {
		span.End()
	}
}

// span is the call's own, or nil.
func (r *rpc) span() trace.Span {
	if !r.spanned {
		return nil
	}
	return trace.SpanFromContext(r.Context)
}

// id is the request id. What the interceptors do to their contexts does not
// change it.
func (r *rpc) id() string { return propagation.RequestID(r.Context) }

// attributes appends those of this one call, for its span and its access log.
func (r *rpc) attributes(attrs []attribute.KeyValue, code codes.Code, err error) []attribute.KeyValue {
	if id := r.id(); id != "" {
		attrs = append(attrs, requestIDKey.String(id))
	}
	if r.call.m.name == other {
		attrs = append(attrs, semconv.RPCMethodOriginal(r.call.FullMethod))
	}
	if code >= undefinedCode {
		attrs = append(attrs, semconv.RPCResponseStatusCode(codeName(code)))
	}
	if err != nil {
		if domain, reason := errors.Reason(err); domain != "" || reason != "" {
			attrs = append(attrs, errorDomainKey.String(domain), errorReasonKey.String(reason))
		}
	}
	_, own := r.engine().propagators()
	attrs = own.AppendAttributes(r.call.ctx, attrs)
	if a := r.call.added; a != nil {
		attrs = append(attrs, a.attributes...)
		attrs = a.deadline.appendAttributes(attrs, r.call.start)
	}
	for _, f := range r.engine().attributes {
		attrs = append(attrs, r.attributesOf(f)...)
	}
	return attrs
}

func (r *rpc) attributesOf(f func(context.Context, *Call) []attribute.KeyValue) []attribute.KeyValue {
	defer survive("WithAttributes: the function", &r.call)
	return f(r.call.ctx, &r.call)
}

func (r *rpc) observes() bool {
	m := r.call.m
	if m.e.observe == nil && m.name != other {
		return !m.noise
	}
	return m.e.observes(&r.call)
}

func (e *engine) observes(call *Call) bool {
	if e.observe == nil {
		return !isNoise(call)
	}
	refused := false // also when the matcher panics
	func() {
		defer survive("WithFilter: the function", call)
		refused = !e.observe(call)
	}()
	return !refused
}

// tenant is the tenant.id of the call's points, for a propagator that is told
// which tenants metrics may name; else nil (rule 23).
func (r *rpc) tenant() []attribute.KeyValue {
	_, own := r.engine().propagators()
	if kv, ok := own.MetricTenant(r.call.ctx); ok {
		return []attribute.KeyValue{kv}
	}
	return nil
}

func (r *rpc) countFailure(ctx context.Context, ended *outcome, err error, tenant []attribute.KeyValue) {
	if !r.engine().failures.Enabled(ctx) {
		return
	}
	domain, reason := r.engine().reasons.bound(errors.Reason(err))
	attrs := append(make([]attribute.KeyValue, 0, 4), ended.attrs[0])
	if domain != "" || reason != "" {
		attrs = append(attrs, errorDomainKey.String(domain), errorReasonKey.String(reason))
	}
	attrs = append(attrs, tenant...)
	r.engine().failures.Add(ctx, 1, r.call.m.with(attrs...))
}
