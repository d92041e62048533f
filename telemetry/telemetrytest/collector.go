package telemetrytest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Mode is how a [Collector] treats what is sent to it.
type Mode int

// The modes of a Collector.
const (
	OK          Mode = iota // takes everything
	Refuse                  // nothing listens: connections are refused
	Blackhole               // connections are made, and nothing is ever answered; they break when the mode changes
	Stall                   // requests are read and not answered; UNAVAILABLE, or 503, when the mode changes
	Unavailable             // UNAVAILABLE, or 503
	TracesOnly              // traces are taken; metrics and logs are UNIMPLEMENTED, or 404
)

var modeNames = []string{"OK", "Refuse", "Blackhole", "Stall", "Unavailable", "TracesOnly"}

// String returns the mode's name.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return "Mode(" + strconv.Itoa(int(m)) + ")"
	}
	return modeNames[m]
}

// waitFor is how long WaitFor and its kin wait.
const waitFor = 10 * time.Second

// Collector is an OTLP back end inside the test process: gRPC and HTTP, with
// protobuf and gzip, on one port of 127.0.0.1. It is safe for concurrent use.
type Collector struct {
	tb   testing.TB
	addr string

	mu      sync.Mutex
	mode    Mode
	changed chan struct{} // closed, and replaced, when the mode or the data changes
	server  *http.Server  // nil while refusing
	served  chan struct{} // closed when server has stopped

	spans    []OTLPSpan
	metrics  []OTLPMetric
	logs     []OTLPLog
	headers  map[string]http.Header
	requests int
	stalled  int
}

// OTLPSpan is a span as it was received.
type OTLPSpan struct {
	*tracepb.Span
	Resource *resourcepb.Resource
}

// OTLPMetric is a metric as it was received.
type OTLPMetric struct {
	*metricspb.Metric
	Resource *resourcepb.Resource
}

// OTLPLog is a log record as it was received.
type OTLPLog struct {
	*logspb.LogRecord
	Resource *resourcepb.Resource
}

// Service returns service.name.
func (s OTLPSpan) Service() string { return Attr(s.Resource.GetAttributes(), "service.name") }

// Service returns service.name.
func (m OTLPMetric) Service() string { return Attr(m.Resource.GetAttributes(), "service.name") }

// Service returns service.name.
func (l OTLPLog) Service() string { return Attr(l.Resource.GetAttributes(), "service.name") }

// Attr returns the value of an attribute as text, "" if there is none.
func Attr(attrs []*commonpb.KeyValue, key string) string {
	for _, kv := range attrs {
		if kv.GetKey() != key {
			continue
		}
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			return v.StringValue
		case *commonpb.AnyValue_IntValue:
			return strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_DoubleValue:
			return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
		case *commonpb.AnyValue_BoolValue:
			return strconv.FormatBool(v.BoolValue)
		default:
			return kv.GetValue().String()
		}
	}
	return ""
}

// NewCollector starts a Collector in mode m. It stops when the test ends.
func NewCollector(tb testing.TB, m Mode) *Collector {
	tb.Helper()
	c := &Collector{tb: tb, mode: Refuse, changed: make(chan struct{}), headers: map[string]http.Header{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("telemetrytest: %v", err)
	}
	c.addr = l.Addr().String()
	if m == Refuse {
		_ = l.Close()
	} else {
		c.mode = m
		c.serve(l)
	}
	tb.Cleanup(func() { c.SetMode(Refuse) })
	return c
}

// Addr returns the address, "127.0.0.1:port".
func (c *Collector) Addr() string { return c.addr }

// Endpoint returns the address as a URL, for [telemetry.WithEndpoint] or
// OTEL_EXPORTER_OTLP_ENDPOINT. Both protocols are spoken there.
func (c *Collector) Endpoint() string { return "http://" + c.addr }

// SetMode changes how the Collector behaves, for connections and requests under
// way too. The address stays the same. Leaving Refuse fails the test if
// something else has taken the port.
func (c *Collector) SetMode(m Mode) {
	c.tb.Helper()
	c.mu.Lock()
	old := c.mode
	c.mode = m
	server, served := c.server, c.served
	if m == Refuse {
		c.server = nil
	}
	c.notify()
	c.mu.Unlock()
	switch {
	case m == Refuse && server != nil:
		_ = server.Close()
		<-served
	case old == Refuse && m != Refuse:
		l, err := net.Listen("tcp", c.addr)
		if err != nil {
			c.tb.Fatalf("telemetrytest: listening again: %v", err)
		}
		c.serve(l)
	}
}

func (c *Collector) serve(l net.Listener) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: c, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	c.mu.Lock()
	c.server, c.served = server, served
	c.mu.Unlock()
	go func() {
		defer close(served)
		if err := server.Serve(&gatedListener{l, c}); !errors.Is(err, http.ErrServerClosed) {
			c.tb.Errorf("telemetrytest: collector: %v", err)
		}
	}()
}

// notify wakes those who wait; the mutex is held.
func (c *Collector) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Collector) state() (Mode, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode, c.changed
}

// ServeHTTP takes OTLP over gRPC and HTTP.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	grpc := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	body, err := requestBody(r, grpc)
	if err != nil {
		answer(w, grpc, codes.InvalidArgument, http.StatusBadRequest, err.Error())
		return
	}
	mode, changed := c.state()
	if mode == Stall {
		c.stall(1)
		defer c.stall(-1)
		for mode == Stall {
			select {
			case <-changed:
				mode, changed = c.state()
			case <-r.Context().Done():
				return
			}
		}
		mode = Unavailable // it took too long; its client may have given up
	}
	traces := strings.Contains(r.URL.Path, "trace")
	switch {
	case mode == Unavailable:
		answer(w, grpc, codes.Unavailable, http.StatusServiceUnavailable, "the collector is unavailable")
		return
	case mode == TracesOnly && !traces:
		answer(w, grpc, codes.Unimplemented, http.StatusNotFound, "unknown service")
		return
	}
	if err := c.record(r, body); err != nil {
		answer(w, grpc, codes.InvalidArgument, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, grpc, codes.OK, http.StatusOK, "")
}

// stall counts a request that waits, or has waited.
func (c *Collector) stall(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled += n
	c.notify()
}

// requestBody returns the protobuf message of a request.
func requestBody(r *http.Request, grpc bool) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	compressed := r.Header.Get("Content-Encoding") == "gzip"
	if grpc {
		if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
			return nil, errors.New("want one gRPC message")
		}
		compressed, body = body[0] == 1, body[5:]
	}
	if !compressed {
		return body, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// answer ends a request; an empty message is a valid response of all three services.
func answer(w http.ResponseWriter, grpc bool, code codes.Code, status int, text string) {
	if !grpc {
		w.Header().Set("Content-Type", "application/x-protobuf")
		if status != http.StatusOK {
			w.Header().Set("Content-Type", "text/plain")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	if code == codes.OK {
		h.Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5))
	}
	h.Set("Grpc-Status", strconv.Itoa(int(code)))
	if text != "" {
		h.Set("Grpc-Message", text)
	}
}

func (c *Collector) record(r *http.Request, body []byte) error {
	var (
		spans   []OTLPSpan
		metrics []OTLPMetric
		logs    []OTLPLog
		signal  string
	)
	switch r.URL.Path {
	case "/v1/traces", coltracepb.TraceService_Export_FullMethodName:
		var req coltracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			return err
		}
		signal = "traces"
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans = append(spans, OTLPSpan{s, rs.GetResource()})
				}
			}
		}
	case "/v1/metrics", colmetricspb.MetricsService_Export_FullMethodName:
		var req colmetricspb.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			return err
		}
		signal = "metrics"
		for _, rm := range req.GetResourceMetrics() {
			for _, sm := range rm.GetScopeMetrics() {
				for _, m := range sm.GetMetrics() {
					metrics = append(metrics, OTLPMetric{m, rm.GetResource()})
				}
			}
		}
	case "/v1/logs", collogspb.LogsService_Export_FullMethodName:
		var req collogspb.ExportLogsServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			return err
		}
		signal = "logs"
		for _, rl := range req.GetResourceLogs() {
			for _, sl := range rl.GetScopeLogs() {
				for _, l := range sl.GetLogRecords() {
					logs = append(logs, OTLPLog{l, rl.GetResource()})
				}
			}
		}
	default:
		return fmt.Errorf("no such path: %s", r.URL.Path)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, spans...)
	c.metrics = append(c.metrics, metrics...)
	c.logs = append(c.logs, logs...)
	c.headers[signal] = r.Header.Clone()
	c.requests++
	c.notify()
	return nil
}

// Spans returns the spans received so far.
func (c *Collector) Spans() []OTLPSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]OTLPSpan(nil), c.spans...)
}

// Metrics returns the metrics received so far, each as often as it was sent.
func (c *Collector) Metrics() []OTLPMetric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]OTLPMetric(nil), c.metrics...)
}

// Logs returns the log records received so far.
func (c *Collector) Logs() []OTLPLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]OTLPLog(nil), c.logs...)
}

// Header returns the headers of the last request for a signal: "traces",
// "metrics" or "logs"; nil if there was none.
func (c *Collector) Header(signal string) http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers[signal]
}

// Requests returns the number of requests taken.
func (c *Collector) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// Stalled returns the number of requests that mode Stall keeps waiting.
func (c *Collector) Stalled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stalled
}

// WaitFor waits until cond is true, for 10 seconds at most; then the test
// fails. cond is called again whenever something was received.
func (c *Collector) WaitFor(what string, cond func() bool) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	for {
		_, changed := c.state()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.tb.Fatalf("the collector waited %s for %s; it received:\n%s", waitFor, what, c.list())
			return
		}
	}
}

// WaitForSpan waits for a span with this name and returns the first.
func (c *Collector) WaitForSpan(name string) OTLPSpan {
	c.tb.Helper()
	return waitForNamed(c, "span "+name, c.Spans, func(s OTLPSpan) bool { return s.GetName() == name })
}

// WaitForMetric waits for a metric with this name and returns the first.
func (c *Collector) WaitForMetric(name string) OTLPMetric {
	c.tb.Helper()
	return waitForNamed(c, "metric "+name, c.Metrics, func(m OTLPMetric) bool { return m.GetName() == name })
}

// WaitForLog waits for a log record with this text and returns the first.
func (c *Collector) WaitForLog(text string) OTLPLog {
	c.tb.Helper()
	return waitForNamed(c, "log record "+text, c.Logs, func(l OTLPLog) bool { return l.GetBody().GetStringValue() == text })
}

func waitForNamed[T any](c *Collector, what string, all func() []T, ok func(T) bool) (found T) {
	c.tb.Helper()
	c.WaitFor(what, func() bool {
		for _, x := range all() {
			if ok(x) {
				found = x
				return true
			}
		}
		return false
	})
	return found
}

func (c *Collector) list() string {
	var b strings.Builder
	for _, s := range c.Spans() {
		fmt.Fprintf(&b, "\tspan %s of %s\n", s.GetName(), s.Service())
	}
	for _, m := range c.Metrics() {
		fmt.Fprintf(&b, "\tmetric %s of %s\n", m.GetName(), m.Service())
	}
	for _, l := range c.Logs() {
		fmt.Fprintf(&b, "\tlog record %q of %s\n", l.GetBody().GetStringValue(), l.Service())
	}
	if b.Len() == 0 {
		return "\tnothing\n"
	}
	return b.String()
}

// gatedListener hands out connections that fall silent in mode Blackhole.
type gatedListener struct {
	net.Listener
	c *Collector
}

func (l *gatedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatedConn{Conn: conn, c: l.c, closed: make(chan struct{})}, nil
}

type gatedConn struct {
	net.Conn
	c      *Collector
	once   sync.Once
	closed chan struct{}
}

// pass lets data through, unless the collector is a black hole: then it waits
// until it no longer is, and the data is lost with the connection.
func (g *gatedConn) pass() error {
	mode, changed := g.c.state()
	if mode != Blackhole {
		return nil
	}
	for mode == Blackhole {
		select {
		case <-changed:
			mode, changed = g.c.state()
		case <-g.closed:
			return net.ErrClosed
		}
	}
	_ = g.Close()
	return net.ErrClosed
}

func (g *gatedConn) Read(b []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	if gateErr := g.pass(); gateErr != nil {
		return 0, gateErr
	}
	return n, err
}

func (g *gatedConn) Write(b []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

func (g *gatedConn) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}
