package stack

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/rules"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// silent is what the example has nothing for: no client of it panics. TestDashboards has one that does.
const silent = `"rpcscope_client_panics_total"`

// enough is how long the example is given to fill every panel: far longer than it takes.
const enough = 90 * time.Second

// TestUnderLoad runs the example's programs under the load of its own generator, exporting to Prometheus' OTLP
// receiver every second as they would to a stack, and evaluates every panel, variable and rule on what has arrived, until
// each has found something and the alerts that are due are active.
func TestUnderLoad(t *testing.T) {
	t.Parallel() // it waits most of the time
	bin := t.TempDir()
	if err := program.Build(t.Context(), root, bin, "users-api", "users-audit", "users-load"); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t)
	start := func(name, instance string, args ...string) *program.Program {
		return program.Start(t, []string{
			"OTEL_SERVICE_NAME=" + name, "OTEL_METRIC_EXPORT_INTERVAL=1000",
			"OTEL_RESOURCE_ATTRIBUTES=service.namespace=users,service.version=1.2.3,service.instance.id=" + instance,
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + b.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		}, filepath.Join(bin, name), args...)
	}
	audit := start("users-audit", "1", "-listen", "127.0.0.1:0", "-faults", "-messages")
	defer audit.Stop()
	// Its Redis is away: the limits of users fail, and let calls happen.
	api := start("users-api", "1", "-listen", "127.0.0.1:0", "-audit", audit.Find(`audit service is serving.*address=(\S+)`),
		"-faults", "-messages", "-resilient", "-redis", "127.0.0.1:1")
	defer api.Stop()
	friendly := api.Find(`users service is serving.*address=(\S+)`)
	// Another counts itself, and refuses.
	limited := start("users-api", "2", "-listen", "127.0.0.1:0", "-messages")
	defer limited.Stop()
	addresses := map[string]string{"steady": friendly, "failing": friendly, "breaker": friendly, "hostile": limited.Find(`users service is serving.*address=(\S+)`)}
	for scenario, address := range addresses {
		p := start("users-load", scenario, "-addr", address, "-duration", (2 * enough).String(), "-rate", "20", "-users", "8", "-tolerate", "1", scenario)
		defer p.Stop()
	}

	all, ruler := dashboards(t), b.ruler(t)
	active := map[string]bool{} // alerts that were pending or firing at a time
	want := []string{
		"GRPCClientBreakerOpen", "GRPCServerErrorBudgetBurn", "GRPCServerLimiterFails", "GRPCServerPanics",
	}
	problems := func(now time.Time) []error {
		problems := ruler.eval(t.Context(), now)
		for _, a := range ruler.active() {
			active[a.Labels.Get("alertname")] = true
		}
		for _, name := range want {
			if !active[name] {
				problems = append(problems, fmt.Errorf("alert %s is not active", name))
			}
		}
		problems = append(problems, each(checkDashboards(t.Context(), all, b, now))...)
		for _, g := range ruler.groups {
			for _, r := range g.Rules() {
				problems = append(problems, b.checkRule(t, r, now)...)
			}
		}
		n := len(problems)
		problems = slices.DeleteFunc(problems, func(err error) bool {
			return strings.Contains(err.Error(), silent) && strings.HasSuffix(err.Error(), "selects no series")
		})
		if len(problems) == n {
			problems = append(problems, fmt.Errorf("%s is silent no more", silent))
		}
		return problems
	}

	late := time.After(enough)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	begin := time.Now()
	for {
		select {
		case now := <-tick.C:
			if len(problems(now)) > 0 {
				continue
			}
			t.Logf("all panels and rules had data after %v; active were %q", time.Since(begin).Round(time.Second), slices.Sorted(maps.Keys(active)))
			checkSilence(t, ruler, now)
			return
		case <-late:
			for _, err := range problems(time.Now()) {
				t.Error(err)
			}
			return
		}
	}
}

// checkSilence looks 10 minutes ahead, where nothing has arrived: the servers are missed, and those alone.
func checkSilence(t *testing.T, r *ruler, now time.Time) {
	t.Helper()
	for _, err := range r.eval(t.Context(), now.Add(10*time.Minute)) {
		t.Error(err)
	}
	var missed []string
	for _, a := range r.active() {
		if a.Labels.Get("alertname") == "GRPCServerTelemetryAbsent" {
			missed = append(missed, a.Labels.Get("job"))
		}
	}
	slices.Sort(missed)
	if want := []string{"users/users-api", "users/users-audit"}; !slices.Equal(missed, want) {
		t.Errorf("got %q missed after 10 minutes of silence, want %q", missed, want)
	}
}

// checkRule evaluates a rule. What an alert asks for must be there, whether or not it is what the alert looks for.
func (b *backend) checkRule(t *testing.T, r rules.Rule, now time.Time) []error {
	t.Helper()
	expr := r.Query().String()
	missing, err := b.missing(t.Context(), expr, now, func(string) {})
	if err != nil {
		return []error{fmt.Errorf("%s: %w", r.Name(), err)}
	}
	var problems []error
	for _, selector := range missing {
		problems = append(problems, fmt.Errorf("%s: %s selects no series", r.Name(), selector))
	}
	if _, recorded := r.(*rules.RecordingRule); !recorded {
		return problems
	}
	if got, err := b.query(t.Context(), expr, now); err != nil || len(got) == 0 {
		problems = append(problems, fmt.Errorf("%s: %s returns no number (%v)", r.Name(), expr, err))
	}
	return problems
}
