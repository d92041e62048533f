package main

// object is JSON that nothing here needs to look into.
type object = map[string]any

// A board is a dashboard.
type board struct {
	uid, title, description string
	variables               []object // its own, behind those of all
	rows                    []row
}

// A row is a title, and the panels below it from left to right.
type row struct {
	title  string
	panels []*panel
}

const (
	tag     = "rpcscope" // of all dashboards: their links to each other look for it
	columns = 24
)

// render returns what Grafana loads.
func (b board) render() any {
	var panels []any
	id, y := 0, 0
	for _, r := range b.rows {
		id++
		panels = append(panels, object{
			"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []any{},
			"gridPos": place{H: 1, W: columns, Y: y},
		})
		y++
		x, height := 0, 0
		for _, p := range r.panels {
			if x+p.GridPos.W > columns {
				x, y, height = 0, y+height, 0
			}
			id++
			p.ID, p.GridPos.X, p.GridPos.Y = id, x, y
			x, height = x+p.GridPos.W, max(height, p.GridPos.H)
			panels = append(panels, p)
		}
		y += height
	}
	return struct {
		UID           string   `json:"uid"`
		Title         string   `json:"title"`
		Description   string   `json:"description"`
		Tags          []string `json:"tags"`
		SchemaVersion int      `json:"schemaVersion"`
		Editable      bool     `json:"editable"`
		GraphTooltip  int      `json:"graphTooltip"`
		Timezone      string   `json:"timezone"`
		Refresh       string   `json:"refresh"`
		Time          object   `json:"time"`
		Timepicker    object   `json:"timepicker"`
		Annotations   object   `json:"annotations"`
		Links         []object `json:"links"`
		Templating    object   `json:"templating"`
		Panels        []any    `json:"panels"`
	}{
		UID: b.uid, Title: b.title, Description: b.description,
		Tags:          []string{"grpc", "opentelemetry", tag},
		SchemaVersion: 42,
		GraphTooltip:  1, // one crosshair for all panels
		Timezone:      "browser",
		Refresh:       "15s", // as often as services export
		Time:          object{"from": "now-15m", "to": "now"},
		Timepicker:    object{},
		Annotations:   object{"list": []any{}},
		Links:         boardLinks(),
		Templating:    object{"list": append(variables(), b.variables...)},
		Panels:        panels,
	}
}

// boardLinks are at the top of each dashboard: the others, with variables and time as they are, and Jaeger.
func boardLinks() []object {
	link := func(title, tooltip string, more object) object {
		l := object{
			"title": title, "tooltip": tooltip, "type": "link", "url": "", "icon": "external link", "tags": []string{},
			"asDropdown": false, "includeVars": false, "keepTime": false, "targetBlank": true,
		}
		for k, v := range more {
			l[k] = v
		}
		return l
	}
	return []object{
		link("gRPC", "The other dashboards, with these variables and this time range", object{
			"type": "dashboards", "tags": []string{tag}, "includeVars": true, "keepTime": true, "targetBlank": false,
		}),
		link("Jaeger", "Search all traces", object{"url": "${jaeger_url}/search"}),
		link("Service performance", "Jaeger's own view of rate, errors and duration", object{"url": "${jaeger_url}/monitor"}),
	}
}

// variables are those of every dashboard, so that a link from one to another keeps them.
func variables() []object {
	const inFlight = `__name__=~"rpcscope_(server|client)_active_calls"`
	const url = "http://localhost:16686"
	return []object{
		dataSource("prometheus", "Prometheus", "The Prometheus data source of the panels."),
		dataSource("jaeger", "Jaeger", "The Jaeger data source of panels that show what calls what."),
		{
			"name": "jaeger_url", "label": "Jaeger's pages", "description": "Where a browser finds Jaeger: the links to traces start with it.",
			"type": "textbox", "query": url, "hide": 0, "skipUrlSync": false,
			"options": []object{option(url, true)}, "current": option(url, true),
		},
		labelValues("service", "Service", "Namespace and name of the service, which is Prometheus' job.", "job", inFlight),
		labelValues("instance", "Instance", "A process of the service.", "instance", inFlight+`, job=~"$service"`),
		labelValues("method", "Method", "Full method, as on the span.", "rpc_method", inFlight+`, job=~"$service", instance=~"$instance"`),
	}
}

func option(value string, selected bool) object {
	return object{"selected": selected, "text": value, "value": value}
}

func dataSource(kind, label, description string) object {
	return object{
		"name": kind + "_datasource", "label": label, "description": description, "type": "datasource", "query": kind,
		"refresh": 1, "regex": "", "hide": 0, "multi": false, "includeAll": false, "skipUrlSync": false, "options": []any{},
	}
}

// labelValues is a variable with the values of a label on the series that matchers select; several may be chosen.
func labelValues(name, label, description, of, matchers string) object {
	return object{
		"name": name, "label": label, "description": description, "type": "query", "datasource": prometheus,
		"query":   object{"qryType": 1, "query": "label_values({" + matchers + "}, " + of + ")", "refId": name},
		"refresh": 2, "sort": 1, "regex": "", "hide": 0, "multi": true, "includeAll": true, "allValue": ".*", "skipUrlSync": false,
		"options": []any{}, "current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

// choice is a variable with one of a few values, the first to begin with.
func choice(name, label, description string, values ...string) object {
	var query string
	var options []object
	for i, v := range values {
		if i > 0 {
			query += ","
		}
		query += v
		options = append(options, option(v, i == 0))
	}
	return object{
		"name": name, "label": label, "description": description, "type": "custom", "query": query,
		"hide": 0, "multi": false, "includeAll": false, "skipUrlSync": false, "options": options, "current": options[0],
	}
}
