//go:build e2e

package stack

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// silent are the panels that the example has nothing for: no client of it panics.
var silent = []string{"Panics: rpcscope_client_panics_total"}

// TestDashboardsUnderLoad runs the example's programs under the load of its own generator, exporting to Prometheus' OTLP
// receiver every second as they would to a stack, and evaluates every panel of the dashboards on what has arrived.
func TestDashboardsUnderLoad(t *testing.T) {
	bin := t.TempDir()
	if err := program.Build(t.Context(), root, bin); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t)
	env := func(name string) []string {
		return []string{
			"OTEL_SERVICE_NAME=" + name, "OTEL_RESOURCE_ATTRIBUTES=service.namespace=users", "OTEL_METRIC_EXPORT_INTERVAL=1000",
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + b.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_LOGS_EXPORTER=none",
		}
	}
	start := func(name string, args ...string) *program.Program {
		return program.Start(t, env(name), filepath.Join(bin, name), args...)
	}
	audit := start("users-audit", "-listen", "127.0.0.1:0", "-faults", "-messages")
	defer audit.Stop()
	// Its Redis is away: the limits of users fail, and let calls happen. Those of log-ins are its own.
	api := start("users-api", "-listen", "127.0.0.1:0", "-audit", audit.Find(`audit service is serving.*address=(\S+)`),
		"-faults", "-messages", "-resilient", "-redis", "127.0.0.1:1")
	defer api.Stop()
	address := api.Find(`users service is serving.*address=(\S+)`)

	var running sync.WaitGroup
	for scenario, share := range map[string]string{"steady": "0", "hostile": "0", "failing": "1", "breaker": "0"} {
		running.Go(func() {
			p := program.Start(t, append(env("users-load"), "OTEL_RESOURCE_ATTRIBUTES=service.namespace=users,service.instance.id="+scenario),
				filepath.Join(bin, "users-load"), "-addr", address, "-duration", "20s", "-rate", "20", "-users", "8", "-tolerate", share, scenario)
			p.Wait()
		})
	}
	running.Wait()
	now := time.Now()

	for _, file := range dashboards(t) {
		err := checkDashboard(t.Context(), read(t, "dashboards/grafana", filepath.Base(file)), b, now)
		var got []string
		for _, e := range each(err) {
			got = append(got, e.Error())
		}
		unexpected := slices.DeleteFunc(slices.Clone(got), func(problem string) bool {
			return slices.ContainsFunc(silent, func(s string) bool {
				title, metric, _ := strings.Cut(s, ": ")
				return strings.Contains(problem, `"`+title+`"`) && strings.Contains(problem, metric)
			})
		})
		for _, problem := range unexpected {
			t.Errorf("%s: %s", filepath.Base(file), problem)
		}
		if len(got)-len(unexpected) != len(silent) {
			t.Errorf("%s: got problems %q, want those of %q among them", filepath.Base(file), got, silent)
		}
	}
}

// each returns the errors that err joins.
func each(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
