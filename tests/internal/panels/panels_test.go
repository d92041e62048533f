package panels

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dashboard = `{
	"templating": {"list": [
		{"name": "job", "type": "query", "query": {"query": "label_values(up{env=\"$env\"}, job)"}, "current": {"value": ["a"]}},
		{"name": "env", "type": "custom", "query": "prod,test", "current": {"value": "prod"}},
		{"name": "ds", "type": "datasource", "query": "prometheus"}
	]},
	"panels": [
		{"title": "Calls", "targets": [{"datasource": {"type": "jaeger"}, "queryType": "dependencyGraph"}, {"refId": "A", "datasource": {"type": "prometheus"}, "expr": "rate(calls{job=~\"$job\", env=\"${env:raw}\"}[$__rate_interval])", "exemplar": true}]},
		{"title": "More", "type": "row", "panels": [{"title": "Typo", "targets": [{"refId": "B", "datasource": {"type": "prometheus"}, "expr": "calls{job=~\"$jobs\"}"}]}]},
		{"title": "Text", "type": "text"}
	]
}`

const rules = `
groups:
  - name: one
    rules:
      - record: job:calls:rate5m
        expr: sum by (job) (rate(calls[5m]))
      - alert: Quiet
        expr: absent(calls)
`

func repository(t *testing.T, dashboard, rules string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{"grafana/a.json": dashboard, "prometheus/rules.yml": rules} {
		path := filepath.Join(root, "dashboards", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDashboards(t *testing.T) {
	got, err := Dashboards(repository(t, dashboard, rules))
	if err != nil {
		t.Fatal(err)
	}
	want := []Query{
		{Where: "a.json: variable job", Expr: `group by (job) (up{env="prod"})`},
		{Where: `a.json: panel "Calls" [A]`, Expr: `rate(calls{job=~".*", env="prod"}[1m])`, Exemplar: true},
		{Where: `a.json: panel "Typo" [B]`, Expr: `calls{job=~"$jobs"}`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}

func TestRules(t *testing.T) {
	recorded, alerts, err := Rules(repository(t, dashboard, rules))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]Query{
		{{Where: "rules.yml: job:calls:rate5m", Expr: "sum by (job) (rate(calls[5m]))"}},
		{{Where: "rules.yml: alert Quiet", Expr: "absent(calls)"}},
	}
	if diff := cmp.Diff(want, [][]Query{recorded, alerts}); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}

func TestUnreadable(t *testing.T) {
	for _, tt := range []struct{ name, dashboard, rules, want string }{
		{"not JSON", "{", rules, "a.json: unexpected end"},
		{"a query that is none", strings.Replace(dashboard, "label_values(", "labels(", 1), rules, `variable job: got query "labels(`},
		{"not YAML", dashboard, "groups: {", "rules.yml: yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := repository(t, tt.dashboard, tt.rules)
			_, err := Dashboards(root)
			if err == nil {
				_, _, err = Rules(root)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := Dashboards(t.TempDir()); err == nil || !strings.Contains(err.Error(), "there is no file like") {
		t.Errorf("got error %v, want one that says that there is no dashboard", err)
	}
}
