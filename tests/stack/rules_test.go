package stack

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

var rulesFile = filepath.Join(root, "dashboards/prometheus/rules.yml")

// TestRulesParse reads the rules as Prometheus does, an unknown key being an error.
func TestRulesParse(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	parse := func(content string) []error {
		_, errs := rulefmt.Parse([]byte(content), false, model.UTF8Validation, parser.NewParser(parser.Options{}), log)
		return errs
	}
	content := string(read(t, "dashboards/prometheus/rules.yml"))
	for _, err := range parse(content) {
		t.Error(err)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"unknown key", "for: 2m", "fro: 2m"},
		{"expression", "increase(", "increased("},
		{"template", "{{ $value | humanize }}", "{{ $value | humanise }}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(parse(strings.Replace(content, tt.old, tt.new, 1))) == 0 {
				t.Errorf("got no error for %q", tt.new)
			}
		})
	}
}

// TestRunbooks looks for the section that each alert links to.
func TestRunbooks(t *testing.T) {
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(read(t, "dashboards/README.md")), -1) {
		sections[m[1]] = true
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	decode(t, &file, "dashboards/prometheus/rules.yml")
	alerts := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			alerts[r.Alert] = true
			if want := "https://github.com/rpcscope/rpcscope/blob/main/dashboards/README.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
				t.Errorf("alert %s: got runbook %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
			}
		}
	}
	if diff := cmp.Diff(alerts, sections); diff != "" || len(alerts) == 0 {
		t.Errorf("sections of dashboards/README.md (-alerts +sections):\n%s", diff)
	}
}

// TestRules evaluates the rules minute by minute over made series, as promtool test rules does.
func TestRules(t *testing.T) {
	const series = `rpc_server_call_duration_seconds_count{job="users/users-api",rpc_method="users.v1.UserService/GetUser",`
	for _, tt := range []struct {
		name   string
		load   string
		at     time.Duration
		ratio  float64 // recorded for the last hour
		alerts []string
	}{
		{
			name: "faults of the server burn the budget, in both windows",
			load: series + `rpc_response_status_code="OK"} 0+95x120
				` + series + `rpc_response_status_code="NOT_FOUND"} 0+50x120
				` + series + `rpc_response_status_code="INTERNAL",error_type="INTERNAL"} 0+5x120`,
			at:    70 * time.Minute,
			ratio: 5. / 150,
			alerts: []string{
				"users/users-api burns its 99.9% availability budget more than 14.4 times too fast" +
					" | 3.333% of the calls of the last hour ended in a fault of the server.",
				"users/users-api burns its 99.9% availability budget more than 6 times too fast" +
					" | 3.333% of the calls of the last 6 hours ended in a fault of the server.",
			},
		},
		{
			name: "what callers do wrong burns nothing",
			load: series + `rpc_response_status_code="OK"} 0+10x120
				` + series + `rpc_response_status_code="NOT_FOUND"} 0+90x120`,
			at: 90 * time.Minute,
		},
		{
			name: "the fast alert ends soon after the trouble",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				` + series + `rpc_response_status_code="INTERNAL",error_type="INTERNAL"} 0+5x60 300x60`,
			at:    67 * time.Minute,
			ratio: 265. / 6265,
			alerts: []string{
				"users/users-api burns its 99.9% availability budget more than 6 times too fast" +
					" | 4.286% of the calls of the last 6 hours ended in a fault of the server.",
			},
		},
		{
			name: "the first panic is told",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_server_panics_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser"} _x60 1x60`,
			at: 62 * time.Minute,
			alerts: []string{
				"users.v1.UserService/GetUser of users/users-api panics" +
					" | 1 panics in 5 minutes; the stack is on the span and in the log.",
			},
		},
		{
			name: "calls over a limit, not those of strangers",
			load: series + `rpc_response_status_code="OK"} 0+80x120
				` + series + `rpc_response_status_code="RESOURCE_EXHAUSTED"} 0+20x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="rate_limited"} 0+15x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="overloaded"} 0+5x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="invalid"} 0+50x120`,
			at:     20 * time.Minute,
			alerts: []string{"users/users-api refuses many calls since there are too many | 20% of the calls of the last 5 minutes were over a limit."},
		},
		{
			name: "a few calls over a limit are what limits are for",
			load: series + `rpc_response_status_code="OK"} 0+95x120
				` + series + `rpc_response_status_code="RESOURCE_EXHAUSTED"} 0+5x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="rate_limited"} 0+5x120`,
			at: 20 * time.Minute,
		},
		{
			name: "a limiter that fails, from its first failure",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_server_limiter_failures_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_ratelimit_policy="shared",rpcscope_ratelimit_outcome="allowed"} _x60 3x60`,
			at:     63 * time.Minute,
			alerts: []string{"the rate limiter shared of users/users-api fails | 3 calls of the last 5 minutes were allowed without it."},
		},
		{
			name: "a limiter that works again",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_server_limiter_failures_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_ratelimit_policy="shared",rpcscope_ratelimit_outcome="allowed"} _x60 3x60`,
			at: 70 * time.Minute,
		},
		{
			name: "a burst of strangers",
			load: series + `rpc_response_status_code="OK"} 0+1000x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="unauthenticated"} 0+6x80 780+300x40`,
			at: 90 * time.Minute,
			alerts: []string{"users/users-api refuses a burst of callers whom it does not know or who may not" +
				" | 5 calls a second: guessed or expired credentials, or a client that was deployed with wrong ones."},
		},
		{
			name: "the strangers there always are",
			load: series + `rpc_response_status_code="OK"} 0+1000x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="unauthenticated"} 0+120x120`,
			at: 90 * time.Minute,
		},
		{
			name: "strangers where there were none before",
			load: series + `rpc_response_status_code="OK"} 0+1000x120
				rpcscope_server_rejected_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser",rpcscope_rejected_reason="permission_denied"} _x80 0+300x40`,
			at: 90 * time.Minute,
			alerts: []string{"users/users-api refuses a burst of callers whom it does not know or who may not" +
				" | 5 calls a second: guessed or expired credentials, or a client that was deployed with wrong ones."},
		},
		{
			name: "a breaker that is open, and half-open now and then",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_client_breaker_state{job="users/users-web",server_address="users",rpcscope_breaker_name="users.v1.UserService"} 0x30 2 2 1 2 2 1 2 2 0x20`,
			at:     35 * time.Minute,
			alerts: []string{"users/users-web does not call users.v1.UserService at users | Its circuit breaker has not been closed for 2 minutes: calls fail at once."},
		},
		{
			name: "a breaker that has closed",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_client_breaker_state{job="users/users-web",server_address="users",rpcscope_breaker_name="users.v1.UserService"} 0x30 2 2 1 2 2 1 2 2 0x20`,
			at: 40 * time.Minute,
		},
		{
			name: "a budget for retries that is spent",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_client_retries_stopped_total{job="users/users-web",server_address="users",rpcscope_retry_stopped="budget"} 0+60x120
				rpcscope_client_retries_stopped_total{job="users/users-web",server_address="users",rpcscope_retry_stopped="attempts"} 0+600x120`,
			at:     20 * time.Minute,
			alerts: []string{"users/users-web no longer retries calls of users | 1 failures a second were not retried, as too many calls fail."},
		},
		{
			name: "an old panic is not told again",
			load: series + `rpc_response_status_code="OK"} 0+100x120
				rpcscope_server_panics_total{job="users/users-api",rpc_method="users.v1.UserService/GetUser"} _x60 1x60`,
			at: 70 * time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ratio, alerts := evaluate(t, "load 1m\n"+tt.load, tt.at)
			if diff := cmp.Diff(tt.ratio, ratio, cmpopts.EquateApprox(0, 1e-4)); diff != "" {
				t.Errorf("job:rpc_server_faults:ratio_rate1h (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.alerts, alerts, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

// evaluate runs the rules every minute until a time and returns the recorded
// ratio of the last hour and the texts of the alerts that fire.
func evaluate(t *testing.T, load string, at time.Duration) (ratio float64, alerts []string) {
	t.Helper()
	ctx := t.Context()
	storage := promqltest.LoadedStorage(t, load)
	engine := promqltest.NewTestEngine(t, false, lookback, 1e6)
	query := rules.EngineQueryFunc(engine, storage)
	manager := rules.NewManager(&rules.ManagerOptions{
		Context: ctx, Appendable: storage, Queryable: storage, QueryFunc: query,
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Parser:     parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	for _, err := range errs {
		t.Fatal(err)
	}
	// The alerts read what the first group records.
	order := slices.SortedFunc(maps.Values(groups), func(a, b *rules.Group) int { return strings.Compare(a.Name(), b.Name()) })
	for now := time.Unix(0, 0); !now.After(time.Unix(0, 0).Add(at)); now = now.Add(time.Minute) {
		for _, g := range order {
			g.Eval(ctx, now)
		}
	}
	for _, g := range order {
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.Error(err)
			}
		}
		for _, r := range g.AlertingRules() {
			r.ForEachActiveAlert(func(a *rules.Alert) {
				if a.State == rules.StateFiring {
					alerts = append(alerts, a.Annotations.Get("summary")+" | "+a.Annotations.Get("description"))
				}
			})
		}
	}
	var v promql.Vector
	v, err := query(ctx, "job:rpc_server_faults:ratio_rate1h", time.Unix(0, 0).Add(at))
	if err != nil || len(v) != 1 {
		t.Fatalf("got ratios %v, error %v, want one", v, err)
	}
	return v[0].F, alerts
}
