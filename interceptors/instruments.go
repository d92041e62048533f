package interceptors

import (
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
)

// The attributes of the suite that the semantic conventions have no name for.
const (
	requestIDKey   = attribute.Key("request.id")
	errorDomainKey = attribute.Key("error.domain")
	errorReasonKey = attribute.Key("error.reason")
)

// durationBuckets are those the semantic conventions advise for
// rpc.server.call.duration and rpc.client.call.duration, in seconds.
var durationBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// The buckets of the suite's own histograms about deadlines, in seconds and shares.
var (
	budgetBuckets = []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
	shareBuckets  = []float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1}
)

// instruments are those of one side.
type instruments struct {
	duration metric.Float64Histogram
	failures metric.Int64Counter
	panics   metric.Int64Counter

	rejected metric.Int64Counter

	deadlineBudget metric.Float64Histogram // of calls that Timeout or MaxTimeout has seen
	deadlineUsed   metric.Float64Histogram

	limiterFailures metric.Int64Counter // servers only

	attempted      metric.Int64Counter // clients only, with WithAttempts, Retry or Hedge
	retriesStopped metric.Int64Counter // clients only
	breakerMoves   metric.Int64Counter // clients only

	messages *messageInstruments // nil without WithMessageMetrics
}

func newInstruments(meter metric.Meter, side Side, c *config) (instruments, error) {
	description := "Measures the duration of an incoming Remote Procedure Call (RPC)."
	if side == ClientSide {
		description = "Measures the duration of an outgoing Remote Procedure Call (RPC)."
	}
	standard := meter
	if c.otelgrpc {
		standard = noop.Meter{} // the point is otelgrpc's
	}
	var i instruments
	var errs []error
	var err error
	i.duration, err = standard.Float64Histogram("rpc."+side.String()+".call.duration",
		metric.WithDescription(description), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(durationBuckets...))
	errs = append(errs, err)
	prefix := "rpcscope." + side.String() + "."
	counter := func(name, unit, description string) metric.Int64Counter {
		counter, err := meter.Int64Counter(prefix+name, metric.WithDescription(description), metric.WithUnit(unit))
		errs = append(errs, err)
		return counter
	}
	i.failures = counter("errors", "{error}", "Calls that ended with another code than OK.")
	i.panics = counter("panics", "{panic}", "Panics of handlers and interceptors.")
	i.rejected = counter("rejected", "{call}", "Calls that an interceptor refused: by reason.")
	histogram := func(name, unit, description string, buckets []float64) metric.Float64Histogram {
		histogram, err := meter.Float64Histogram(prefix+name, metric.WithDescription(description), metric.WithUnit(unit),
			metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return histogram
	}
	i.deadlineBudget = histogram("deadline.budget", "s", "Time that a call had until its deadline.", budgetBuckets)
	i.deadlineUsed = histogram("deadline.used", "1", "Share of the time until its deadline that a call took.", shareBuckets)
	if side == ServerSide {
		i.limiterFailures = counter("limiter.failures", "{failure}", "Calls, or messages, whose rate limiter failed: by what became of them.")
	}
	if side == ClientSide {
		i.attempted = counter("attempts", "{attempt}", "Attempts that were made of calls: the first ones, and those after a failure.")
		i.retriesStopped = counter("retries.stopped", "{call}", "Calls whose failure would have been retried, and was not: by reason.")
		i.breakerMoves = counter("breaker.transitions", "{transition}", "Changes of the state of circuit breakers.")
	}
	if c.messageMetrics {
		i.messages, err = newMessageInstruments(meter, side)
		errs = append(errs, err)
	}
	return i, errors.Join(errs...)
}

// method is all that is the same for every call of a method, made once.
type method struct {
	e      *engine
	name   string
	kind   Kind
	target string               // canonical; clients only
	noise  bool                 // not observed by default
	attrs  []attribute.KeyValue // of every metric: name, system and, on a client, address
	start  []trace.SpanStartOption
	add    []metric.AddOption
	level  metric.ObserveOption
	record []metric.RecordOption
	ends   [len(codeNames) + 1]atomic.Pointer[outcome]

	active atomic.Int64 // calls under way
	called atomic.Bool
}

// outcome is what the calls of a method that end with the same code share.
type outcome struct {
	attrs  []attribute.KeyValue // of the span, and beside the method's of the duration
	record []metric.RecordOption
	log    slog.Handler // has the attributes that are the same for all of them; nil if it panicked
}

func newMethod(e *engine, name string, kind Kind, addr []attribute.KeyValue) *method {
	m := &method{e: e, name: name, kind: kind, noise: isNoise(&Call{FullMethod: "/" + name})}
	m.attrs = []attribute.KeyValue{semconv.RPCMethod(name), semconv.RPCSystemNameGRPC}
	span := append(m.attrs[:2:2], addr...)
	spanKind := trace.SpanKindServer
	if e.side == ClientSide {
		spanKind = trace.SpanKindClient
		// A server's own address says nothing that its resource does not.
		m.attrs = append(m.attrs, addr...)
	}
	m.start = []trace.SpanStartOption{trace.WithSpanKind(spanKind), trace.WithAttributes(span...)}
	set := m.with()
	m.add, m.record, m.level = []metric.AddOption{set}, []metric.RecordOption{set}, set
	return m
}

// with has the attributes that every metric of the method has, and more.
func (m *method) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(slices.Concat(m.attrs, more)...))
}

func (m *method) outcome(code codes.Code) *outcome {
	slot := &m.ends[min(code, undefinedCode)]
	if o := slot.Load(); o != nil {
		return o
	}
	status := semconv.RPCResponseStatusCode(boundedCodeName(code))
	o := &outcome{attrs: []attribute.KeyValue{status}, log: m.logHandler(code)}
	if failed(m.e.side, code) {
		o.attrs = append(o.attrs, semconv.ErrorTypeKey.String(boundedCodeName(code)))
	}
	o.record = []metric.RecordOption{m.with(o.attrs...)}
	if o.log != nil {
		slot.Store(o)
	}
	return o
}

// methodKey is a method at an address: the one a server's connection came in
// at, or the target of a client.
type methodKey struct {
	name    string
	kind    Kind
	address string
}

// A server with a grpc.UnknownServiceHandler takes the names of methods from
// strangers, so neither their number nor that of the addresses is unbounded.
const (
	maxMethods = 4096
	maxUnknown = 256
)

// methods is a cache that is read by every call and almost never written.
type methods struct {
	known   atomic.Pointer[map[methodKey]*method]
	mu      sync.Mutex
	unknown int // of those, how many a stranger may have named
}

// get returns the method for key, made by newMethod where it is not known yet. doubtful
// says that a peer may have made the name up.
func (c *methods) get(key methodKey, doubtful bool, newMethod func() *method) *method {
	if known := c.known.Load(); known != nil {
		if m := (*known)[key]; m != nil {
			return m
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var old map[methodKey]*method
	if known := c.known.Load(); known != nil {
		old = *known
	}
	if m := old[key]; m != nil {
		return m
	}
	if len(old) >= maxMethods || (doubtful && c.unknown >= maxUnknown) {
		return nil
	}
	if doubtful {
		c.unknown++
	}
	known := make(map[methodKey]*method, len(old)+1)
	for k, v := range old {
		known[k] = v
	}
	m := newMethod()
	known[key] = m
	c.known.Store(&known)
	return m
}

// serverAddress is the address of a server in the semantic conventions' form.
func serverAddress(hostport string) []attribute.KeyValue {
	if hostport == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(hostport)}
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(host)}
	}
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(n)}
}

// targetAddress is the server's address as a canonical dial target names it:
// "dns:///users:50051" is users, port 50051. The name is better than the IP
// address that it stands for today, and bounded.
func targetAddress(target string) []attribute.KeyValue {
	u, err := url.Parse(target)
	if err != nil {
		return serverAddress(target)
	}
	endpoint := u.Path
	if u.Scheme != "unix" && u.Scheme != "unix-abstract" {
		endpoint = strings.TrimPrefix(endpoint, "/")
	}
	if endpoint == "" {
		endpoint = u.Opaque
	}
	if endpoint == "" {
		endpoint = target
	}
	return serverAddress(endpoint)
}

// reasons bounds the number of (domain, reason) pairs that become metric
// attributes: on a client the server chooses them.
type reasons struct {
	known sync.Map
	n     atomic.Int64
}

const maxReasons = 256

func (r *reasons) bound(domain, reason string) (string, string) {
	if domain == "" && reason == "" {
		return "", ""
	}
	key := [2]string{domain, reason}
	if _, ok := r.known.Load(key); ok {
		return domain, reason
	}
	if r.n.Add(1) > maxReasons {
		r.n.Add(-1)
		return other, other
	}
	if _, loaded := r.known.LoadOrStore(key, struct{}{}); loaded {
		r.n.Add(-1)
	}
	return domain, reason
}
