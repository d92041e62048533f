//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/internal/compose"
	"github.com/rpcscope/rpcscope/tests/internal/native"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// TestCollectors runs the collectors of the overlay, of the very files and environments that it has, as processes: an agent and two
// samplers. Spans of many traces go in, in any order and in pieces; out come whole traces, those that had an error, were slow, or
// are in the share. What was counted on the way is all spans.
func TestCollectors(t *testing.T) {
	w := newWorld(t)
	samplers := []*otelcol{w.sampler(t), w.sampler(t)}
	agent := w.agent(t, "--set=exporters.load_balancing.resolver.dns=null",
		"--set=exporters.load_balancing.resolver.static.hostnames=["+samplers[0].otlp+","+samplers[1].otlp+"]")

	const failed, slow, well = 30, 20, 1000
	var traces []*spans
	for i := range failed + slow + well {
		s := newTrace(i, 20*time.Millisecond)
		switch {
		case i < failed:
			s.spans[2].Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR}
		case i < failed+slow:
			s = newTrace(i, 300*time.Millisecond)
		}
		traces = append(traces, s)
	}
	client := connect(t, agent.otlp)
	for _, of := range []int{2, 0, 1} { // the children first, the roots of all traces, and what is between them
		for chunk := range slices.Chunk(traces, 100) {
			export(t, client, chunk, of)
		}
	}
	w.jaeger.WaitFor("traces with an error, slow ones and a share of the others", func() bool {
		return len(whole(w.jaeger)) >= failed+slow+well*6/100
	})
	w.prometheus.WaitFor("span metrics that count each span, kept or not", func() bool { return callsOf(w.prometheus) == 3*len(traces) })
	// A service's metrics go the same way, untouched.
	if _, err := metricspb.NewMetricsServiceClient(client).Export(t.Context(), gauge("in.flight", 7)); err != nil {
		t.Fatal(err)
	}
	w.prometheus.WaitForMetric("in.flight")
	// What waits for its decision when the collectors are told to stop is decided and delivered.
	last := newTrace(1<<20, time.Millisecond)
	last.spans[0].Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR}
	for of := range 3 {
		export(t, client, []*spans{last}, of)
	}
	agent.Stop()
	samplers[0].Stop()
	samplers[1].Stop()

	got := whole(w.jaeger)
	share := 0
	for i, s := range append(traces, last) {
		n, wanted := got[string(s.id)], i < failed+slow || s == last
		if n != 0 && n != 3 || wanted && n != 3 {
			t.Errorf("trace %d: got %d spans, want 3%s", i, n, map[bool]string{false: " or none"}[wanted])
		}
		if !wanted && n == 3 {
			share++
		}
	}
	// A tenth, give or take four standard deviations; which ones is a matter of their ids, and the same each time.
	if share < 62 || share > 138 {
		t.Errorf("got %d of the %d others, want a tenth", share, well)
	}
	// Each trace was at one sampler, and both have had some.
	bySampler := map[string]int{}
	for _, m := range w.metric("otelcol_processor_tail_sampling_new_trace_id_received") {
		id := telemetrytest.Attr(m.Resource.GetAttributes(), "service.instance.id")
		bySampler[id] = int(m.GetSum().GetDataPoints()[0].GetAsInt())
	}
	sum := 0
	for _, n := range bySampler {
		sum += n
		if n < len(traces)/4 {
			t.Errorf("a sampler has got %d of %d traces, want about half", n, len(traces))
		}
	}
	if len(bySampler) != 2 || sum != len(traces)+1 {
		t.Errorf("got traces by sampler %v, want %d at two of them together", bySampler, len(traces)+1)
	}
}

// TestAgentAsks has the agent find its sampler as it does in containers: it asks for the addresses of a name.
func TestAgentAsks(t *testing.T) {
	w := newWorld(t)
	sampler := w.sampler(t)
	host, port, err := net.SplitHostPort(sampler.otlp)
	if err != nil {
		t.Fatal(err)
	}
	w.here["sampler"], w.here["4317"] = host, port
	agent := w.agent(t)
	client := connect(t, agent.otlp)
	s := newTrace(1, time.Second)
	for of := range 3 {
		export(t, client, []*spans{s}, of)
	}
	w.jaeger.WaitFor("the trace", func() bool { return whole(w.jaeger)[string(s.id)] == 3 })
	agent.Stop()
	sampler.Stop()
}

// TestMemoryLimit gives a sampler little memory and more than that to keep: it says so, and lives.
func TestMemoryLimit(t *testing.T) {
	w := newWorld(t)
	sampler := w.sampler(t, "--set=processors.memory_limiter.limit_percentage=0", "--set=processors.memory_limiter.spike_limit_percentage=0",
		"--set=processors.memory_limiter.limit_mib=80", "--set=processors.memory_limiter.spike_limit_mib=20", "--set=processors.tail_sampling.decision_wait=1m")
	client := tracespb.NewTraceServiceClient(connect(t, sampler.otlp))
	ctx, cancel := context.WithTimeout(t.Context(), program.Patience)
	defer cancel()
	for i := 0; ; i++ {
		s := newTrace(i, time.Millisecond)
		for range 1000 {
			s.spans = append(s.spans, s.spans[2])
		}
		_, err := client.Export(ctx, request(s.spans...))
		if status.Code(err) == codes.Unavailable && ctx.Err() == nil {
			t.Logf("refused after %d spans: %v", 1003*i, err)
			break
		}
		if err != nil {
			t.Fatalf("after %d spans: got error %v, want UNAVAILABLE", 1003*i, err)
		}
	}
	w.awaitHealth(t, sampler)
	sampler.Stop()
}

// TestCollectorFiles has each program that reads a file of the overlay check it with the command line that it has there.
func TestCollectorFiles(t *testing.T) {
	w := newWorld(t)
	binaries, err := native.Built("../..")
	if err != nil {
		t.Fatal(err)
	}
	for service, path := range map[string]string{"agent": w.path, "sampler": w.path, "jaeger": binaries["jaeger"]} {
		t.Run(service, func(t *testing.T) {
			args := append([]string{"validate"}, w.project.Services[service].Command...)
			for i := range args {
				args[i] = w.local(service, args[i])
			}
			if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
				t.Errorf("%q: %v\n%s", args, err, out)
			}
			args = append(args, "--set=service.pipelines.traces.exporters=[nothing]")
			if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err == nil {
				t.Errorf("%q: got success, want an error\n%s", args, out)
			}
		})
	}
}

// A world is what the collectors of the overlay have around them.
type world struct {
	project            *types.Project
	path               string // of the collector
	here               map[string]string
	jaeger, prometheus *telemetrytest.Collector
}

// An otelcol is a collector that runs.
type otelcol struct {
	*program.Program
	service      types.ServiceConfig
	otlp, health string // addresses
}

func newWorld(t *testing.T) *world {
	t.Helper()
	project, err := compose.Load(t.Context(), "../..", compose.Overlay)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		project: project, path: collectorPath(t),
		jaeger: telemetrytest.NewCollector(t, telemetrytest.OK), prometheus: telemetrytest.NewCollector(t, telemetrytest.OK),
	}
	receiver := httptest.NewServer(http.StripPrefix("/api/v1/otlp", w.prometheus))
	t.Cleanup(receiver.Close)
	w.here = map[string]string{
		"0.0.0.0": "127.0.0.1", "http://prometheus:9090": receiver.URL, "jaeger:4317": strings.TrimPrefix(w.jaeger.Endpoint(), "http://"),
	}
	return w
}

// collectorPath returns the path of tools/otelcol, which go builds if it has not yet.
func collectorPath(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "otelcol")
	cmd.Dir = "../../tools/otelcol"
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("building the collector: %v\n%s", err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// local returns a word of a service's command line with the path in the repository of the file that it names.
func (w *world) local(service, word string) string {
	for _, v := range w.project.Services[service].Volumes {
		word = strings.ReplaceAll(word, v.Target, v.Source)
	}
	return exchange(word, w.here)
}

// sampler starts a sampler that decides after a second.
func (w *world) sampler(t *testing.T, args ...string) *otelcol {
	t.Helper()
	return w.start(t, "sampler", append([]string{"--set=processors.tail_sampling.decision_wait=1s"}, args...)...)
}

func (w *world) agent(t *testing.T, args ...string) *otelcol {
	t.Helper()
	return w.start(t, "agent", append([]string{
		"--set=connectors.span_metrics.metrics_flush_interval=200ms", "--set=receivers.otlp.protocols.http.endpoint=" + free(t),
	}, args...)...)
}

// start starts a collector on free ports, of the file and environment that compose has for it, and waits until it is healthy.
func (w *world) start(t *testing.T, service string, args ...string) *otelcol {
	t.Helper()
	c := &otelcol{service: w.project.Services[service], otlp: free(t), health: free(t)}
	var all, env []string
	for _, word := range c.service.Command {
		all = append(all, w.local(service, word))
	}
	all = append(all, "--set=receivers.otlp.protocols.grpc.endpoint="+c.otlp, "--set=extensions.health_check.endpoint="+c.health)
	for _, name := range slices.Sorted(maps.Keys(c.service.Environment)) {
		env = append(env, name+"="+exchange(*c.service.Environment[name], w.here))
	}
	c.Program = program.Start(t, env, w.path, append(all, args...)...)
	w.awaitHealth(t, c)
	return c
}

// awaitHealth waits until a collector's health check says that it is healthy.
func (w *world) awaitHealth(t *testing.T, c *otelcol) {
	t.Helper()
	awaitHealth(t, c.service, map[string]string{"http://127.0.0.1:13133/": "http://" + c.health + "/"})
}

// awaitHealth runs the health check of a service, with the words of here exchanged, until it says that the service is healthy.
func awaitHealth(t *testing.T, s types.ServiceConfig, here map[string]string) {
	t.Helper()
	test := exchangeAll(s.HealthCheck.Test, here)
	ctx, cancel := context.WithTimeout(t.Context(), program.Patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		out, err := exec.CommandContext(ctx, filepath.Join(bin, test[1]), test[2:]...).CombinedOutput()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not become healthy: %q: %v\n%s", s.Name, test, err, out)
		case <-ticker.C:
		}
	}
}

// free returns an address of loopback that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func connect(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// spans are those of a trace: a root and two below it, each of a service of its own.
type spans struct {
	id    []byte
	spans []*trace.Span
}

// newTrace returns the trace of number i, whose root takes d.
func newTrace(i int, d time.Duration) *spans {
	s := &spans{id: make([]byte, 16)}
	// As random as real ones: samplers look at ids.
	binary.BigEndian.PutUint64(s.id, uint64(i+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(s.id[8:], uint64(i+1)*0xc2b2ae3d27d4eb4f)
	begin := time.Now()
	for of := range 3 {
		id := binary.BigEndian.AppendUint64(nil, uint64(i*4+of+1))
		span := &trace.Span{
			TraceId: s.id, SpanId: id, Name: fmt.Sprint("span ", of), Kind: trace.Span_SPAN_KIND_SERVER,
			StartTimeUnixNano: uint64(begin.UnixNano()), EndTimeUnixNano: uint64(begin.Add(d / time.Duration(of+1)).UnixNano()),
		}
		if of > 0 {
			span.ParentSpanId = s.spans[of-1].SpanId
		}
		s.spans = append(s.spans, span)
	}
	return s
}

// request is what a service delivers.
func request(only ...*trace.Span) *tracespb.ExportTraceServiceRequest {
	return &tracespb.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource: resource(fmt.Sprint("service-", only[0].GetName())), ScopeSpans: []*trace.ScopeSpans{{Spans: only}},
	}}}
}

// export delivers one span of each trace.
func export(t *testing.T, conn *grpc.ClientConn, traces []*spans, of int) {
	t.Helper()
	var only []*trace.Span
	for _, s := range traces {
		only = append(only, s.spans[of])
	}
	if _, err := tracespb.NewTraceServiceClient(conn).Export(t.Context(), request(only...)); err != nil {
		t.Fatal(err)
	}
}

func resource(service string) *resourcepb.Resource {
	value := func(s string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
	}
	return &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.name", Value: value(service)}}}
}

func gauge(name string, value int64) *metricspb.ExportMetricsServiceRequest {
	point := &metrics.NumberDataPoint{TimeUnixNano: uint64(time.Now().UnixNano()), Value: &metrics.NumberDataPoint_AsInt{AsInt: value}}
	return &metricspb.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource: resource("users"),
		ScopeMetrics: []*metrics.ScopeMetrics{{Metrics: []*metrics.Metric{{
			Name: name, Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: []*metrics.NumberDataPoint{point}}},
		}}}},
	}}}
}

// whole returns how many spans of each trace have arrived.
func whole(c *telemetrytest.Collector) map[string]int {
	n := map[string]int{}
	for _, s := range c.Spans() {
		n[string(s.GetTraceId())]++
	}
	return n
}

// callsOf returns what the span metrics count that have arrived.
func callsOf(c *telemetrytest.Collector) int {
	last := map[string]int{}
	for _, m := range c.Metrics() {
		if m.GetName() != "traces.span.metrics.calls" {
			continue
		}
		for _, p := range m.GetSum().GetDataPoints() {
			last[m.Service()+" "+telemetrytest.Attr(p.GetAttributes(), "span.name")+" "+telemetrytest.Attr(p.GetAttributes(), "status.code")] = int(p.GetAsInt())
		}
	}
	sum := 0
	for _, n := range last {
		sum += n
	}
	return sum
}

// metric returns a metric each time that it has arrived.
func (w *world) metric(name string) []telemetrytest.OTLPMetric {
	return slices.DeleteFunc(w.prometheus.Metrics(), func(m telemetrytest.OTLPMetric) bool { return m.GetName() != name })
}
