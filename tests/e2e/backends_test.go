//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/tests/internal/native"
	"github.com/rpcscope/rpcscope/tests/internal/panels"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

const root = "../.."

// settling is how long each part of the test waits until what was sent is seen. Rules of windows of days are evaluated once
// a minute, and what asks for their result comes after.
const settling = 4 * time.Minute

// TestBackends starts what make stack starts, on free ports, with more load of every kind, and reads back from the real
// Prometheus and the real Jaeger what they make of it.
func TestBackends(t *testing.T) {
	binaries, err := native.Built(root)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := native.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	stack, err := native.Start(t.Context(), native.Config{
		Root: root, Dir: t.TempDir(), Backends: binaries, Examples: bin, Ports: ports, Rate: 10, Every: time.Second, Log: t.Output(),
		Args: map[string][]string{"users-api": {"-redis", "127.0.0.1:1"}}, // where no Redis is: the limits of users fail
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(); err != nil {
			t.Error(err)
		}
	})
	b := newBackends(t, stack)
	for _, p := range b.load(t) {
		defer p.Stop()
	}
	b.panicInClient(t)

	for _, part := range []struct {
		name  string
		check func(*testing.T)
	}{
		{"traces", b.checkTraces}, {"service graph", b.checkServiceGraph}, {"span metrics", b.checkSpanMetrics},
		{"dashboards", b.checkDashboards}, {"rules", b.checkRules}, {"exemplars", b.checkExemplars},
	} {
		b.late = time.Now().Add(settling)
		t.Run(part.name, part.check)
	}
	if err := stack.Check(); err != nil {
		t.Error(err)
	}
}

type backends struct {
	*native.Stack
	begun      time.Time
	late       time.Time // when the part that runs has had enough of it
	prometheus promv1.API
	client     *http.Client
}

func newBackends(t *testing.T, s *native.Stack) *backends {
	t.Helper()
	b := &backends{Stack: s, begun: time.Now(), client: &http.Client{Timeout: program.Patience, Transport: &http.Transport{DisableKeepAlives: true}}}
	client, err := api.NewClient(api.Config{Address: s.Ports.URL(native.PrometheusHTTP), Client: b.client})
	if err != nil {
		t.Fatal(err)
	}
	b.prometheus = promv1.NewAPI(client)
	return b
}

// load has calls of all kinds made, until what it returns is stopped, from the last to the first.
func (b *backends) load(t *testing.T) []*program.Program {
	t.Helper()
	var all []*program.Program
	run := func(name string, args ...string) *program.Program {
		p := start(t, []string{
			"OTEL_SERVICE_NAME=" + name, "OTEL_RESOURCE_ATTRIBUTES=service.namespace=users", "OTEL_LOGS_EXPORTER=none",
			"OTEL_METRIC_EXPORT_INTERVAL=1000", "OTEL_EXPORTER_OTLP_ENDPOINT=" + b.Ports.URL(native.OTLPGRPC),
		}, name, args...)
		all = append(all, p)
		return p
	}
	// Another server, whose limits need no Redis, refuses who makes too many calls.
	limited := run("users-api", "-listen", "127.0.0.1:0", "-messages").Find(`users service is serving.*address=(\S+)`)
	addresses := map[string]string{"hostile": limited, "failing": b.address(native.UsersAPI), "breaker": b.address(native.UsersAPI)}
	for scenario, address := range addresses {
		run("users-load", "-addr", address, "-duration", "1h", "-rate", "20", "-tolerate", "1", "-messages", scenario)
	}
	return all
}

// panicInClient is a client such as the example has none. It has a way out for logs as well, which the example has not since
// Jaeger takes none.
func (b *backends) panicInClient(t *testing.T) {
	t.Helper()
	tel, err := telemetry.Setup(t.Context(), telemetry.WithServiceName("panics"), telemetry.WithoutGlobals(),
		telemetry.WithLookupEnv(func(string) (string, bool) { return "", false }),
		telemetry.WithEndpoint(b.Ports.URL(native.OTLPGRPC)), telemetry.WithMetricInterval(time.Second),
		telemetry.WithDiagnostics(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(b.address(native.UsersAPI), append(interceptors.DialOptions(
		interceptors.WithTracerProvider(tel.TracerProvider()), interceptors.WithMeterProvider(tel.MeterProvider()),
		interceptors.WithFilter(func(*interceptors.Call) bool { return true }),
		interceptors.Interceptor(func(context.Context, *interceptors.Call, interceptors.Next) error { panic("the interceptor's") }),
	), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer func() {
		if got, want := recover(), "the interceptor's"; got != want {
			t.Errorf("got panic %v, want %v", got, want)
		}
	}()
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	t.Errorf("got error %v, want a panic", err)
}

func (b *backends) address(name string) string {
	return strings.TrimPrefix(b.Ports.URL(name), "http://")
}

// eventually waits until check returns nil, or it is late.
func (b *backends) eventually(t *testing.T, check func() error) {
	t.Helper()
	late := time.After(time.Until(b.late))
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		err := check()
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

// TestPromtool has promtool check the files that Prometheus reads, and files that are spoilt.
func TestPromtool(t *testing.T) {
	binaries, err := native.Built(root)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "dashboards/prometheus")
	checks := map[string][]string{"check config": {"--lint=all", "--lint-fatal"}, "check rules": {"--lint=all", "--lint-fatal"}, "test rules": nil}
	files := map[string]string{"check config": "prometheus.yml", "check rules": "*rules.yml", "test rules": "*_test.yml"}
	run := func(check, folder string) error {
		args := slices.Concat(strings.Fields(check), checks[check], glob(t, filepath.Join(folder, files[check])))
		if out, err := exec.CommandContext(t.Context(), binaries["promtool"], args...).CombinedOutput(); err != nil {
			return fmt.Errorf("promtool %s: %w\n%s", check, err, out)
		}
		return nil
	}
	for check := range checks {
		if err := run(check, folder); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct{ name, file, old, new, check string }{
		{"unknown key", "prometheus.yml", "evaluation_interval:", "evaluation_intervals:", "check config"},
		{"a rule twice", "rules.yml", "      - record: job:rpc_server_calls:rate5m\n", "      - record: job:rpc_server_calls:rate5m\n        expr: sum by (job) (rate(rpc_server_call_duration_seconds_count[5m]))\n      - record: job:rpc_server_calls:rate5m\n", "check rules"},
		{"another objective", "rules.yml", "expr: vector(0.001)", "expr: vector(0.5)", "test rules"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := t.TempDir()
			if err := os.CopyFS(spoilt, os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(spoilt, tt.file)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(content), tt.old, tt.new, 1)
			if changed == string(content) {
				t.Fatalf("%q is not in %s", tt.old, tt.file)
			}
			if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := run(tt.check, spoilt); err == nil {
				t.Errorf("promtool %s: got no error, want one", tt.check)
			}
		})
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("got files %q like %s, error %v, want some", files, pattern, err)
	}
	return files
}

// query evaluates an expression now and returns the samples that are numbers.
func (b *backends) query(ctx context.Context, expr string) (model.Vector, error) {
	value, warnings, infos, err := b.prometheus.Query(ctx, expr, time.Now())
	if err != nil {
		return nil, err
	}
	if len(warnings)+len(infos) > 0 {
		return nil, fmt.Errorf("warnings: %v %v", warnings, infos)
	}
	switch v := value.(type) {
	case model.Vector:
		return slices.DeleteFunc(v, func(s *model.Sample) bool { return s.Histogram == nil && math.IsNaN(float64(s.Value)) }), nil
	case *model.Scalar:
		return model.Vector{{Value: v.Value}}, nil
	}
	return nil, fmt.Errorf("%s is a %s, want a vector", expr, value.Type())
}

// has returns an error if an expression returns nothing, or if a part of it does: "a or vector(0)" returns a number
// whatever a is.
func (b *backends) has(ctx context.Context, expr string) error {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return err
	}
	asked := []string{expr}
	for _, matchers := range parser.ExtractSelectors(parsed) {
		asked = append(asked, (&parser.VectorSelector{LabelMatchers: matchers}).String())
	}
	for _, expr := range asked {
		if got, err := b.query(ctx, expr); err != nil || len(got) == 0 {
			return fmt.Errorf("%s returns no number (%v)", expr, err)
		}
	}
	return nil
}

// exemplars returns the trace ids of the exemplars of what an expression selects.
func (b *backends) exemplars(ctx context.Context, expr string) ([]string, error) {
	series, err := b.prometheus.QueryExemplars(ctx, expr, time.Now().Add(-time.Hour), time.Now())
	var traces []string
	for _, s := range series {
		for _, e := range s.Exemplars {
			if id := string(e.Labels["trace_id"]); len(id) == 32 {
				traces = append(traces, id)
			}
		}
	}
	return traces, err
}

// checkDashboards evaluates every panel and variable of every dashboard.
func (b *backends) checkDashboards(t *testing.T) {
	queries, err := panels.Dashboards(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, nothing := range []string{"rpcscope_nothing_total or vector(0)", "0 * rpc_server_call_duration_seconds_count / 0", `rpcscope_server_errors_total{rpc_method="nobody's"}`} {
		if err := b.has(t.Context(), nothing); err == nil {
			t.Errorf("%s: got no error, want one", nothing)
		}
	}
	withExemplars := 0
	for _, q := range queries {
		if q.Exemplar {
			withExemplars++
		}
		b.eventually(t, func() error {
			if err := b.has(t.Context(), q.Expr); err != nil {
				return fmt.Errorf("%s: %w", q.Where, err)
			}
			if !q.Exemplar {
				return nil
			}
			if traces, err := b.exemplars(t.Context(), q.Expr); err != nil || len(traces) == 0 {
				return fmt.Errorf("%s: no exemplars (%w)", q.Where, err)
			}
			return nil
		})
	}
	if withExemplars == 0 {
		t.Error("no panel shows exemplars")
	}
	t.Logf("%d expressions of dashboards have data, %d of them with exemplars", len(queries), withExemplars)
}

// checkRules evaluates every rule, and sees that Prometheus itself did.
func (b *backends) checkRules(t *testing.T) {
	recorded, alerts, err := panels.Rules(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range recorded {
		b.eventually(t, func() error {
			if err := b.has(t.Context(), q.Expr); err != nil {
				return fmt.Errorf("%s: %w", q.Where, err)
			}
			return nil
		})
	}
	for _, q := range alerts {
		parts, err := compared(q.Expr)
		if err != nil || len(parts) == 0 {
			t.Errorf("%s: got parts %q, error %v", q.Where, parts, err)
		}
		for _, part := range parts {
			b.eventually(t, func() error {
				if err := b.has(t.Context(), part); err != nil {
					return fmt.Errorf("%s: %w", q.Where, err)
				}
				return nil
			})
		}
	}
	b.eventually(t, func() error {
		result, err := b.prometheus.Rules(t.Context(), nil)
		if err != nil {
			return err
		}
		n := 0
		for _, g := range result.Groups {
			for _, rule := range g.Rules {
				n++
				switch r := rule.(type) {
				case promv1.RecordingRule:
					if r.Health != promv1.RuleHealthGood || r.LastEvaluation.Before(b.begun) {
						return fmt.Errorf("%s: health %s at %v: %s", r.Name, r.Health, r.LastEvaluation, r.LastError)
					}
				case promv1.AlertingRule:
					if r.Health != promv1.RuleHealthGood || r.LastEvaluation.Before(b.begun) {
						return fmt.Errorf("%s: health %s at %v: %s", r.Name, r.Health, r.LastEvaluation, r.LastError)
					}
				}
			}
		}
		if want := len(recorded) + len(alerts); n != want {
			return fmt.Errorf("Prometheus has %d rules, want %d", n, want)
		}
		return nil
	})
	t.Logf("%d recording rules and the parts of %d alerts have data", len(recorded), len(alerts))
}

// compared returns what an alert compares and combines, now instead of some time ago: an alert that does not fire returns
// nothing, and its parts do.
func compared(expr string) ([]string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			s.OriginalOffset = 0 // Prometheus has run for a minute
		}
		return nil
	})
	var parts []string
	var split func(e parser.Expr)
	split = func(e parser.Expr) {
		switch e := e.(type) {
		case *parser.ParenExpr:
			split(e.Expr)
		case *parser.BinaryExpr:
			if e.Op.IsComparisonOperator() || e.Op.IsSetOperator() {
				split(e.LHS)
				split(e.RHS)
				return
			}
			parts = append(parts, e.String())
		case *parser.Call:
			if strings.HasPrefix(e.Func.Name, "absent") { // is there when its argument is not
				split(e.Args[0])
				return
			}
			parts = append(parts, e.String())
		case *parser.MatrixSelector: // of absent_over_time
			parts = append(parts, "last_over_time("+e.String()+")")
		case *parser.NumberLiteral:
		default:
			parts = append(parts, e.String())
		}
	}
	split(parsed)
	return parts, nil
}

// TestCompared splits alerts as they are written.
func TestCompared(t *testing.T) {
	for _, tt := range []struct {
		expr string
		want []string
	}{
		{"sum(rate(a[5m])) > 0.1 * b", []string{"sum(rate(a[5m]))", "0.1 * b"}},
		{"(a > 1 and b offset 5m > 2) unless c == 0", []string{"a", "b", "c"}},
		{"absent(up{job=\"a\"}) or absent_over_time(b[5m])", []string{`up{job="a"}`, "last_over_time(b[5m])"}},
	} {
		got, err := compared(tt.expr)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: error %v, parts (-want +got):\n%s", tt.expr, err, diff)
		}
	}
}

// checkExemplars follows exemplars of calls from Prometheus to their traces in Jaeger.
func (b *backends) checkExemplars(t *testing.T) {
	b.eventually(t, func() error {
		traces, err := b.exemplars(t.Context(), "rpc_server_call_duration_seconds_bucket")
		if err != nil || len(traces) == 0 {
			return fmt.Errorf("got exemplars of traces %v (%w), want some", traces, err)
		}
		for _, id := range traces[:min(len(traces), 20)] {
			if _, err := b.trace(t.Context(), id); err != nil {
				return err
			}
		}
		return nil
	})
}

// A jaegerTrace is as much of Jaeger's JSON as the checks read.
type jaegerTrace struct {
	TraceID   string
	Spans     []jaegerSpan
	Processes map[string]struct{ ServiceName string }
}

type jaegerSpan struct {
	SpanID, OperationName, ProcessID string
	StartTime                        int64
	References                       []struct{ RefType, SpanID string }
	Tags                             []struct {
		Key   string
		Value any
	}
}

// tag returns the value of a tag, nil if there is none.
func (s jaegerSpan) tag(key string) any {
	for _, t := range s.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return nil
}

// tree returns the names of the spans, each with its service, indented below its parent, in the order of their starts.
func (tr jaegerTrace) tree() string {
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		for _, s := range tr.Spans {
			own := ""
			for _, r := range s.References {
				own = r.SpanID
			}
			if own == parent {
				fmt.Fprintf(&b, "%s%s %s\n", indent, tr.Processes[s.ProcessID].ServiceName, s.OperationName)
				write(s.SpanID, indent+"  ")
			}
		}
	}
	slices.SortStableFunc(tr.Spans, func(a, b jaegerSpan) int { return int(a.StartTime - b.StartTime) })
	write("", "")
	return b.String()
}

// ask sends a GET to Jaeger and decodes what data the answer has.
func (b *backends) ask(ctx context.Context, path string, query url.Values, data any) error {
	u := b.Ports.URL(native.JaegerHTTP) + path + "?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	response, err := b.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", u, response.Status, body)
	}
	return json.Unmarshal(body, data)
}

// trace returns the trace with an id.
func (b *backends) trace(ctx context.Context, id string) (jaegerTrace, error) {
	var answer struct{ Data []jaegerTrace }
	if err := b.ask(ctx, "/api/traces/"+id, nil, &answer); err != nil {
		return jaegerTrace{}, err
	}
	if len(answer.Data) != 1 {
		return jaegerTrace{}, fmt.Errorf("got %d traces with id %s, want one", len(answer.Data), id)
	}
	return answer.Data[0], nil
}

// search returns the ids of traces of a service with a span that has a tag, which is what Jaeger's search page asks for.
func (b *backends) search(ctx context.Context, service, key, value string) ([]string, error) {
	tags, err := json.Marshal(map[string]string{key: value})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var answer struct{ Data []jaegerTrace }
	err = b.ask(ctx, "/api/traces", url.Values{
		"service": {service}, "tags": {string(tags)}, "limit": {"1000"},
		"start": {fmt.Sprint(now.Add(-time.Hour).UnixMicro())}, "end": {fmt.Sprint(now.UnixMicro())},
	}, &answer)
	var ids []string
	for _, tr := range answer.Data {
		ids = append(ids, tr.TraceID)
	}
	return ids, err
}

const created = `users-web POST /users/
  users-web users.v1.UserService/CreateUser
    users-api users.v1.UserService/CreateUser
      users-api SELECT sessions
      users-api audit.v1.AuditService/Record
        users-api Attempt.audit.v1.AuditService/Record
          users-audit audit.v1.AuditService/Record
            users-audit INSERT events
      users-api BEGIN
      users-api SELECT users
      users-api INSERT users
      users-api COMMIT
`

// A request that the page makes is one trace from the web app to both databases, found by its request id and by the code
// that it ended with; the logs of all three programs name it.
func (b *backends) checkTraces(t *testing.T) {
	page := b.Ports.URL(native.UsersWeb)
	token := b.signUp(t, page)
	well := b.request(t, page, token, "", `{"name":"Grace","email":"grace@example.com"}`, http.StatusCreated)
	badly := b.request(t, page, token, "code=UNAVAILABLE", `{"name":"Alan","email":"alan@example.com"}`, http.StatusServiceUnavailable)

	var trace jaegerTrace
	b.eventually(t, func() (err error) {
		if trace, err = b.trace(t.Context(), well.trace); err != nil {
			return err
		}
		if diff := cmp.Diff(created, trace.tree()); diff != "" {
			return fmt.Errorf("trace %s (-want +got):\n%s", well.trace, diff)
		}
		return nil
	})
	for _, s := range trace.Spans {
		if s.tag("db.system.name") != nil || strings.HasPrefix(s.OperationName, "Attempt.") {
			continue // neither knows of requests
		}
		if got := s.tag("request.id"); got != well.request {
			t.Errorf("span %s: got request.id %v, want %s", s.OperationName, got, well.request)
		}
	}
	b.eventually(t, func() error {
		_, err := b.trace(t.Context(), badly.trace)
		return err
	})

	found := func(service, key, value string, want ...string) {
		t.Helper()
		got, err := b.search(t.Context(), service, key, value)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("traces of %s with %s=%s, error %v (-want +got):\n%s", service, key, value, err, diff)
		}
	}
	for _, service := range []string{"users-web", "users-api", "users-audit"} {
		found(service, "request.id", well.request, well.trace)
	}
	found("users-web", "request.id", badly.request, badly.trace)
	found("users-web", "request.id", "nobody's")
	found("users-web", "rpc.response.status_code", "UNAVAILABLE", badly.trace)
	found("users-web", "rpc.response.status_code", "DATA_LOSS")

	for _, service := range []string{"users-web", "users-api", "users-audit"} {
		spans := map[string]bool{}
		for _, s := range trace.Spans {
			if trace.Processes[s.ProcessID].ServiceName == service {
				spans[s.SpanID] = true
			}
		}
		out, err := b.Log(service)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "request_id="+well.request) {
				continue
			}
			lines++
			m := regexp.MustCompile(`trace_id=(\w+) span_id=(\w+)`).FindStringSubmatch(line)
			if m == nil || m[1] != well.trace || !spans[m[2]] {
				t.Errorf("%s logs %swant trace %s and one of its spans %v", service, line, well.trace, spans)
			}
		}
		if lines == 0 {
			t.Errorf("%s logs nothing about request %s", service, well.request)
		}
	}
}

func (b *backends) signUp(t *testing.T, page string) string {
	t.Helper()
	var session struct{ Token string }
	answer := post(t, page+"/users/me", "", `{"name":"Ada","email":"ada@example.com","password":"correct horse"}`, http.StatusCreated)
	if err := json.Unmarshal([]byte(answer), &session); err != nil {
		t.Fatal(err)
	}
	return session.Token
}

// ids are what a response of the web app names itself by.
type ids struct{ request, trace string }

// request posts a user, with a fault, and returns the ids of the response, whose status must be want.
func (b *backends) request(t *testing.T, page, token, fault, body string, want int) ids {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, page+"/users/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	if fault != "" {
		request.Header.Set("X-Fault", fault)
	}
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := ids{request: response.Header.Get("X-Request-Id"), trace: response.Header.Get("X-Trace-Id")}
	if response.StatusCode != want || got.request == "" || got.trace == "" {
		t.Fatalf("got %s and ids %+v, want status %d", response.Status, got, want)
	}
	return got
}

// checkServiceGraph reads the graph that Jaeger draws of who calls whom.
func (b *backends) checkServiceGraph(t *testing.T) {
	b.eventually(t, func() error {
		var answer struct {
			Data []struct {
				Parent, Child string
				CallCount     int
			}
		}
		err := b.ask(t.Context(), "/api/dependencies", url.Values{"endTs": {fmt.Sprint(time.Now().UnixMilli())}, "lookback": {"3600000"}}, &answer)
		got := map[string]bool{}
		for _, edge := range answer.Data {
			if edge.Parent != edge.Child && edge.CallCount > 0 {
				got[edge.Parent+" -> "+edge.Child] = true
			}
		}
		want := map[string]bool{"users-load -> users-api": true, "users-web -> users-api": true, "users-api -> users-audit": true}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.Join(err, fmt.Errorf("service graph (-want +got):\n%s", diff))
		}
		return err
	})
}

// checkSpanMetrics reads what Jaeger's Monitor page shows, which Jaeger asks Prometheus for.
func (b *backends) checkSpanMetrics(t *testing.T) {
	for _, kind := range []string{"calls", "latencies"} {
		b.eventually(t, func() error {
			var answer struct {
				Metrics []struct {
					MetricPoints []struct{ GaugeValue struct{ DoubleValue float64 } }
				}
			}
			err := b.ask(t.Context(), "/api/metrics/"+kind, url.Values{
				"service": {"users-api"}, "quantile": {"0.95"}, "spanKind": {"server"}, "step": {"5000"}, "ratePer": {"60000"},
				"endTs": {fmt.Sprint(time.Now().UnixMilli())}, "lookback": {"300000"},
			}, &answer)
			for _, m := range answer.Metrics {
				for _, p := range m.MetricPoints {
					if p.GaugeValue.DoubleValue > 0 {
						return err
					}
				}
			}
			return errors.Join(err, fmt.Errorf("got %+v, want a number of %s", answer, kind))
		})
	}
}
