//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/tests/internal/native"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// TestOverlay runs the whole of the overlay, Jaeger and Prometheus for real: services deliver to the agent, it to the sampler, that to
// Jaeger what it keeps. Prometheus has counted everything all the same, and Jaeger's Monitor page reads it there.
func TestOverlay(t *testing.T) {
	binaries, err := native.Built("../..")
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("../../dashboards/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	prometheus, metrics := runPrometheus(t, binaries["prometheus"], string(config))
	jaeger := startJaeger(t, binaries["jaeger"], "PROMETHEUS_URL="+metrics)
	w := newWorld(t)
	w.here["http://prometheus:9090"], w.here["jaeger:4317"] = metrics, jaeger.otlp
	sampler := w.start(t, "sampler") // which waits as long as it does there: services deliver each five seconds
	if w.here["sampler"], w.here["4317"], err = net.SplitHostPort(sampler.otlp); err != nil {
		t.Fatal(err)
	}
	agent := w.agent(t)

	redis, store := startRedis(t, w.project.Services["redis"].Command[1:]...)
	here := map[string]string{
		"http://agent:4317": "http://" + agent.otlp, "redis:6379": redis, ":50051": "127.0.0.1:0", ":50052": "127.0.0.1:0",
		"/data/users.db": "", "/data/audit.db": "", // in memory
	}
	audit := startService(t, w.project.Services["users-audit"], here)
	here["users-audit:50052"] = audit.Find(`audit service is serving.*address=(\S+)`)
	users := startService(t, w.project.Services["users-api"], here)
	here["users-api:50051"] = users.Find(`users service is serving.*address=(\S+)`)
	here["10"], here["1h"], here[":8090"] = "100", "5s", "127.0.0.1:0" // calls a second, for so long
	load := startService(t, w.project.Services["users-load"], here)
	load.Wait()
	for _, p := range []interface{ Stop() string }{users, audit, store} { // each delivers what it has
		p.Stop()
	}
	within(t, program.Patience, func() error { // an agent does not deliver at its end what it has counted since its last interval
		calls := query(t, metrics, `sum(rpc_server_call_duration_seconds_count{service_name="users-api"}) or vector(0)`)
		counted := query(t, metrics, `sum(traces_span_metrics_calls_total{service_name="users-api", span_kind="SPAN_KIND_SERVER"}) or vector(0)`)
		if calls < 500 || calls != counted {
			return fmt.Errorf("got %v calls of the users service, and %v counted by their spans, want 500 at least and the same", calls, counted)
		}
		return nil
	})
	agent.Stop()
	sampler.Stop()

	seen := query(t, metrics, `sum(otelcol_processor_tail_sampling_new_trace_id_received_total)`)
	if seen < 500 {
		t.Errorf("the sampler tells of %v traces, want 500 at least", seen)
	}

	type found struct {
		Data []struct {
			Processes map[string]struct{ ServiceName string }
			Spans     []struct{}
		}
	}
	search := func(tags string) found {
		var answer found
		ask(t, jaeger.api+"/api/traces?"+url.Values{"service": {"users-load"}, "tags": {tags}, "limit": {"2000"}, "lookback": {"1h"}}.Encode(), &answer)
		return answer
	}
	notFound := query(t, metrics, `sum(rpc_client_call_duration_seconds_count{service_name="users-load", rpc_response_status_code="NOT_FOUND"})`)
	if notFound < 1 {
		t.Error("nobody asked for somebody who is not there")
	}
	var kept found
	within(t, program.Patience, func() error { // Jaeger stores what it got in batches
		if got := search(`{"rpc.response.status_code":"NOT_FOUND"}`); len(got.Data) != int(notFound) {
			return fmt.Errorf("Jaeger has %d traces with NOT_FOUND, want all %v", len(got.Data), notFound)
		}
		kept = search(`{}`)
		if n := float64(len(kept.Data)); n <= notFound || n > seen/2 {
			return fmt.Errorf("Jaeger has %v traces of %v, want those with an error, slow ones, and a tenth of the others", n, seen)
		}
		return nil
	})
	for _, trace := range kept.Data {
		services := map[string]bool{}
		for _, p := range trace.Processes {
			services[p.ServiceName] = true
		}
		if !services["users-load"] || !services["users-api"] {
			t.Errorf("a trace is of %v only, want the caller's and the users service's spans", services)
			break
		}
	}

	var monitor struct {
		Metrics []struct{ MetricPoints []struct{} }
	}
	ask(t, fmt.Sprintf("%s/api/metrics/calls?service=users-api&spanKind=server&step=5000&ratePer=600000&lookback=600000&endTs=%d",
		jaeger.api, time.Now().UnixMilli()), &monitor)
	if len(monitor.Metrics) == 0 || len(monitor.Metrics[0].MetricPoints) == 0 {
		t.Error("the Monitor page has nothing of the users service")
	}
	jaeger.Stop()
	prometheus.Stop()
}

// ask decodes the answer to a GET.
func ask(t *testing.T, url string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(do(t, request, http.StatusOK)), into); err != nil {
		t.Fatal(err)
	}
}

// within tries until it gets no error, at most for d.
func within(t *testing.T, d time.Duration, try func() error) {
	t.Helper()
	late := time.After(d)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Error(err)
			return
		case <-ticker.C:
		}
	}
}
