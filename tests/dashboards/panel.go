package main

import (
	"fmt"
	"strings"
)

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

var (
	prometheus = &source{"prometheus", "${prometheus_datasource}"}
	jaeger     = &source{"jaeger", "${jaeger_datasource}"}
)

type place struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type panel struct {
	ID              int      `json:"id"`
	Type            string   `json:"type"`
	Title           string   `json:"title"`
	Description     string   `json:"description"`
	Datasource      *source  `json:"datasource"`
	GridPos         place    `json:"gridPos"`
	Targets         []object `json:"targets"`
	Transformations []object `json:"transformations,omitempty"`
	FieldConfig     struct {
		Defaults  object   `json:"defaults"`
		Overrides []object `json:"overrides"`
	} `json:"fieldConfig"`
	Options object `json:"options"`
}

// selectors are what expressions have in braces. Recorded series and those of no method have fewer labels.
var selectors = strings.NewReplacer(
	"@calls", `job=~"$service", instance=~"$instance", rpc_method=~"$method"`,
	"@process", `job=~"$service", instance=~"$instance"`,
	"@service", `job=~"$service"`,
	"@method", `rpc_method=~"$method"`,
)

// query is an expression over time, and what its series are called.
func query(expr, legend string) object {
	return object{
		"datasource": prometheus, "editorMode": "code", "format": "time_series", "range": true, "instant": false,
		"expr": selectors.Replace(expr), "legendFormat": legend,
	}
}

// exemplars has a query show them too.
func exemplars(q object) object {
	q["exemplar"] = true
	return q
}

// heat is the query of a heatmap: of a histogram by le.
func heat(expr string) object {
	q := exemplars(query(expr, "{{le}}"))
	q["format"] = "heatmap"
	return q
}

// column is the query of a table's column, over the whole time range.
func column(name, expr string) object {
	return object{
		"refId": name, "datasource": prometheus, "editorMode": "code", "format": "table", "range": false, "instant": true,
		"expr": selectors.Replace(expr), "legendFormat": "__auto",
	}
}

// quantiles are p50, p95 and p99 of the histogram whose buckets are selected, with exemplars.
func quantiles(buckets string) []object {
	var all []object
	for _, q := range []struct{ value, name string }{{"0.5", "p50"}, {"0.95", "p95"}, {"0.99", "p99"}} {
		all = append(all, query(fmt.Sprintf("histogram_quantile(%s, sum by (le) (rate(%s[$__rate_interval])))", q.value, buckets), q.name))
	}
	exemplars(all[len(all)-1])
	return all
}

// newPanel is a panel with what all kinds have: a title, what it means, a unit, and what is said where there is nothing to show.
func newPanel(kind, title, description, unit, nothing string, size place, targets []object) *panel {
	p := &panel{Type: kind, Title: title, Description: description, Datasource: prometheus, GridPos: size, Targets: targets}
	for i, t := range targets {
		if t["refId"] == nil {
			t["refId"] = string(rune('A' + i))
		}
	}
	p.FieldConfig.Defaults = object{"unit": unit, "noValue": nothing}
	p.FieldConfig.Overrides = []object{}
	return p
}

// lines is a graph. One of lines that start with the name of a code has the colours of codes.
func lines(title, description, unit, nothing string, targets ...object) *panel {
	p := newPanel("timeseries", title, description, unit, nothing, place{H: 8, W: 8}, targets)
	d := p.FieldConfig.Defaults
	d["min"] = 0
	d["custom"] = object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"}
	p.Options = object{
		"legend":  object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"mean", "max", "lastNotNull"}},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
	for _, t := range targets {
		if strings.HasPrefix(t["legendFormat"].(string), "{{rpc_response_status_code}}") {
			p.FieldConfig.Overrides = codeColours()
		}
	}
	return p
}

// stacked has the lines of a graph on top of each other.
func (p *panel) stacked() *panel {
	custom := p.FieldConfig.Defaults["custom"].(object)
	custom["stacking"], custom["fillOpacity"] = object{"mode": "normal", "group": "A"}, 30
	return p
}

// wide gives a panel a part of the dashboard's columns.
func (p *panel) wide(w int) *panel {
	p.GridPos.W = w
	return p
}

// tall makes a figure as high as a graph.
func (p *panel) tall() *panel {
	p.GridPos.H = 8
	return p
}

// link adds a way from each series or value to a page.
func (p *panel) link(title, url string, blank bool) *panel {
	links, _ := p.FieldConfig.Defaults["links"].([]object)
	p.FieldConfig.Defaults["links"] = append(links, object{"title": title, "url": url, "targetBlank": blank})
	return p
}

// traces adds the way to the traces of a series: those of its method, or of its service where it is of all methods.
func (p *panel) traces(labels ...string) *panel {
	url := jaegerSearch("${__field.labels.service_name}", "")
	title := "Traces of ${__field.labels.service_name} in Jaeger"
	for _, l := range labels {
		switch l {
		case "rpc_method":
			url = jaegerSearch("${__field.labels.service_name}", "${__field.labels.rpc_method}")
			title = "Traces of ${__field.labels.rpc_method} in Jaeger"
		case "rpc_response_status_code":
			url += "&tags=%7B%22rpc.response.status_code%22%3A%22${__field.labels.rpc_response_status_code}%22%7D"
			title = "Traces that ended ${__field.labels.rpc_response_status_code} in Jaeger"
		}
	}
	return p.link(title, url, true)
}

// jaegerSearch is Jaeger's search for the traces of a service in the time range of the dashboard. That address has not
// changed in years, which those of Grafana's Explore have.
func jaegerSearch(service, operation string) string {
	url := "${jaeger_url}/search?service=" + service
	if operation != "" {
		url += "&operation=" + operation
	}
	return url + "&lookback=custom&start=${__from}000&end=${__to}000&limit=20"
}

// goTo adds the way to another dashboard, with variables and time as they are.
func (p *panel) goTo(uid, title string) *panel {
	return p.link(title, "/d/"+uid+"?${__all_variables}&${__url_time_range}", false)
}

// override changes properties of the series whose names match a regular expression.
func (p *panel) override(regexp string, properties ...object) *panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override("byRegexp", regexp, properties...))
	return p
}

func override(matcher, options string, properties ...object) object {
	return object{"matcher": object{"id": matcher, "options": options}, "properties": properties}
}

func property(id string, value any) object { return object{"id": id, "value": value} }

// colours has the colour of each code, the same everywhere: green is well, blue is what callers ask for in vain, purple
// who they are, yellow what is too much, orange what took too long, red a fault of the server.
var colours = []struct{ code, colour string }{
	{"OK", "green"},
	{"CANCELLED", "text"},
	{"INVALID_ARGUMENT", "light-blue"},
	{"NOT_FOUND", "blue"},
	{"ALREADY_EXISTS", "dark-blue"},
	{"FAILED_PRECONDITION", "super-light-blue"},
	{"OUT_OF_RANGE", "semi-dark-blue"},
	{"PERMISSION_DENIED", "light-purple"},
	{"UNAUTHENTICATED", "purple"},
	{"RESOURCE_EXHAUSTED", "yellow"},
	{"ABORTED", "light-yellow"},
	{"DEADLINE_EXCEEDED", "orange"},
	{"UNIMPLEMENTED", "dark-orange"},
	{"UNAVAILABLE", "light-red"},
	{"UNKNOWN", "semi-dark-red"},
	{"INTERNAL", "red"},
	{"DATA_LOSS", "dark-purple"},
	{"_OTHER", "dark-red"},
}

func codeColours() []object {
	var overrides []object
	for _, c := range colours {
		overrides = append(overrides, override("byRegexp", "/^"+c.code+"( |$)/", fixed(c.colour)))
	}
	return overrides
}

// dashed tells lines of another kind from the rest.
var dashed = []object{property("custom.lineStyle", object{"fill": "dash", "dash": []int{10, 10}}), property("custom.fillOpacity", 0)}

func fixed(colour string) object {
	return property("color", object{"mode": "fixed", "fixedColor": colour})
}

// A step is a colour, from a value on.
type step struct {
	value  any
	colour string
}

func thresholds(steps []step) object {
	var all []object
	for _, s := range steps {
		all = append(all, object{"value": s.value, "color": s.colour})
	}
	return object{"mode": "absolute", "steps": all}
}

var (
	plain      = []step{{nil, "text"}}
	faultShare = []step{{nil, "green"}, {0.001, "yellow"}, {0.01, "red"}}
)

// number is one figure, with a small graph behind it.
func number(title, description, unit, nothing string, steps []step, target object) *panel {
	p := newPanel("stat", title, description, unit, nothing, place{H: 4, W: 4}, []object{target})
	p.FieldConfig.Defaults["color"] = object{"mode": "thresholds"}
	p.FieldConfig.Defaults["thresholds"] = thresholds(steps)
	p.Options = object{
		"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		"graphMode":     "area", "colorMode": "value", "justifyMode": "auto", "textMode": "value", "orientation": "auto", "wideLayout": true,
	}
	return p
}

// decimals are how many digits there are behind the point.
func (p *panel) decimals(n int) *panel {
	p.FieldConfig.Defaults["decimals"] = n
	return p
}

// heatmap is a histogram over time.
func heatmap(title, description, unit, nothing, buckets string) *panel {
	p := newPanel("heatmap", title, description, unit, nothing, place{H: 8, W: 8},
		[]object{heat("sum by (le) (increase(" + buckets + "[$__rate_interval]))")})
	p.Options = object{
		"calculate": false, "cellGap": 1, "showValue": "never",
		"color":        object{"mode": "scheme", "scheme": "Spectral", "steps": 64, "reverse": true, "exponent": 0.5, "fill": "dark-orange"},
		"exemplars":    object{"color": "rgba(255,0,255,0.7)"},
		"filterValues": object{"le": 1e-9},
		"legend":       object{"show": true},
		"rowsFrame":    object{"layout": "auto"},
		"tooltip":      object{"mode": "single", "yHistogram": true, "showColorScale": false},
		"yAxis":        object{"axisPlacement": "left", "reverse": false, "unit": unit},
	}
	return p
}

// A cell is a column of a table: a label or, with an expression, a value.
type cell struct {
	name, label, expr, unit string
	steps                   []step   // of its background
	links                   []object //
}

// table has a line for each combination of the labels that the expressions are by.
func table(title, description, nothing string, cells ...cell) *panel {
	var targets []object
	order, names := object{}, object{}
	var overrides []object
	for i, c := range cells {
		field := c.label
		if c.expr != "" {
			targets = append(targets, column(c.name, c.expr))
			field = "Value #" + c.name
		}
		order[field], names[field] = i, c.name
		var properties []object
		if c.unit != "" {
			properties = append(properties, property("unit", c.unit))
		}
		if c.steps != nil {
			properties = append(properties, property("thresholds", thresholds(c.steps)), property("custom.cellOptions", object{"type": "color-background"}))
		}
		if c.links != nil {
			properties = append(properties, property("links", c.links))
		}
		if properties != nil {
			overrides = append(overrides, override("byName", c.name, properties...))
		}
	}
	if len(targets) == 1 { // Grafana numbers the values of several queries only
		order["Value"], names["Value"] = order["Value #"+targets[0]["refId"].(string)], targets[0]["refId"]
	}
	p := newPanel("table", title, description, "short", nothing, place{H: 8, W: 24}, targets)
	p.FieldConfig.Defaults["custom"] = object{"filterable": true}
	p.FieldConfig.Overrides = overrides
	p.Options = object{"showHeader": true, "cellHeight": "sm"}
	p.Transformations = []object{
		{"id": "merge", "options": object{}},
		{"id": "organize", "options": object{"excludeByName": object{"Time": true}, "indexByName": order, "renameByName": names}},
	}
	return p
}

// tracesOfCell is the way from a method in a table to its traces.
func tracesOfCell() []object {
	return []object{{
		"title": "Traces of ${__value.text} in Jaeger", "targetBlank": true,
		"url": jaegerSearch("${__data.fields.Service}", "${__value.raw}"),
	}}
}

// A state is a value that has a name and a colour.
type state struct {
	value, name, colour string
}

func mappings(states ...state) []object {
	options := object{}
	for i, s := range states {
		options[s.value] = object{"text": s.name, "color": s.colour, "index": i}
	}
	return []object{{"type": "value", "options": options}}
}

// timeline shows when each series was in which state.
func timeline(title, description, nothing string, target object, states ...state) *panel {
	p := newPanel("state-timeline", title, description, "none", nothing, place{H: 8, W: 12}, []object{target})
	p.FieldConfig.Defaults["custom"] = object{"lineWidth": 0, "fillOpacity": 80}
	p.FieldConfig.Defaults["mappings"] = mappings(states...)
	p.Options = object{
		"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
		"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
		"tooltip": object{"mode": "single", "sort": "none"},
	}
	return p
}
