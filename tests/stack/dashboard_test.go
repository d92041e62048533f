package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// A dashboard is as much of Grafana's JSON as the checks read.
type dashboard struct {
	UID, Title, Description string
	Tags                    []string
	Links                   []dashboardLink
	Panels                  []panel
	Templating              struct{ List []variable }
}

type dashboardLink struct {
	Type, Title, URL      string
	Tags                  []string
	IncludeVars, KeepTime bool
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
		Defaults struct {
			Unit, NoValue string
			Links         []link
		}
		Overrides []override
	}
	Options         struct{ YAxis struct{ Unit string } }
	Transformations []struct {
		ID      string
		Options struct{ RenameByName map[string]string }
	}
}

type override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct {
		ID    string
		Value json.RawMessage
	}
}

type link struct{ Title, URL string }

type target struct {
	RefID, Expr, Format, LegendFormat, QueryType string
	Datasource                                   struct{ Type, UID string }
	Exemplar                                     bool
}

// The data sources are what a user chooses.
const (
	prometheusSource = "${prometheus_datasource}"
	jaegerSource     = "${jaeger_datasource}"
)

// selected stands for what a user chose: Grafana makes a regular expression of
// "All", and the time range in hand is the one that feed fills.
var selected = map[string]string{
	"service": ".*", "instance": ".*", "method": ".*", "__rate_interval": "1m", "__range": "2m",
}

var dollar = regexp.MustCompile(`\$(\w+)|\$\{([\w.]+)(?::\w+)?\}`)

// A check collects what is wrong with dashboards.
type check struct {
	ctx     context.Context
	backend *backend
	now     time.Time

	dashboard *dashboard                 // in hand
	uids      map[string]bool            // of all
	tagged    map[string]int             // how many have a tag
	declared  map[string]map[string]bool // variables of the dashboard in hand, with the values of those that have a few
	named     map[string]bool            // metrics that panels ask for
	colours   map[string]string          // of codes
	problems  []error
}

func (c *check) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(c.dashboard.UID+": "+format, args...))
}

// checkDashboards returns what is wrong with dashboards: every expression is evaluated by Prometheus' engine on what b was
// fed until now, and must return numbers, exemplars too where the panel shows them; what a link, a legend or a table names
// must be there; and every metric of ours must be on one.
func checkDashboards(ctx context.Context, all []dashboard, b *backend, now time.Time) error {
	c := &check{ctx: ctx, backend: b, now: now, uids: map[string]bool{}, tagged: map[string]int{}, named: map[string]bool{}, colours: map[string]string{}}
	for _, d := range all {
		c.dashboard = &d
		if c.uids[d.UID] || d.UID == "" {
			c.problem("got uid %q, want one that no other dashboard has", d.UID)
		}
		c.uids[d.UID] = true
		for _, tag := range d.Tags {
			c.tagged[tag]++
		}
	}
	for _, d := range all {
		c.dashboard = &d
		c.check()
	}
	ours, err := b.ours(ctx, now)
	if err != nil {
		return err
	}
	for name := range ours {
		if !c.named[name] {
			c.problems = append(c.problems, fmt.Errorf("%s is on no panel", name))
		}
	}
	return errors.Join(c.problems...)
}

func (c *check) check() {
	d := c.dashboard
	if d.Title == "" || d.Description == "" {
		c.problem("want a title and a description")
	}
	c.declared = map[string]map[string]bool{}
	for _, v := range d.Templating.List {
		c.declared[v.Name] = nil
		var list string
		if v.Type == "custom" && json.Unmarshal(v.Query, &list) == nil {
			c.declared[v.Name] = map[string]bool{}
			for _, value := range strings.Split(list, ",") {
				c.declared[v.Name][value] = true
			}
		}
	}
	for _, v := range d.Templating.List {
		c.variable(v)
	}
	c.boardLinks(d.Links)
	c.layout(d.Panels)
	for _, p := range d.Panels {
		c.panel(p)
	}
}

// expand puts values in for the variables of an expression, all of those that are a choice of a few: what it returns is to
// be right whatever a user chooses.
func (c *check) expand(expr string) ([]string, error) {
	for name, values := range c.declared {
		if strings.Contains(expr, "${"+name+"}") && values != nil {
			var all []string
			for _, value := range slices.Sorted(maps.Keys(values)) {
				expanded, err := c.expand(strings.ReplaceAll(expr, "${"+name+"}", value))
				if err != nil {
					return nil, err
				}
				all = append(all, expanded...)
			}
			return all, nil
		}
	}
	var unknown error
	expanded := dollar.ReplaceAllStringFunc(expr, func(ref string) string {
		name := strings.Trim(ref, "${}")
		value, ok := selected[name]
		if _, declared := c.declared[name]; !ok || (!declared && !strings.HasPrefix(name, "__")) {
			unknown = fmt.Errorf("%s is no variable of the dashboard", ref)
		}
		return value
	})
	return []string{expanded}, unknown
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
	expanded, err := c.expand(m[1])
	if err != nil {
		c.problem("variable %s: %w", v.Name, err)
		return
	}
	for _, selector := range expanded {
		values, err := c.backend.labelValues(c.ctx, selector, m[2], c.now)
		if err != nil || len(values) == 0 {
			c.problem("variable %s: %s has no values (%v)", v.Name, q.Query, err)
		}
	}
}

// boardLinks looks for the way to the other dashboards, which keeps variables and time.
func (c *check) boardLinks(links []dashboardLink) {
	others := false
	for _, l := range links {
		if l.Type != "dashboards" {
			c.link(l.Title, l.URL, nil)
			continue
		}
		others = true
		if !l.IncludeVars || !l.KeepTime {
			c.problem("link %q: want it to keep variables and time", l.Title)
		}
		for _, tag := range l.Tags {
			if c.tagged[tag] != len(c.uids) {
				c.problem("link %q: %d of %d dashboards have tag %q", l.Title, c.tagged[tag], len(c.uids), tag)
			}
		}
	}
	if !others {
		c.problem("has no link to the other dashboards")
	}
}

var (
	toDashboard = regexp.MustCompile(`^/d/([\w-]+)\?\$\{__all_variables\}&\$\{__url_time_range\}$`)
	toJaeger    = regexp.MustCompile(`^\$\{jaeger_url\}/(monitor|search(\?service=\S+&lookback=custom&start=\$\{__from\}000&end=\$\{__to\}000\S*)?)$`)
)

// link looks at the address of a link. has says whether what is clicked on has something, such as a label of a series; nil:
// it has nothing.
func (c *check) link(where, url string, has func(string) bool) {
	if m := toDashboard.FindStringSubmatch(url); m != nil {
		if !c.uids[m[1]] {
			c.problem("%s: links to dashboard %s, which there is not", where, m[1])
		}
		return
	}
	if !toJaeger.MatchString(url) {
		c.problem("%s: got link %q, want one to a dashboard, with variables and time, or a search of Jaeger", where, url)
	}
	for _, m := range dollar.FindAllStringSubmatch(url, -1) {
		name := m[1] + m[2]
		if _, declared := c.declared[name]; declared || name == "__from" || name == "__to" {
			continue
		}
		if has == nil || !has(name) {
			c.problem("%s: link %q names %s, which there is not", where, url, m[0])
		}
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
	if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.NoValue == "" || p.FieldConfig.Defaults.Unit == "" {
		c.problem("panel %q: want a title, a description, a unit and a text for no value", p.Title)
	}
	if p.Type == "heatmap" && p.Options.YAxis.Unit != p.FieldConfig.Defaults.Unit {
		c.problem("panel %q: got unit %q of its axis, want %q", p.Title, p.Options.YAxis.Unit, p.FieldConfig.Defaults.Unit)
	}
	if len(p.Targets) == 0 {
		c.problem("panel %q: asks for nothing", p.Title)
	}
	c.codes(p)
	var found promql.Vector
	for _, t := range p.Targets {
		if t.Datasource != p.Datasource {
			c.problem("panel %q [%s]: got data source %q, want that of the panel, %q", p.Title, t.RefID, t.Datasource.UID, p.Datasource.UID)
		}
		switch p.Datasource.UID {
		case prometheusSource:
			got, err := c.target(t)
			if err != nil {
				c.problem("panel %q [%s]: %w", p.Title, t.RefID, err)
			}
			found = append(found, got...)
		case jaegerSource: // asked for in the end-to-end tests, which have one
			if t.QueryType != "dependencyGraph" {
				c.problem("panel %q [%s]: got query %q, want dependencyGraph", p.Title, t.RefID, t.QueryType)
			}
		default:
			c.problem("panel %q [%s]: got data source %q, want %q or %q", p.Title, t.RefID, t.Datasource.UID, prometheusSource, jaegerSource)
		}
	}
	c.exemplars(p)
	if len(found) > 0 {
		c.labels(p, found)
	}
}

// exemplars are to be on whatever shows how calls are spread.
func (c *check) exemplars(p panel) {
	spread := p.Type == "heatmap"
	var have bool
	for _, t := range p.Targets {
		difference := strings.Contains(t.Expr, ") - ")
		spread = spread || (p.Type == "timeseries" && strings.HasPrefix(t.Expr, "histogram_quantile(") && !difference && !strings.Contains(t.Expr, "_per_call_"))
		have = have || t.Exemplar
	}
	if spread != have {
		c.problem("panel %q: got exemplars %v, want %v: a panel of quantiles has them, no other does", p.Title, have, spread)
	}
}

// codeNames are the values of rpc.response.status_code.
var codeNames = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED", "_OTHER",
}

// codes looks for a colour for every code on every panel that has lines by code: the same everywhere, and no two the same.
func (c *check) codes(p panel) {
	legends := 0
	for _, t := range p.Targets {
		if strings.Contains(t.LegendFormat, "{{rpc_response_status_code}}") {
			legends++
			if !strings.HasPrefix(t.LegendFormat, "{{rpc_response_status_code}}") {
				c.problem("panel %q [%s]: got legend %q, want the code first: its colour depends on it", p.Title, t.RefID, t.LegendFormat)
			}
		}
	}
	if legends == 0 {
		return
	}
	for _, code := range codeNames {
		var colours []string
		for _, o := range p.FieldConfig.Overrides {
			name, err := regexp.Compile(strings.Trim(o.Matcher.Options, "/"))
			if o.Matcher.ID != "byRegexp" || err != nil || !name.MatchString(code+" users.v1.UserService/GetUser") {
				continue
			}
			for _, property := range o.Properties {
				var colour struct{ Mode, FixedColor string }
				if property.ID == "color" && json.Unmarshal(property.Value, &colour) == nil && colour.Mode == "fixed" {
					colours = append(colours, colour.FixedColor)
				}
			}
		}
		if len(colours) != 1 {
			c.problem("panel %q: got colours %q for %s, want one", p.Title, colours, code)
			continue
		}
		for other, colour := range c.colours {
			if (other == code) != (colour == colours[0]) {
				c.problem("panel %q: %s is %s, where %s is %s", p.Title, code, colours[0], other, colour)
			}
		}
		c.colours[code] = colours[0]
	}
}

// labels looks for what links, legends and columns name among the labels of what the panel's queries returned.
func (c *check) labels(p panel, found promql.Vector) {
	where := fmt.Sprintf("panel %q", p.Title)
	known := map[string]bool{}
	for _, s := range found {
		s.Metric.Range(func(l labels.Label) { known[l.Name] = true })
	}
	for _, t := range p.Targets {
		for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(t.LegendFormat, -1) {
			if !known[m[1]] && t.Format != "heatmap" {
				c.problem("%s [%s]: legend %q names %s, which there is not", where, t.RefID, t.LegendFormat, m[1])
			}
		}
	}
	for _, l := range p.FieldConfig.Defaults.Links {
		c.link(where, l.URL, func(name string) bool {
			label, ok := strings.CutPrefix(name, "__field.labels.")
			return ok && known[label]
		})
	}
	columns := map[string]bool{}
	for _, transformation := range p.Transformations {
		for field, column := range transformation.Options.RenameByName {
			columns[column] = true
			ref, isValue := strings.CutPrefix(field, "Value #")
			isValue = isValue && slices.ContainsFunc(p.Targets, func(t target) bool { return t.RefID == ref })
			if !known[field] && !isValue && (field != "Value" || len(p.Targets) > 1) {
				c.problem("%s: column %q is %s, which there is not", where, column, field)
			}
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID == "byName" && !columns[o.Matcher.Options] {
			c.problem("%s: is told of column %q, which there is not", where, o.Matcher.Options)
		}
		for _, property := range o.Properties {
			var links []link
			if property.ID != "links" {
				continue
			}
			if err := json.Unmarshal(property.Value, &links); err != nil {
				c.problem("%s: %w", where, err)
			}
			for _, l := range links {
				c.link(where, l.URL, func(name string) bool {
					column, ok := strings.CutPrefix(name, "__data.fields.")
					return name == "__value.raw" || (ok && columns[column])
				})
			}
		}
	}
}

// target evaluates a query and returns what it finds.
func (c *check) target(t target) (promql.Vector, error) {
	expanded, err := c.expand(t.Expr)
	if err != nil {
		return nil, err
	}
	var all promql.Vector
	for _, expr := range expanded {
		if err := c.selectors(expr); err != nil {
			return nil, err
		}
		got, err := c.backend.query(c.ctx, expr, c.now)
		if err != nil || len(got) == 0 {
			return nil, fmt.Errorf("%s returns no number (%v)", expr, err)
		}
		all = append(all, got...)
		if !t.Exemplar {
			continue
		}
		n, err := c.backend.exemplars(c.ctx, expr, c.now.Add(-time.Hour), c.now)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s has no exemplars (%v)", expr, err)
		}
	}
	return all, nil
}

// selectors evaluates each selector of an expression on its own: "a or vector(0)" returns a number whatever a is.
func (c *check) selectors(expr string) error {
	missing, err := c.backend.missing(c.ctx, expr, c.now, func(metric string) { c.named[family(metric)] = true })
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s selects no series", strings.Join(missing, " and "))
	}
	return err
}

// missing returns the selectors of an expression that select nothing, and tells of the metrics that it names.
func (b *backend) missing(ctx context.Context, expr string, now time.Time, named func(string)) ([]string, error) {
	parsed, err := b.parser.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, matchers := range parser.ExtractSelectors(parsed) {
		selector := (&parser.VectorSelector{LabelMatchers: matchers}).String()
		series, err := b.query(ctx, selector, now)
		if err != nil {
			return nil, err
		}
		if len(series) == 0 {
			missing = append(missing, selector)
		}
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
				named(m.Value)
			}
		}
	}
	return missing, nil
}

func parse(t *testing.T, name string, content []byte) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if d.UID+".json" != name {
		t.Errorf("%s: got uid %q, want the name of the file", name, d.UID)
	}
	return d
}

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "dashboards/grafana/*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("got dashboards %v, error %v, want some", files, err)
	}
	var all []dashboard
	for _, file := range files {
		name := filepath.Base(file)
		all = append(all, parse(t, name, read(t, "dashboards/grafana", name)))
	}
	return all
}

// TestDashboards evaluates every panel and variable of every dashboard, then
// spoils one in ways that a renamed metric or a slip of the editor would.
func TestDashboards(t *testing.T) {
	b := newBackend(t)
	now := feed(t, b)
	all := dashboards(t)
	for _, err := range each(checkDashboards(t.Context(), all, b, now)) {
		t.Error(err)
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

	t.Run("numbers", func(t *testing.T) { checkNumbers(t, all, b, now) })

	for _, tt := range []struct{ name, board, old, new, want string }{
		{"metric renamed", "grpc-server", "rpc_server_call_duration_seconds_count", "rpc_server_duration_seconds_count", "selects no series"},
		{"metric missing", "grpc-client", "rpcscope_client_breaker_state", "rpcscope_server_active_calls", "rpcscope_client_breaker_state is on no panel"},
		{"reason of a refusal renamed", "grpc-server", "rpcscope_server_rejected_total", "rpcscope_server_refused_total", "rpcscope_server_rejected_total is on no panel"},
		{"masked by or", "grpc-slo", `error_type!=\"\"`, `error_type=\"none\"`, "selects no series"},
		{"choice of a metric", "grpc-streams", "_request_size_bytes_count", "_requests_size_bytes_count", "selects no series"},
		{"choice renamed", "grpc-streams", `"query": "server,client"`, `"query": "server,caller"`, "rpcscope_caller_"},
		{"recorded series renamed", "grpc-slo", "job:rpc_server_faults:ratio_rate3d", "job:rpc_server_faults:ratio_rate4d", "selects no series"},
		{"label renamed", "grpc-server", `rpc_response_status_code!=\"OK\"`, `code=~\".+\"`, "selects no series"},
		{"label of a legend", "grpc-runtime", "{{service_version}}", "{{version}}", "names version, which there is not"},
		{"label of a link", "grpc-client", "__field.labels.rpc_method", "__field.labels.method", "names ${__field.labels.method}, which there is not"},
		{"column of a link", "grpc-slo", "__data.fields.Service", "__data.fields.Job", "names ${__data.fields.Job}, which there is not"},
		{"column renamed", "grpc-server", `"service_name": "Service"`, `"service": "Service"`, `column "Service" is service, which there is not`},
		{"never a number", "grpc-server", `\"}[$__rate_interval])))`, `\"}[$__rate_interval]))) / 0 * 0`, "returns no number"},
		{"variable undeclared", "grpc-server", `"name": "method"`, `"name": "methods"`, "$method is no variable of the dashboard"},
		{"variable without values", "grpc-server", `, rpc_method)"`, `, rpc_methods)"`, "has no values"},
		{"syntax", "grpc-server", "histogram_quantile(0.99, ", "histogram_quantile(0.99 ", "parse error"},
		{"exemplars without a trace", "grpc-runtime", `"expr": "time()`, `"exemplar": true, "expr": "time()`, "has no exemplars"},
		{"no exemplars", "grpc-client", `"exemplar": true`, `"exemplar": false`, "got exemplars false, want true"},
		{"data source fixed", "grpc-server", `"uid": "${prometheus_datasource}"`, `"uid": "prometheus"`, "got data source"},
		{"question to Jaeger", "grpc-client", `"queryType": "dependencyGraph"`, `"queryType": "graph"`, "want dependencyGraph"},
		{"no description", "grpc-runtime", `"description": "Bytes allocated per second."`, `"description": ""`, "want a title, a description"},
		{"no unit", "grpc-runtime", `"unit": "Bps"`, `"unit": ""`, "want a title, a description, a unit"},
		{"no text", "grpc-runtime", `"noValue": "No calls in this time range"`, `"noValue": ""`, "a text for no value"},
		{"colour of a code", "grpc-slo", `"fixedColor": "orange"`, `"fixedColor": "dark-red"`, "DEADLINE_EXCEEDED is dark-red, where"},
		{"code without a colour", "grpc-slo", "/^DATA_LOSS( |$)/", "/^LOSS( |$)/", "for DATA_LOSS, want one"},
		{"places overlap", "grpc-server", `"y": 1`, `"y": 2`, "one covers the other"},
		{"dashboard away", "grpc-server", "/d/grpc-slo?", "/d/slo?", "links to dashboard slo, which there is not"},
		{"variables forgotten", "grpc-client", "?${__all_variables}&", "?", "want one to a dashboard, with variables and time"},
		{"tag forgotten", "grpc-streams", `"rpcscope"`, `"streams"`, `dashboards have tag "rpcscope"`},
		{"time forgotten", "grpc-streams", `"keepTime": true`, `"keepTime": false`, "want it to keep variables and time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := string(read(t, "dashboards/grafana", tt.board+".json"))
			spoilt := strings.ReplaceAll(raw, tt.old, tt.new)
			if spoilt == raw {
				t.Fatalf("%q is not in the dashboard", tt.old)
			}
			with := slices.Clone(all)
			for i, d := range all {
				if d.UID == tt.board {
					with[i] = parse(t, tt.board+".json", []byte(spoilt))
				}
			}
			err := checkDashboards(t.Context(), with, b, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// checkNumbers compares the figures of the dashboards with what feed did: points have exact
// times, so rates are exact.
func checkNumbers(t *testing.T, all []dashboard, b *backend, now time.Time) {
	perSecond := 1 / interval.Seconds()
	want := map[string]map[string]float64{
		"grpc-server": {
			"Calls":         5 * perSecond, // of the seven, two never left the client
			"Server faults": 2. / 5,        // UNAVAILABLE and INTERNAL, neither NOT_FOUND nor RESOURCE_EXHAUSTED
			"In flight":     1,
			"Refused":       1. / 5,
			"Panics":        exports,
		},
		"grpc-client": {
			"Calls":               7 * perSecond,
			"Failed":              6. / 7,
			"In flight":           1,
			"Attempts per call":   5. / 6, // the one that panics never gets that far
			"Breakers not closed": 1,
		},
		"grpc-slo": {
			"Objective": 0.999,
			// Since its first export: 16 of 40 calls, and 1 that was UNIMPLEMENTED.
			"Worst burn rate, 5 minutes": 17. / 41 * 1000,
			"Worst burn rate, 1 hour":    17. / 41 * 1000,
			"Spent in":                   0,
			"Alerts firing":              2, // the panics and, after two minutes, the burnt budget
		},
		"grpc-streams": {
			"Requests": 5 * perSecond, "Responses": perSecond, "Open": 1,
		},
	}
	for _, d := range all {
		c := &check{ctx: t.Context(), backend: b, now: now, dashboard: &d, named: map[string]bool{}, declared: map[string]map[string]bool{"side": {"server": true}}}
		for name := range selected {
			c.declared[name] = nil
		}
		got := map[string]float64{}
		for _, p := range d.Panels {
			if _, asked := want[d.UID][p.Title]; p.Type != "stat" || !asked {
				continue
			}
			v, err := c.target(p.Targets[0])
			if err != nil || len(v) != 1 {
				t.Fatalf("%s: got %v, error %v, want one number", p.Title, v, err)
			}
			got[p.Title] = v[0].F
		}
		if diff := cmp.Diff(want[d.UID], got, cmpopts.EquateApprox(1e-9, 0), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("figures of %s (-want +got):\n%s", d.UID, diff)
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
