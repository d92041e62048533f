package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// A dashboard is as much of Grafana's JSON as the checks read.
type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

type variable struct {
	Name, Type, Label, Description string
	Query                          json.RawMessage // a string, or an object with one
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []target
	Panels                   []panel // of a collapsed row
	FieldConfig              struct {
		Defaults  struct{ Unit, NoValue string }
		Overrides []struct{ Properties []struct{ ID string } }
	}
	Options struct{ YAxis struct{ Unit string } }
}

type target struct {
	RefID, Expr string
	Datasource  struct{ Type, UID string }
	Exemplar    bool
}

const datasource = "${prometheus_datasource}"

// selected stands for what a user chose: Grafana makes a regular expression of
// "All", and the time range in hand is the one that feed fills.
var selected = map[string]string{
	"job": ".*", "instance": ".*", "method": ".*", "__rate_interval": "1m", "__range": "2m",
}

var dollar = regexp.MustCompile(`\$(\w+)|\$\{(\w+)(?::\w+)?\}`)

// expand puts values in for the variables of an expression; declared are those of the dashboard.
func expand(expr string, declared map[string]bool) (string, error) {
	var unknown error
	expanded := dollar.ReplaceAllStringFunc(expr, func(ref string) string {
		name := strings.Trim(ref, "${}")
		value, ok := selected[name]
		if !ok || (!declared[name] && !strings.HasPrefix(name, "__")) {
			unknown = fmt.Errorf("%s is no variable of the dashboard", ref)
		}
		return value
	})
	return expanded, unknown
}

// A check collects what is wrong with a dashboard.
type check struct {
	ctx      context.Context
	backend  *backend
	now      time.Time
	declared map[string]bool
	named    map[string]bool // metrics that panels ask for
	problems []error
}

func (c *check) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// checkDashboard returns what is wrong with a dashboard: every expression is
// evaluated by Prometheus' engine on what b was fed until now, and must return
// numbers, exemplars too where the panel shows them.
func checkDashboard(ctx context.Context, raw []byte, b *backend, now time.Time) error {
	var d dashboard
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	c := &check{ctx: ctx, backend: b, now: now, declared: map[string]bool{}, named: map[string]bool{}}
	for _, v := range d.Templating.List {
		c.declared[v.Name] = true
	}
	for _, v := range d.Templating.List {
		c.variable(v)
	}
	c.layout(d.Panels)
	for _, p := range d.Panels {
		c.panel(p)
	}
	ours, err := b.ours(ctx, now)
	if err != nil {
		return err
	}
	for name := range ours {
		if !c.named[name] {
			c.problem("%s is on no panel", name)
		}
	}
	return errors.Join(c.problems...)
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

func (c *check) variable(v variable) {
	if v.Label == "" || v.Description == "" {
		c.problem("variable %s: want a label and a description", v.Name)
	}
	if v.Type != "query" {
		return
	}
	var q struct{ Query string }
	if err := json.Unmarshal(v.Query, &q); err != nil {
		c.problem("variable %s: %w", v.Name, err)
		return
	}
	m := labelValues.FindStringSubmatch(q.Query)
	if m == nil {
		c.problem("variable %s: got query %q, want label_values(selector, label)", v.Name, q.Query)
		return
	}
	selector, err := expand(m[1], c.declared)
	if err != nil {
		c.problem("variable %s: %w", v.Name, err)
		return
	}
	values, err := c.backend.labelValues(c.ctx, selector, m[2], c.now)
	if err != nil || len(values) == 0 {
		c.problem("variable %s: %s has no values (%v)", v.Name, q.Query, err)
	}
}

// layout looks for panels that share an id or a place.
func (c *check) layout(panels []panel) {
	for i, p := range panels {
		for _, o := range panels[:i] {
			if p.ID == o.ID {
				c.problem("panels %q and %q: both have id %d", o.Title, p.Title, p.ID)
			}
			a, b := p.GridPos, o.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				c.problem("panels %q and %q: one covers the other", o.Title, p.Title)
			}
		}
		if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X+p.GridPos.W > 24 {
			c.problem("panel %q: got place %+v, want one within 24 columns", p.Title, p.GridPos)
		}
	}
}

func (c *check) panel(p panel) {
	if p.Type == "row" {
		c.layout(p.Panels)
		for _, inner := range p.Panels {
			c.panel(inner)
		}
		return
	}
	if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.NoValue == "" || !p.hasUnit() {
		c.problem("panel %q: want a title, a description, a unit and a text for no value", p.Title)
	}
	if len(p.Targets) == 0 {
		c.problem("panel %q: asks for nothing", p.Title)
	}
	for _, t := range p.Targets {
		if p.Datasource.UID != datasource || t.Datasource.UID != datasource {
			c.problem("panel %q [%s]: got data source %q, want %q", p.Title, t.RefID, t.Datasource.UID, datasource)
		}
		if err := c.target(t); err != nil {
			c.problem("panel %q [%s]: %w", p.Title, t.RefID, err)
		}
	}
}

func (p panel) hasUnit() bool {
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID == "unit" {
				return true
			}
		}
	}
	return p.FieldConfig.Defaults.Unit != "" || p.Options.YAxis.Unit != ""
}

func (c *check) target(t target) error {
	expr, err := expand(t.Expr, c.declared)
	if err != nil {
		return err
	}
	parsed, err := c.backend.parser.ParseExpr(expr)
	if err != nil {
		return err
	}
	// Each selector on its own: "a or vector(0)" returns a number whatever a is.
	for _, matchers := range parser.ExtractSelectors(parsed) {
		selector := (&parser.VectorSelector{LabelMatchers: matchers}).String()
		series, err := c.backend.query(c.ctx, selector, c.now)
		if err != nil || len(series) == 0 {
			return fmt.Errorf("%s selects no series (%v)", selector, err)
		}
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel {
				c.named[family(m.Value)] = true
			}
		}
	}
	got, err := c.backend.query(c.ctx, expr, c.now)
	if err != nil || len(got) == 0 {
		return fmt.Errorf("%s returns no number (%v)", expr, err)
	}
	if !t.Exemplar {
		return nil
	}
	n, err := c.backend.exemplars(c.ctx, expr, c.now.Add(-time.Hour), c.now)
	if err != nil || n == 0 {
		return fmt.Errorf("%s has no exemplars (%v)", expr, err)
	}
	return nil
}

func dashboards(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "dashboards/grafana/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got dashboards %v, error %v, want some", files, err)
	}
	return files
}

// TestDashboards evaluates every panel and variable of every dashboard, then
// spoils the first in ways that a renamed metric or a slip of the editor would.
func TestDashboards(t *testing.T) {
	b := newBackend(t)
	now := feed(t, b)
	for _, file := range dashboards(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw := read(t, "dashboards/grafana", filepath.Base(file))
			if err := checkDashboard(t.Context(), raw, b, now); err != nil {
				t.Error(err)
			}
		})
	}

	t.Run("every instrument", func(t *testing.T) {
		ours, err := b.ours(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range b.created.missing(ours) {
			t.Errorf("%s: the library has it, feed records nothing with it, and so no panel is known to show it", name)
		}
		delete(ours, "rpcscope_server_rejected_total")
		if got := b.created.missing(ours); !slices.Equal(got, []string{"rpcscope.server.rejected"}) {
			t.Errorf("without rpcscope_server_rejected_total: got %q missing, want rpcscope.server.rejected", got)
		}
	})

	t.Run("numbers", func(t *testing.T) { checkNumbers(t, b, now) })

	raw := string(read(t, "dashboards/grafana/grpc.json"))
	for _, tt := range []struct{ name, old, new, want string }{
		{"metric renamed", "rpc_server_call_duration_seconds_count", "rpc_server_duration_seconds_count", "selects no series"},
		{"metric missing", "rpcscope_server_active_calls", "rpcscope_client_active_calls", "rpcscope_server_active_calls is on no panel"},
		{"reason of a refusal renamed", "rpcscope_server_rejected_total", "rpcscope_server_refused_total", "rpcscope_server_rejected_total is on no panel"},
		{"masked by or", "rpcscope_client_panics_total", "rpcscope_client_panic_total", "selects no series"},
		{"label renamed", `rpc_response_status_code!=\"OK\"`, `code=~\".+\"`, "selects no series"},
		{"never a number", `\"}[$__rate_interval])))`, `\"}[$__rate_interval]))) / 0 * 0`, "returns no number"},
		{"variable undeclared", `"name": "method"`, `"name": "methods"`, "$method is no variable of the dashboard"},
		{"variable without values", `, rpc_method)"`, `, rpc_methods)"`, "has no values"},
		{"syntax", "histogram_quantile(0.99, ", "histogram_quantile(0.99 ", "parse error"},
		{"no exemplars", `"legendFormat": "{{service_name}} {{instance}}"`, `"exemplar": true, "legendFormat": ""`, "has no exemplars"},
		{"data source fixed", `"uid": "${prometheus_datasource}"`, `"uid": "prometheus"`, "got data source"},
		{"no description", `"description": "Bytes allocated per second."`, `"description": ""`, "want a title, a description"},
		{"no unit", `"unit": "Bps"`, `"unit": ""`, "want a title, a description, a unit"},
		{"places overlap", `"y": 1,`, `"y": 2,`, "one covers the other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := strings.ReplaceAll(raw, tt.old, tt.new)
			if spoilt == raw {
				t.Fatalf("%q is not in the dashboard", tt.old)
			}
			err := checkDashboard(t.Context(), []byte(spoilt), b, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// checkNumbers compares the overview with what feed did: points have exact
// times, so rates are exact.
func checkNumbers(t *testing.T, b *backend, now time.Time) {
	var d dashboard
	if err := json.Unmarshal(read(t, "dashboards/grafana/grpc.json"), &d); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, p := range d.Panels {
		if p.Type != "stat" {
			continue
		}
		expr, err := expand(p.Targets[0].Expr, map[string]bool{"job": true, "instance": true, "method": true})
		if err != nil {
			t.Fatal(err)
		}
		v, err := b.query(t.Context(), expr, now)
		if err != nil || len(v) != 1 {
			t.Fatalf("%s: got %v, error %v, want one number", p.Title, v, err)
		}
		got[p.Title] = v[0].F
	}
	if latency := got["p99 latency"]; latency <= 0 || latency > 10 {
		t.Errorf("p99 latency: got %v s, want one between 0 and 10", latency)
	}
	delete(got, "p99 latency")
	want := map[string]float64{
		"Calls":         5 / interval.Seconds(), // of the seven, two never left the client
		"Server faults": 2. / 5,                 // UNAVAILABLE and INTERNAL, neither NOT_FOUND nor RESOURCE_EXHAUSTED
		"Client faults": 6. / 7,
		"In flight":     1,
		"Panics":        2 * exports, // one on each side
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Errorf("overview (-want +got):\n%s", diff)
	}
}
