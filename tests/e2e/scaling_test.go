//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // names a script, as Redis does
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/internal/compose"
	"github.com/rpcscope/rpcscope/tests/internal/native"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

var writeSizes = flag.Bool("write-sizes", false, "write what TestScaling measures, and what follows, into docs/scaling-out.md")

// The page, and the calls that TestScaling makes.
const (
	scalingPage = "../../docs/scaling-out.md"
	loadCalls   = 2000
	loadRate    = 100
)

// TestScaling measures what docs/scaling-out.md calculates with: the example under load, with the flags that compose gives it, and
// the collectors, Prometheus, Jaeger and Redis that take what comes of it. What does not depend on the machine has to be what the
// page says.
//
//	go test -tags e2e ./e2e -run TestScaling -write-sizes
func TestScaling(t *testing.T) {
	project, err := compose.Load(t.Context(), "../..", compose.Overlay)
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := native.Built("../..")
	if err != nil {
		t.Fatal(err)
	}
	f := figures{}
	m := newMeter(t)
	prometheus := startPrometheus(t, binaries["prometheus"], m)
	redis, store := startRedis(t, project.Services["redis"].Command[1:]...)
	here := map[string]string{
		"http://agent:4317": m.URL, "redis:6379": redis, ":50051": "127.0.0.1:0", ":50052": "127.0.0.1:0",
		"/data/users.db": filepath.Join(t.TempDir(), "users.db"), "/data/audit.db": filepath.Join(t.TempDir(), "audit.db"),
		"15000": "1000", // twenty exports in the time that this takes
	}
	audit := startService(t, project.Services["users-audit"], here)
	here["users-audit:50052"] = audit.Find(`audit service is serving.*address=(\S+)`)
	users := startService(t, project.Services["users-api"], here)
	address := users.Find(`users service is serving.*address=(\S+)`)
	load := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + m.URL, "OTEL_LOGS_EXPORTER=none", "OTEL_METRIC_EXPORT_INTERVAL=1000", "OTEL_RESOURCE_ATTRIBUTES=service.namespace=users"},
		"users-load", "steady", "-addr", address, "-rate", strconv.Itoa(loadRate), "-calls", strconv.Itoa(loadCalls), "-messages")
	load.Wait()
	users.Stop()
	audit.Stop()

	f.traces(t, m)
	f.redis(t, redis, store, m)
	store.Stop()
	f.series(t, prometheus)
	f.collectors(t, m)
	f.jaeger(t, m, binaries["jaeger"])
	f.page(t)
}

// A figure is something measured. One that is stable is the same on other machines, give or take a little.
type figure struct {
	name, unit, how string
	value           float64
	stable          bool
}

// figures are all, in the order of the page.
type figures []figure

func (f *figures) add(name string, value float64, unit, how string) {
	*f = append(*f, figure{name: name, value: value, unit: unit, how: how, stable: true})
}

// addHere adds one that depends on the machine.
func (f *figures) addHere(name string, value float64, unit, how string) {
	*f = append(*f, figure{name: name, value: value, unit: unit, how: how})
}

func (f figures) get(name string) float64 {
	i := slices.IndexFunc(f, func(f figure) bool { return f.name == name })
	if i < 0 {
		panic("no figure " + name)
	}
	return f[i].value
}

// A meter is an OTLP endpoint that counts what it is sent, and keeps it.
type meter struct {
	URL string

	mu      sync.Mutex
	tee     string // the OTLP endpoint of Prometheus, which gets the metrics
	bytes   int    // of requests with spans
	gzipped int
	traces  []*tracespb.ExportTraceServiceRequest
	metrics map[string][]byte // the last export of each service
}

func newMeter(t *testing.T) *meter {
	t.Helper()
	m := &meter{metrics: map[string][]byte{}}
	answers := telemetrytest.NewCollector(t, telemetrytest.OK)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = m.count(r.URL.Path, body[5:]) // after the frame of gRPC
		}
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answers.ServeHTTP(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	m.URL = server.URL
	return m
}

func (m *meter) count(path string, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch path {
	default:
		return fmt.Errorf("got a request for %s", path)
	case tracespb.TraceService_Export_FullMethodName:
	case metricspb.MetricsService_Export_FullMethodName:
		service := regexp.MustCompile(`users-(api|audit|load)`).Find(body)
		m.metrics[string(service)] = body
		return postMetrics(m.tee, body)
	}
	request := &tracespb.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(body, request); err != nil {
		return err
	}
	m.traces = append(m.traces, request)
	m.bytes += len(body)
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(body); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	m.gzipped += compressed.Len()
	return nil
}

func postMetrics(to string, body []byte) error {
	response, err := http.Post(to+"/api/v1/otlp/v1/metrics", "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("Prometheus says %s: %s", response.Status, text)
	}
	return nil
}

// traces has the figures of spans.
func (f *figures) traces(t *testing.T, m *meter) {
	t.Helper()
	type whole struct {
		spans        int
		ours, wanted bool
	}
	traces := map[string]*whole{}
	spans := 0
	for _, s := range m.spans() {
		spans++
		w := traces[string(s.GetTraceId())]
		if w == nil {
			w = &whole{}
			traces[string(s.GetTraceId())] = w
		}
		w.spans++
		w.ours = w.ours || len(s.GetParentSpanId()) == 0 && strings.HasPrefix(s.GetName(), "users.v1.UserService/")
		took := time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
		w.wanted = w.wanted || s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR || took > 250*time.Millisecond
	}
	calls, inCalls, wanted := 0, 0, 0
	for _, w := range traces {
		if !w.ours {
			continue // somebody signs up
		}
		calls++
		inCalls += w.spans
		if w.wanted {
			wanted++
		}
	}
	if calls < loadCalls { // some operations are two calls
		t.Errorf("got %d traces of calls, want one at least for each of the %d", calls, loadCalls)
	}
	f.add("spans per call", float64(inCalls)/float64(calls), "", "users-load, users-api, users-audit and their databases, scenario steady")
	f.add("bytes per span", float64(m.bytes)/float64(spans), "B", "OTLP requests as delivered, resources included")
	f.add("bytes per span, gzip", float64(m.gzipped)/float64(spans), "B", "the same requests, each compressed as `OTEL_EXPORTER_OTLP_COMPRESSION=gzip` does")
	f.addHere("traces with an error or a slow span", 100*float64(wanted)/float64(calls), "%", "what the sampler keeps before its share: 4 % of the scenario's calls ask for nobody")
}

func (m *meter) spans() []*trace.Span {
	var all []*trace.Span
	for _, request := range m.traces {
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				all = append(all, scope.GetSpans()...)
			}
		}
	}
	return all
}

// A prom is a Prometheus that writes to another.
type prom struct {
	*program.Program
	far *program.Program
	url string

	mu             sync.Mutex
	bytes, samples int // of remote write
	meter          *meter
}

// startPrometheus starts a Prometheus with the flags and configuration that it has in compose, and another that it writes to.
func startPrometheus(t *testing.T, path string, m *meter) *prom {
	t.Helper()
	config, err := os.ReadFile("../../dashboards/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	other, address := runPrometheus(t, path, "", "--web.enable-remote-write-receiver")
	p := &prom{meter: m, far: other}
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	proxy.Transport = transport
	proxy.ModifyResponse = func(r *http.Response) error {
		written, err := strconv.Atoi(r.Header.Get("X-Prometheus-Remote-Write-Samples-Written"))
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bytes += int(r.Request.ContentLength)
		p.samples += written
		return err
	}
	counting := httptest.NewServer(proxy)
	t.Cleanup(func() {
		counting.Close()
		transport.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	})
	page, err := os.ReadFile(scalingPage)
	if err != nil {
		t.Fatal(err)
	}
	write := regexp.MustCompile("(?s)```yaml\n(remote_write:.*?)```").FindSubmatch(page)
	if write == nil {
		t.Fatal("the page does not tell how to write to another Prometheus")
	}
	p.Program, p.url = runPrometheus(t, path, string(config)+"\n"+strings.ReplaceAll(string(write[1]), "https://metrics.example.com/api/v1/push", counting.URL+"/api/v1/write"))
	m.tee = p.url
	return p
}

// runPrometheus starts a Prometheus with the flags that it has in compose, and returns where it is.
func runPrometheus(t *testing.T, path, config string, args ...string) (*program.Program, string) {
	t.Helper()
	dir, address := t.TempDir(), free(t)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, nil, path, append([]string{
		"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + address, "--web.enable-otlp-receiver", "--enable-feature=exemplar-storage",
	}, args...)...)
	p.Find(`(Server is ready to receive web requests)`)
	return p, "http://" + address
}

// query returns the only value of a query.
func (p *prom) query(t *testing.T, expr string) float64 {
	t.Helper()
	return query(t, p.url, expr)
}

func query(t *testing.T, prometheus, expr string) float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, prometheus+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal([]byte(do(t, request, http.StatusOK)), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data.Result) != 1 {
		t.Fatalf("%s: got %v, want one value", expr, answer.Data.Result)
	}
	value, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// series has the figures of metrics.
func (f *figures) series(t *testing.T, p *prom) {
	t.Helper()
	const duration = `__name__=~"rpc_server_call_duration_seconds_(bucket|count|sum)", service_name="users-api"`
	pairs := p.query(t, `count(count by (rpc_method, rpc_response_status_code) ({`+duration+`}))`)
	f.add("series per method and code", p.query(t, `count({`+duration+`})`)/pairs, "", "`rpc.server.call.duration` of one server: buckets, count and sum")
	const messages = `__name__=~"rpcscope_server_(request_size|response_size|requests_per_call|responses_per_call|time_to_first_message).*", service_name="users-api"`
	f.add("series per method, of messages", p.query(t, `count({`+messages+`})`)/p.query(t, `count(count by (rpc_method) ({`+messages+`}))`), "",
		"the same server's with `-messages`, which is `WithMessageMetrics`")
	for _, service := range []string{"users-api", "users-audit"} {
		// On a busy machine some calls end with codes that they do not have elsewhere.
		f.addHere("series per instance, "+service, p.query(t, `count({__name__=~".+", service_name="`+service+`"})`), "", "all of them, the Go runtime's and the database's included; a code that comes for the first time brings more")
	}
	p.mu.Lock()
	bytes, samples := p.bytes, p.samples
	p.mu.Unlock()
	if samples < 10_000 {
		t.Errorf("got %d samples over remote write, want enough to tell something", samples)
	}
	f.add("bytes per sample, remote write", float64(bytes)/float64(samples), "B", "Prometheus 3.15 to another one, `io.prometheus.write.v2.Request`, exemplars and metadata included")

	// As many instances of the users service as make a difference.
	before, had := rss(t, p.PID()), p.headSeries(t)
	for i := range 400 {
		if err := postMetrics(p.url, instance(t, p.meter.metrics["users-api"], i)); err != nil {
			t.Fatal(err)
		}
	}
	more := p.headSeries(t) - had
	if more < 50_000 {
		t.Errorf("got %v series more, want enough to tell something", more)
	}
	f.addHere("memory of Prometheus per series", (rss(t, p.PID())-before)/more, "B", fmt.Sprintf("resident, of %.0f series with a sample each", more))
	p.Stop()
	p.far.Stop()
}

// headSeries returns how many series are in memory.
func (p *prom) headSeries(t *testing.T) float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/status/tsdb", nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct{ HeadStats struct{ NumSeries float64 } }
	}
	if err := json.Unmarshal([]byte(do(t, request, http.StatusOK)), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.HeadStats.NumSeries
}

// instance returns an export as another instance would have made it, now.
func instance(t *testing.T, export []byte, i int) []byte {
	t.Helper()
	request := &metricspb.ExportMetricsServiceRequest{}
	if err := proto.Unmarshal(export, request); err != nil {
		t.Fatal(err)
	}
	now := uint64(time.Now().UnixNano())
	for _, resource := range request.GetResourceMetrics() {
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				a.Value.Value = &commonpb.AnyValue_StringValue{StringValue: fmt.Sprintf("00000000-0000-4000-8000-%012d", i)}
			}
		}
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				for _, p := range m.GetSum().GetDataPoints() {
					p.TimeUnixNano = now
				}
				for _, p := range m.GetGauge().GetDataPoints() {
					p.TimeUnixNano = now
				}
				for _, p := range m.GetHistogram().GetDataPoints() {
					p.TimeUnixNano = now
				}
			}
		}
	}
	body, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// redis has the figures of limits.
func (f *figures) redis(t *testing.T, address string, server *program.Program, m *meter) {
	t.Helper()
	stats := infoOf(t, address, "commandstats")
	found := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`).FindStringSubmatch(stats)
	if found == nil {
		t.Fatalf("Redis was asked for no decision:\n%s", stats)
	}
	calls, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	served, unlimited := 0, 0
	for _, s := range m.spans() {
		if s.GetKind() != trace.Span_SPAN_KIND_SERVER || !strings.HasPrefix(s.GetName(), "users.v1.") {
			continue
		}
		served++
		if telemetrytest.Attr(s.GetAttributes(), "rpcscope.ratelimit.error") != "" {
			unlimited++
		}
	}
	if unlimited > served/2 {
		t.Errorf("Redis was not asked for %d of %d calls, the machine being too busy to tell anything", unlimited, served)
	}
	f.add("Redis commands per call", calls/float64(served-unlimited), "", "EVALSHA, for the calls that the users service has served")

	const n = 100_000
	script, err := os.ReadFile("../../interceptors/redislimit/take.lua")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	before := cpuTime(t, server.PID())
	const key = "rpcscope:ratelimit:{__rand_int__}" // one of a thousand
	out, err := exec.CommandContext(t.Context(), "redis-benchmark", "-q", "-e", "-p", port, "-n", strconv.Itoa(n), "-c", "50", "-r", "1000",
		"EVALSHA", fmt.Sprintf("%x", sha1.Sum(script)), "1", key, "0.00002", "40").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("NOSCRIPT")) {
		t.Fatalf("redis-benchmark: %v\n%s", err, out)
	}
	f.addHere("processor time of Redis per command", 1e6*(cpuTime(t, server.PID())-before).Seconds()/n, "µs", fmt.Sprintf("%d of them over 50 connections, with a thousand users", n))
	const user = "rpcscope:ratelimit:{01a1fe06-59dd-7108-9fda-041225eecb50}"
	cli := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-e", "-p", port}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	cli("EVALSHA", fmt.Sprintf("%x", sha1.Sum(script)), "1", user, "0.0000001", "40") // so slow a bucket that it is there for long
	size, err := strconv.ParseFloat(cli("MEMORY", "USAGE", user), 64)
	if err != nil {
		t.Fatalf("redis-cli memory usage: %v", err)
	}
	f.add("memory of Redis per user", size, "B", "`MEMORY USAGE` of a key, until the bucket is full again")
}

// collectors has the figures of agents and samplers.
func (f *figures) collectors(t *testing.T, m *meter) {
	t.Helper()
	w := newWorld(t)
	const wait = "--set=processors.tail_sampling.decision_wait=1h" // until it is told to stop
	sampler := w.sampler(t, wait, "--set=processors.tail_sampling.num_traces=1000000")
	before, cpu := rss(t, sampler.PID()), cpuTime(t, sampler.PID())
	n := m.replay(t, connect(t, sampler.otlp), 200_000)
	f.addHere("memory of a sampler per span", (rss(t, sampler.PID())-before)/float64(n), "B", fmt.Sprintf("resident, with %d spans that wait for their decision", n))
	sampler.Stop()
	f.addHere("processor time of a sampler per span", 1e6*(sampler.CPUTime()-cpu).Seconds()/float64(n), "µs", "to take them, to decide, and to deliver what is kept")

	sampler = w.sampler(t)
	agent := w.agent(t, "--set=exporters.load_balancing.resolver.dns=null", "--set=exporters.load_balancing.resolver.static.hostnames=["+sampler.otlp+"]")
	cpu = cpuTime(t, agent.PID())
	n = m.replay(t, connect(t, agent.otlp), 100_000)
	agent.Stop()
	f.addHere("processor time of an agent per span", 1e6*(agent.CPUTime()-cpu).Seconds()/float64(n), "µs", "to take them, to count them, and to deliver them by trace")
	sampler.Stop()
}

// replay delivers the spans that were delivered again, as other traces, until they are n, and returns how many they were.
func (m *meter) replay(t *testing.T, conn *grpc.ClientConn, n int) int {
	t.Helper()
	client := tracespb.NewTraceServiceClient(conn)
	sent := 0
	for round := uint64(1); sent < n; round++ {
		for _, request := range m.traces {
			for _, resource := range request.GetResourceSpans() {
				for _, scope := range resource.GetScopeSpans() {
					for _, s := range scope.GetSpans() {
						binary.BigEndian.PutUint64(s.TraceId, binary.BigEndian.Uint64(s.TraceId)+round*0x9e3779b97f4a7c15)
						sent++
					}
				}
			}
			for {
				_, err := client.Export(t.Context(), request)
				if err == nil {
					break
				}
				if status.Code(err) != codes.Unavailable {
					t.Fatal(err)
				}
				<-time.After(10 * time.Millisecond) // its queue is full: again, later
			}
		}
	}
	return sent
}

// jaeger has the figures of Jaeger's memory.
func (f *figures) jaeger(t *testing.T, m *meter, path string) {
	t.Helper()
	jaeger := startJaeger(t, path)
	before := rss(t, jaeger.PID())
	n := m.replay(t, connect(t, jaeger.otlp), 200_000)
	all := m.spans()
	awaitURL(t, fmt.Sprintf("%s/api/traces/%x", jaeger.api, all[len(all)-1].GetTraceId())) // then it has stored them all
	f.addHere("memory of Jaeger per span", (rss(t, jaeger.PID())-before)/float64(n), "B", fmt.Sprintf("resident, with %d spans in its memory store", n))
	jaeger.Stop()
}

// A jaegerd is a Jaeger that runs.
type jaegerd struct {
	*program.Program
	otlp, api string // an address and a URL
}

// startJaeger starts a Jaeger with the command line that it has in the overlay, on free ports.
func startJaeger(t *testing.T, path string, env ...string) *jaegerd {
	t.Helper()
	project, err := compose.Load(t.Context(), "../..", compose.Overlay)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{project: project}
	j := &jaegerd{otlp: free(t)}
	api, health := free(t), free(t)
	j.api = "http://" + api
	var args []string
	for _, word := range project.Services["jaeger"].Command {
		args = append(args, w.local("jaeger", word))
	}
	args = append(args, "--set=receivers.otlp.protocols.grpc.endpoint="+j.otlp, "--set=receivers.otlp.protocols.http.endpoint="+free(t),
		"--set=extensions.healthcheckv2.http.endpoint="+health, "--set=extensions.jaeger_query.http.endpoint="+api, "--set=extensions.jaeger_query.grpc.endpoint="+free(t))
	ui, err := filepath.Abs("../../dashboards/jaeger/ui.json")
	if err != nil {
		t.Fatal(err)
	}
	j.Program = program.Start(t, append(env, "JAEGER_UI_CONFIG="+ui), path, args...)
	awaitURL(t, "http://"+health+"/status")
	return j
}

// awaitURL waits until a GET of url is answered with 200.
func awaitURL(t *testing.T, url string) {
	t.Helper()
	s := types.ServiceConfig{Name: url}
	s.HealthCheck = &types.HealthCheckConfig{Test: []string{"CMD", "ready", url}}
	awaitHealth(t, s, nil)
}

// rss returns how much memory of a process is resident, in bytes.
func rss(t *testing.T, pid int) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in\n%s", status)
	}
	kB, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return 1024 * kB
}

// cpuTime returns how much time of processors a process has taken.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	var ticks int64
	for _, field := range fields[12:14] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// page writes the figures and what follows of them into the page, or looks whether the page has them.
func (f figures) page(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(scalingPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	if !*writeSizes {
		for _, figure := range f {
			t.Logf("%s: %s", figure.name, figure.text())
			row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(figure.name) + ` \| ([0-9.,]+)`).FindStringSubmatch(page)
			if row == nil {
				t.Errorf("the page has no %q", figure.name)
				continue
			}
			said, err := strconv.ParseFloat(strings.ReplaceAll(row[1], ",", ""), 64)
			if err != nil {
				t.Error(err)
			}
			if figure.stable && (said < 0.9*figure.value || said > 1.1*figure.value) {
				t.Errorf("%s: the page says %v, measured is %s; see TestScaling for how to write it", figure.name, said, figure.text())
			}
		}
		return
	}
	var inputs strings.Builder
	fmt.Fprint(&inputs, "| what | measured | of what |\n| --- | ---: | --- |\n")
	for _, figure := range f {
		fmt.Fprintf(&inputs, "| %s | %s | %s |\n", figure.name, figure.text(), figure.how)
	}
	fmt.Fprintf(&inputs, "\nOn %s/%s with %d processors.\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	page = section(t, page, "inputs", inputs.String())
	page = section(t, page, "sizes", f.sizes())
	if err := os.WriteFile(scalingPage, []byte(page), 0o644); err != nil { //nolint:gosec // a page for everybody
		t.Fatal(err)
	}
}

// section returns the page with another content between the marks of a section.
func section(t *testing.T, page, name, content string) string {
	t.Helper()
	begin, end := "<!-- begin: "+name+", written by TestScaling -->\n", "<!-- end: "+name+" -->"
	before, rest, ok := strings.Cut(page, begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("the page has no section %s", name)
	}
	return before + begin + "\n" + content + "\n" + end + after
}

func (f figure) text() string { return strings.TrimSpace(round(f.value) + " " + f.unit) }

// round returns a number with three digits, or all before the point.
func round(v float64) string {
	digits := 2
	if v == math.Trunc(v) {
		digits = 0
	}
	for limit := 10.0; v >= limit && digits > 0; limit *= 10 {
		digits--
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if whole, _, _ := strings.Cut(text, "."); len(whole) > 3 {
		n := len(whole) - 3
		return whole[:n] + "," + whole[n:] // nothing here has seven digits
	}
	return text
}

// sizes is what follows for three systems whose calls are like those of the example.
func (f figures) sizes() string {
	const wait, share, export, held, day = 10, 0.1, 15, 50_000, 86_400 // seconds, of all, seconds, traces, seconds
	systems := []struct{ calls, instances float64 }{{100, 3}, {1000, 30}, {10_000, 300}}
	spans, size, errors := f.get("spans per call"), f.get("bytes per span"), f.get("traces with an error or a slow span")/100
	kept := errors + (1-errors)*share
	rows := []struct {
		name, how string
		value     func(calls, instances float64) string
	}{
		{"spans", "calls × spans per call", func(c, _ float64) string { return round(c*spans) + "/s" }},
		{"from agents to samplers", "spans × bytes per span", func(c, _ float64) string { return perSecond(c * spans * size) }},
		{"the same with gzip", "spans × bytes per span, gzip", func(c, _ float64) string { return perSecond(c * spans * f.get("bytes per span, gzip")) }},
		{"memory of all samplers", "spans × 10 s × memory of a sampler per span", func(c, _ float64) string {
			return bytesOf(c * spans * wait * f.get("memory of a sampler per span"))
		}},
		{"processors of all samplers", "spans × processor time of a sampler per span", func(c, _ float64) string {
			return round(c * spans * f.get("processor time of a sampler per span") / 1e6)
		}},
		{"processors of all agents", "spans × processor time of an agent per span", func(c, _ float64) string {
			return round(c * spans * f.get("processor time of an agent per span") / 1e6)
		}},
		{"traces kept", fmt.Sprintf("calls × %s %%: with an error or slow, and 10 %% of the rest", round(100*kept)), func(c, _ float64) string { return round(c*kept) + "/s" }},
		{"kept a day, before the store compresses", "traces kept × spans per call × bytes per span × 86,400 s", func(c, _ float64) string { return bytesOf(c * kept * spans * size * day) }},
		{"Jaeger's memory store, 50,000 traces, is full after", "50,000 / traces kept", func(c, _ float64) string {
			return (time.Duration(held/(c*kept)) * time.Second).Round(time.Second).String()
		}},
		{"and takes", "50,000 × spans per call × memory of Jaeger per span", func(_, _ float64) string { return bytesOf(held * spans * f.get("memory of Jaeger per span")) }},
		{"series", "instances × series per instance, users-api", func(_, i float64) string { return round(i * f.get("series per instance, users-api")) }},
		{"memory of Prometheus for them", "series × memory of Prometheus per series", func(_, i float64) string {
			return bytesOf(i * f.get("series per instance, users-api") * f.get("memory of Prometheus per series"))
		}},
		{"samples", "series / 15 s", func(_, i float64) string { return round(i*f.get("series per instance, users-api")/export) + "/s" }},
		{"remote write", "samples × bytes per sample, remote write", func(_, i float64) string {
			return perSecond(i * f.get("series per instance, users-api") / export * f.get("bytes per sample, remote write"))
		}},
		{"Redis commands", "calls × Redis commands per call", func(c, _ float64) string { return round(c*f.get("Redis commands per call")) + "/s" }},
		{"of the one processor that Redis uses", "Redis commands × processor time of Redis per command", func(c, _ float64) string {
			return round(100*c*f.get("Redis commands per call")*f.get("processor time of Redis per command")/1e6) + " %"
		}},
	}
	var b strings.Builder
	fmt.Fprint(&b, "| | is |")
	for _, s := range systems {
		fmt.Fprintf(&b, " %s calls/s, %s instances |", round(s.calls), strconv.FormatFloat(s.instances, 'f', -1, 64))
	}
	fmt.Fprint(&b, "\n| --- | --- | ---: | ---: | ---: |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.name, r.how)
		for _, s := range systems {
			fmt.Fprintf(&b, " %s |", r.value(s.calls, s.instances))
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

func perSecond(bytes float64) string { return bytesOf(bytes) + "/s" }

func bytesOf(v float64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	for v >= 1000 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	return round(v) + " " + units[0]
}
