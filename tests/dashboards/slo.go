package main

import "fmt"

func slo() board {
	const (
		count  = `rpc_server_call_duration_seconds_count`
		budget = `scalar(rpc_server:error_budget:ratio)`
	)
	burn := func(window string) string {
		return `job:rpc_server_faults:ratio_rate` + window + `{@service} / ` + budget
	}
	var burns []object
	for _, window := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		burns = append(burns, query(burn(window), window+" {{job}}"))
	}
	burnSteps := []step{{nil, "green"}, {1, "yellow"}, {6, "orange"}, {14.4, "red"}}
	reasons := func(side string) object {
		return query(fmt.Sprintf(`sum by (rpc_response_status_code, error_domain, error_reason, service_name) (rate(rpcscope_%s_errors_total{@calls}[$__rate_interval]))`, side),
			"{{rpc_response_status_code}} {{error_domain}} {{error_reason}} {{service_name}}")
	}
	return board{
		uid: "grpc-slo", title: "SLO and errors",
		description: "Whether the servers keep their promise, how fast they use up the faults they may have, and what the faults are: by code, by typed reason, by method.",
		rows: []row{
			{"Error budget", []*panel{
				number("Objective", "Share of calls that are to end without a fault of the server, over 30 days. It is a rule: rpc_server:error_budget:ratio.", "percentunit",
					"The rules are not loaded", plain, query(`1 - `+`rpc_server:error_budget:ratio`, "__auto")).decimals(2),
				number("Worst budget left", "What the service that is worst off has left of the faults that it may have in 30 days, or in as long as Prometheus keeps data. "+
					"Below zero the promise is broken.", "percentunit", noCalls, []step{{nil, "red"}, {0, "orange"}, {0.25, "yellow"}, {0.5, "green"}},
					query(`min(1 - job:rpc_server_faults:ratio_rate30d{@service} / `+budget+`)`, "__auto")),
				number("Worst burn rate, 5 minutes", "How many times too fast the fastest service uses up its budget now: at 1 it lasts exactly 30 days.", "suffix:×", noCalls,
					burnSteps, query(`max(`+burn("5m")+`)`, "__auto")).decimals(1),
				number("Worst burn rate, 1 hour", "The same over an hour: at 14.4, 2 % of the budget of 30 days are gone in that hour, and somebody is paged.", "suffix:×", noCalls,
					burnSteps, query(`max(`+burn("1h")+`)`, "__auto")).decimals(1),
				number("Spent in", "When the first service will have used up what it has left, at the rate of the last hour.", "s", "No service uses up its budget",
					[]step{{nil, "red"}, {3 * 86400, "yellow"}, {30 * 86400, "green"}},
					query(`min(30 * 86400 * clamp_min(1 - job:rpc_server_faults:ratio_rate30d{@service} / `+budget+`, 0) / (`+burn("1h")+` > 0))`, "__auto")),
				number("Alerts firing", "Alerts of these rules that fire now.", "short", "No alert is pending or firing", []step{{nil, "green"}, {1, "red"}},
					query(`sum(ALERTS{alertname=~"GRPC.+", alertstate="firing", @service})`, "__auto")).decimals(0),
				lines("Budget left", "What is left of the faults that a service may have in 30 days, or in as long as Prometheus keeps data.", "percentunit", noCalls,
					query(`1 - job:rpc_server_faults:ratio_rate30d{@service} / `+budget, "{{job}}")).belowZero(),
				lines("Burn rate, by window", "How many times too fast a service uses up its budget, over 5 minutes to 3 days. An alert needs a long window and a short one "+
					"above its line: 14.4 (1h and 5m) and 6 (6h and 30m) page, 3 (1d and 2h) and 1 (3d and 6h) are tickets.", "suffix:×", noCalls, burns...).lined(burnSteps),
				timeline("Alerts", "When which alert was pending and when it fired. Each has a section in dashboards/README.md.", "No alert is pending or firing",
					query(`max by (alertname, alertstate, job) (ALERTS{alertname=~"GRPC.+", @service})`, "{{alertname}} {{job}} {{alertstate}}"),
					state{"1", "firing", "red"}).override("/ pending$/", property("mappings", mappings(state{"1", "pending", "orange"}))).wide(8),
			}},
			{"Faults of the servers", []*panel{
				lines("Share of faults, by service", "Share of calls of the last 5 minutes that ended in a fault of the server.", "percentunit", noCalls,
					query(`job:rpc_server_faults:ratio_rate5m{@service}`, "{{job}}")),
				lines("Faults, by code", "Calls per second that ended in a fault of the server. Click a line for traces with that code.", "reqps",
					"No server had a fault in this time range",
					query(`sum by (rpc_response_status_code, service_name, rpc_method) (rate(`+count+`{@calls, error_type!=""}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{rpc_method}} {{service_name}}")).stacked().traces("rpc_method", "rpc_response_status_code"),
				lines("Not OK, by code", "Calls per second that ended with another code than OK, what callers do wrong included. Click a line for traces with that code.", "reqps",
					"Every call in this time range ended OK",
					query(`sum by (rpc_response_status_code, service_name) (rate(`+count+`{@calls, rpc_response_status_code!="OK"}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{service_name}}")).stacked().traces("rpc_response_status_code"),
			}},
			{"Reasons", []*panel{
				lines("Errors of servers, by reason", "Calls per second that ended with another code than OK, by the domain and reason of the typed error.", "reqps",
					"Every call in this time range ended OK", reasons("server")).stacked().wide(12).traces("rpc_response_status_code"),
				lines("Errors of clients, by reason", "Outgoing calls per second that ended with another code than OK, by the domain and reason that the server gave.", "reqps",
					"Every call in this time range ended OK", reasons("client")).stacked().wide(12).traces("rpc_response_status_code"),
				table("Errors", "How often which error was the end of a call in the time range of the dashboard. Click a method for its traces.",
					"Every call in this time range ended OK",
					cell{name: "Service", label: "service_name"},
					cell{name: "Method", label: "rpc_method", links: tracesOfCell()},
					cell{name: "Code", label: "rpc_response_status_code"},
					cell{name: "Domain", label: "error_domain"},
					cell{name: "Reason", label: "error_reason"},
					cell{name: "Calls", unit: "short",
						expr: `sum by (service_name, rpc_method, rpc_response_status_code, error_domain, error_reason) (increase(rpcscope_server_errors_total{@calls}[$__range]))`},
				).codes("Code"),
			}},
		},
	}
}

// lined draws a line where each step begins.
func (p *panel) lined(steps []step) *panel {
	p.FieldConfig.Defaults["thresholds"] = thresholds(steps)
	p.FieldConfig.Defaults["custom"].(object)["thresholdsStyle"] = object{"mode": "dashed"}
	return p
}

// codes gives the codes in a column of a table the colours that they have in graphs.
func (p *panel) codes(name string) *panel {
	options := object{}
	for i, c := range colours {
		options[c.code] = object{"color": c.colour, "index": i}
	}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override("byName", name,
		property("mappings", []object{{"type": "value", "options": options}}),
		property("custom.cellOptions", object{"type": "color-text"})))
	return p
}
