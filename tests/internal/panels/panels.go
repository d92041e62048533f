// Package panels reads what Grafana's dashboards and Prometheus' rules ask for.
package panels

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Query is an expression that a panel, a variable or a rule has.
type Query struct {
	Where    string // names it in an error
	Expr     string
	Exemplar bool // the panel shows exemplars too
}

// ranges stand for what Grafana makes of the time range.
var ranges = map[string]string{"__rate_interval": "1m", "__interval": "15s", "__range": "5m"}

type variable struct {
	Name, Type string
	Query      json.RawMessage // a string, or an object with one
	Current    struct{ Value any }
}

type panel struct {
	Title   string
	Targets []struct {
		RefID, Expr string
		Exemplar    bool
		Datasource  struct{ Type string }
	}
	Panels []panel // of a collapsed row
}

// Dashboards returns what all dashboards of the repository at root ask Prometheus for, with all chosen in every variable.
func Dashboards(root string) ([]Query, error) {
	return read(filepath.Join(root, "dashboards/grafana/*.json"), func(name string, content []byte) ([]Query, error) {
		var d struct {
			Panels     []panel
			Templating struct{ List []variable }
		}
		if err := json.Unmarshal(content, &d); err != nil {
			return nil, err
		}
		values := map[string]string{}
		for _, v := range d.Templating.List {
			values[v.Name] = ".*"
			if chosen, ok := v.Current.Value.(string); ok && v.Type != "query" && chosen != "$__all" {
				values[v.Name] = chosen
			}
		}
		var queries []Query
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			q, err := v.read(values)
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
			queries = append(queries, Query{Where: name + ": variable " + v.Name, Expr: q})
		}
		return append(queries, walk(name, d.Panels, values)...), nil
	})
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// read returns an expression with a sample for each value that the variable can have.
func (v variable) read(values map[string]string) (string, error) {
	var query string
	if err := json.Unmarshal(v.Query, &query); err != nil {
		var object struct{ Query string }
		if err := json.Unmarshal(v.Query, &object); err != nil {
			return "", err
		}
		query = object.Query
	}
	m := labelValues.FindStringSubmatch(query)
	if m == nil {
		return "", fmt.Errorf("got query %q, want label_values(selector, label)", query)
	}
	return fmt.Sprintf("group by (%s) (%s)", m[2], expand(m[1], values)), nil
}

func walk(name string, panels []panel, values map[string]string) []Query {
	var queries []Query
	for _, p := range panels {
		for _, t := range p.Targets {
			if t.Datasource.Type != "prometheus" {
				continue
			}
			where := fmt.Sprintf("%s: panel %q [%s]", name, p.Title, t.RefID)
			queries = append(queries, Query{Where: where, Expr: expand(t.Expr, values), Exemplar: t.Exemplar})
		}
		queries = append(queries, walk(name, p.Panels, values)...)
	}
	return queries
}

var dollar = regexp.MustCompile(`\$(\w+)|\$\{(\w+)(?::\w+)?\}`)

// expand puts values in for the variables of an expression. One that there is not stays, for Prometheus to refuse.
func expand(expr string, values map[string]string) string {
	return dollar.ReplaceAllStringFunc(expr, func(ref string) string {
		name, _, _ := strings.Cut(strings.Trim(ref, "${}"), ":")
		if value, ok := ranges[name]; ok {
			return value
		}
		if value, ok := values[name]; ok {
			return value
		}
		return ref
	})
}

// Rules returns the expressions of all rules of the repository at root: what is recorded, and what alerts ask for.
func Rules(root string) (recorded, alerts []Query, err error) {
	all, err := read(filepath.Join(root, "dashboards/prometheus/*rules*.yml"), func(name string, content []byte) ([]Query, error) {
		var file struct {
			Groups []struct {
				Rules []struct{ Record, Alert, Expr string }
			}
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			return nil, err
		}
		var queries []Query
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					alerts = append(alerts, Query{Where: name + ": alert " + r.Alert, Expr: r.Expr})
					continue
				}
				queries = append(queries, Query{Where: name + ": " + r.Record, Expr: r.Expr})
			}
		}
		return queries, nil
	})
	return all, alerts, err
}

// read reads all files like pattern, of which there must be one.
func read(pattern string, parse func(name string, content []byte) ([]Query, error)) ([]Query, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("there is no file like %s", pattern))
	}
	var all []Query
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		queries, err := parse(filepath.Base(file), content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, queries...)
	}
	return all, nil
}
