//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// panel is a panel of one of the dashboards, as far as it is drawn here.
type panel struct {
	Type, Title, Description string
	Targets                  []struct{ Expr, LegendFormat string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Panels                   []panel // of a row
}

// panels are all panels of the dashboards, by the titles of dashboard and panel: "gRPC server: Latency".
type panels map[string]panel

// readPanels reads the dashboards in the repository at root.
func readPanels(root string) (panels, error) {
	files, err := filepath.Glob(filepath.Join(root, "dashboards/grafana/*.json"))
	if err != nil {
		return nil, err
	}
	all := panels{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var dashboard struct {
			Title  string
			Panels []panel
		}
		if err := json.Unmarshal(content, &dashboard); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all.add(dashboard.Title, dashboard.Panels)
	}
	return all, nil
}

func (all panels) add(dashboard string, list []panel) {
	for _, p := range list {
		all[dashboard+": "+p.Title] = p
		all.add(dashboard, p.Panels)
	}
}

// find returns the panel with this name.
func (all panels) find(name string) (panel, error) {
	p, ok := all[name]
	if !ok || len(p.Targets) == 0 {
		return panel{}, fmt.Errorf("no dashboard has the panel %q with an expression; want one of %d", name, len(all))
	}
	return p, nil
}

var (
	variable = regexp.MustCompile(`\$\{?(\w+)\}?`)
	label    = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
)

// expand puts values in for the variables of an expression: what Grafana does where one service is chosen, with the methods that
// the scenarios are about, and all of its instances.
func expand(expr, service string) string {
	return variable.ReplaceAllStringFunc(expr, func(ref string) string {
		switch name := strings.Trim(ref, "${}"); name {
		case "service", "job":
			return namespace + "/" + service
		case "method":
			return methods
		case "__rate_interval":
			return rateInterval
		default:
			return ".*"
		}
	})
}
