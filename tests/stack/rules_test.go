package stack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"go.yaml.in/yaml/v3"
)

var rulesFile = filepath.Join(root, "dashboards/prometheus/rules.yml")

// checkRules returns what promtool check rules with all lints finds: what Prometheus would not load, an unknown key among
// it, and rules that are there twice.
func checkRules(content string, log *slog.Logger) []error {
	groups, errs := rulefmt.Parse([]byte(content), false, model.UTF8Validation, parser.NewParser(parser.Options{}), log)
	if groups == nil {
		return errs
	}
	seen := map[string]bool{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			key := fmt.Sprint(r.Alert, r.Record, r.Labels)
			if seen[key] {
				errs = append(errs, fmt.Errorf("two rules for %s%s with labels %v", r.Alert, r.Record, r.Labels))
			}
			seen[key] = true
		}
	}
	return errs
}

// TestRulesParse checks the rules, then spoils them.
func TestRulesParse(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	content := string(read(t, "dashboards/prometheus/rules.yml"))
	for _, err := range checkRules(content, log) {
		t.Error(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown key", "for: 2m", "fro: 2m", "fro"},
		{"expression", "increase(", "increased(", "increased"},
		{"template", "{{ $value | humanize }}", "{{ $value | humanise }}", "humanise"},
		{"twice", "ratio_rate3d\n", "ratio_rate1d\n", "two rules for job:rpc_server_faults:ratio_rate1d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := strings.Replace(content, tt.old, tt.new, 1)
			if spoilt == content {
				t.Fatalf("%q is not in the rules", tt.old)
			}
			if errs := checkRules(spoilt, log); !strings.Contains(fmt.Sprint(errs), tt.want) {
				t.Errorf("got errors %v, want one with %q", errs, tt.want)
			}
		})
	}
}

// An alert is what the rules have of one, as far as people are concerned.
type alert struct {
	Alert       string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	decode(t, &file, "dashboards/prometheus/rules.yml")
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	all = slices.DeleteFunc(all, func(a alert) bool { return a.Alert == "" })
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// TestRunbooks looks for what each alert links to: its section in dashboards/README.md, and a dashboard.
func TestRunbooks(t *testing.T) {
	_, books, _ := strings.Cut(string(read(t, "dashboards/README.md")), "\n# Runbooks\n")
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(books, -1) {
		sections[m[1]] = true
	}
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		uids[d.UID] = true
	}
	dashboard := regexp.MustCompile(`^http://localhost:3000/d/([\w-]+)\?var-service=\{\{ \$labels\.job \| urlquery \}\}$`)
	named := map[string]bool{}
	for _, a := range alerts(t) {
		named[a.Alert] = true
		if want := "https://github.com/rpcscope/rpcscope/blob/main/dashboards/README.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("alert %s: got runbook %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if m := dashboard.FindStringSubmatch(a.Annotations["dashboard"]); m == nil || !uids[m[1]] {
			t.Errorf("alert %s: got dashboard %q, want one of %q for the service of the alert", a.Alert, a.Annotations["dashboard"], slices.Sorted(maps.Keys(uids)))
		}
	}
	if diff := gocmp.Diff(named, sections); diff != "" {
		t.Errorf("sections of dashboards/README.md (-alerts +sections):\n%s", diff)
	}
}

// ruler evaluates the rules, as Prometheus does at the interval of each group.
type ruler struct{ groups []*rules.Group }

// newRuler reads the rules and evaluates groups in this order; those that it does not name come last.
func newRuler(t *testing.T, s interface {
	storage.Appendable
	storage.Queryable
}, query rules.QueryFunc, order ...string,
) *ruler {
	t.Helper()
	manager := rules.NewManager(&rules.ManagerOptions{
		Context: t.Context(), Appendable: s, Queryable: s, QueryFunc: query,
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Parser:     parser.NewParser(parser.Options{}),
	})
	loaded, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	for _, err := range errs {
		t.Fatal(err)
	}
	rank := func(g *rules.Group) int {
		if i := slices.Index(order, g.Name()); i >= 0 {
			return i
		}
		return len(order)
	}
	r := &ruler{slices.SortedFunc(maps.Values(loaded), func(a, b *rules.Group) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
	})}
	for _, g := range r.groups {
		for _, a := range g.AlertingRules() {
			a.SetRestored(true) // or it would write no ALERTS
		}
	}
	return r
}

// eval evaluates all rules at a time and returns their errors.
func (r *ruler) eval(ctx context.Context, at time.Time) []error {
	var errs []error
	for _, g := range r.groups {
		g.Eval(ctx, at)
		for _, rule := range g.Rules() {
			if err := rule.LastError(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", rule.Name(), err))
			}
		}
	}
	return errs
}

// active returns the alerts that are pending or firing.
func (r *ruler) active() []*rules.Alert {
	var all []*rules.Alert
	for _, g := range r.groups {
		for _, a := range g.AlertingRules() {
			all = append(all, a.ActiveAlerts()...)
		}
	}
	return all
}

// ruleTests is the file of promtool test rules.
type ruleTests struct {
	RuleFiles      []string       `yaml:"rule_files"`
	Interval       model.Duration `yaml:"evaluation_interval"`
	FuzzyCompare   bool           `yaml:"fuzzy_compare"`
	GroupEvalOrder []string       `yaml:"group_eval_order"`
	Tests          []ruleTest     `yaml:"tests"`
}

type ruleTest struct {
	Name        string                            `yaml:"name"`
	Interval    model.Duration                    `yaml:"interval"`
	InputSeries []struct{ Series, Values string } `yaml:"input_series"`
	Alerts      []struct {
		At   model.Duration `yaml:"eval_time"`
		Name string         `yaml:"alertname"`
		Want []struct {
			Labels      map[string]string `yaml:"exp_labels"`
			Annotations map[string]string `yaml:"exp_annotations"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	Exprs []struct {
		Expr string         `yaml:"expr"`
		At   model.Duration `yaml:"eval_time"`
		Want []struct {
			Labels string  `yaml:"labels"`
			Value  float64 `yaml:"value"`
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// firing is an alert that somebody is told of.
type firing struct {
	At                  time.Duration
	Labels, Annotations map[string]string
}

// TestRules runs the tests of dashboards/prometheus/rules_test.yml as promtool test rules does, and is stricter: at the
// times that a test looks at its alerts, no others fire.
func TestRules(t *testing.T) {
	t.Parallel()
	var file ruleTests
	dec := yaml.NewDecoder(strings.NewReader(string(read(t, "dashboards/prometheus/rules_test.yml"))))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{filepath.Base(rulesFile)}, file.RuleFiles); diff != "" || len(file.Tests) == 0 {
		t.Fatalf("got tests %v, rule files (-want +got):\n%s", file.Tests, diff)
	}
	tested := map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			tested[a.Name] = tested[a.Name] || len(a.Want) > 0
		}
		t.Run(test.Name, func(t *testing.T) { test.run(t, &file) })
	}
	for _, a := range alerts(t) {
		if !tested[a.Alert] {
			t.Errorf("no test has alert %s fire", a.Alert)
		}
	}
}

func (test *ruleTest) run(t *testing.T, file *ruleTests) {
	ctx := t.Context()
	var load strings.Builder
	fmt.Fprintf(&load, "load %v\n", test.Interval)
	for _, s := range test.InputSeries {
		fmt.Fprintf(&load, "  %s %s\n", s.Series, s.Values)
	}
	storage := promqltest.LoadedStorage(t, load.String())
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, lookback, 1e6), storage)
	r := newRuler(t, storage, query, file.GroupEvalOrder...)

	var want, got []firing
	times := map[time.Duration]bool{}
	var last time.Duration
	for _, a := range test.Alerts {
		at := time.Duration(a.At)
		times[at], last = true, max(last, at)
		for _, w := range a.Want {
			w.Labels[labels.AlertName] = a.Name
			want = append(want, firing{at, w.Labels, w.Annotations})
		}
	}
	begin := time.Unix(0, 0)
	for at := time.Duration(0); at <= last; at += time.Duration(file.Interval) {
		for _, err := range r.eval(ctx, begin.Add(at)) {
			t.Fatalf("after %v: %v", at, err)
		}
		if !times[at] {
			continue
		}
		for _, a := range r.active() {
			if a.State == rules.StateFiring {
				got = append(got, firing{at, a.Labels.Map(), a.Annotations.Map()})
			}
		}
	}
	anyOrder := cmpopts.SortSlices(func(a, b firing) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
	if diff := gocmp.Diff(want, got, anyOrder, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}

	for _, e := range test.Exprs {
		v, err := query(ctx, e.Expr, begin.Add(time.Duration(e.At)))
		if err != nil {
			t.Fatalf("%s: %v", e.Expr, err)
		}
		want, got := map[string]float64{}, map[string]float64{}
		for _, w := range e.Want {
			metric, err := parser.NewParser(parser.Options{}).ParseMetric(w.Labels)
			if err != nil {
				t.Fatalf("%s: %v", w.Labels, err)
			}
			want[metric.String()] = w.Value
		}
		for _, s := range v {
			got[s.Metric.String()] = s.F
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateApprox(1e-12, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.Expr, diff)
		}
	}
}
