package main

const noCalls = "No calls in this time range"

func server() board {
	const (
		count   = `rpc_server_call_duration_seconds_count`
		buckets = `rpc_server_call_duration_seconds_bucket{@calls}`
	)
	return board{
		uid: "grpc-server", title: "gRPC server",
		description: "How calls fare at the servers: how many, how they end, how long they take, what is refused and why, by method.",
		rows: []row{
			{"Overview", []*panel{
				number("Calls", "Calls per second that the servers ended.", "reqps", noCalls, plain,
					query(`sum(rate(`+count+`{@calls}[$__rate_interval]))`, "__auto")).decimals(1),
				number("Server faults", "Share of calls that ended in a fault of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE "+
					"or DATA_LOSS. What a caller does wrong is not counted.", "percentunit", noCalls, faultShare,
					query(`(sum(rate(`+count+`{@calls, error_type!=""}[$__rate_interval])) or 0 * sum(rate(`+count+`{@calls}[$__rate_interval])))`+
						` / sum(rate(`+count+`{@calls}[$__rate_interval]))`, "__auto")).goTo("grpc-slo", "SLO and errors"),
				number("p99 latency", "99 % of the calls were at least this fast, measured at the server.", "s", noCalls,
					[]step{{nil, "green"}, {0.25, "yellow"}, {1, "red"}},
					query(`histogram_quantile(0.99, sum by (le) (rate(`+buckets+`[$__rate_interval])))`, "__auto")),
				number("In flight", "Calls that the servers have begun and not ended, streams among them.", "short", "No server reports", plain,
					query(`sum(rpcscope_server_active_calls{@calls})`, "__auto")).decimals(0).goTo("grpc-runtime", "Goroutines against load"),
				number("Refused", "Share of calls that an interceptor refused: strangers, limits, messages that are not valid.", "percentunit", noCalls,
					[]step{{nil, "text"}, {0.1, "yellow"}},
					query(`(sum(rate(rpcscope_server_rejected_total{@calls}[$__rate_interval])) or 0 * sum(rate(`+count+`{@calls}[$__rate_interval])))`+
						` / sum(rate(`+count+`{@calls}[$__rate_interval]))`, "__auto")),
				number("Panics", "Panics of handlers and interceptors since the processes started. Callers get INTERNAL; the stack is on the span and in the log.",
					"short", "No server has panicked", []step{{nil, "green"}, {1, "red"}},
					query(`sum(rpcscope_server_panics_total{@calls})`, "__auto")).decimals(0),
			}},
			{"Rate, errors and duration", []*panel{
				lines("Call rate", "Calls per second by method. Click a line for its traces.", "reqps", noCalls,
					query(`sum by (service_name, rpc_method) (rate(`+count+`{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).
					traces("rpc_method"),
				lines("Calls, by code", "Calls per second by the code that they ended with.", "reqps", noCalls,
					query(`sum by (rpc_response_status_code, service_name) (rate(`+count+`{@calls}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{service_name}}")).stacked().traces("rpc_response_status_code"),
				lines("Not OK, by method", "Calls per second that ended with another code than OK. Click a line for traces with that code.", "reqps",
					"Every call in this time range ended OK",
					query(`sum by (rpc_response_status_code, service_name, rpc_method) (rate(`+count+`{@calls, rpc_response_status_code!="OK"}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{rpc_method}}")).stacked().traces("rpc_method", "rpc_response_status_code"),
				lines("Latency", "p50, p95 and p99 over the methods. The dots are exemplars: click one to open its trace.", "s", noCalls, quantiles(buckets)...),
				lines("p95 latency by method", "95 % of a method's calls were at least this fast. The dots are exemplars: click one to open its trace.", "s", noCalls,
					exemplars(query(`histogram_quantile(0.95, sum by (le, service_name, rpc_method) (rate(`+buckets+`[$__rate_interval])))`,
						"{{rpc_method}} {{service_name}}"))).traces("rpc_method"),
				heatmap("Latency heatmap", "How many calls took how long. The dots are exemplars: click one to open its trace.", "s", noCalls, buckets),
				table("Methods", "Rate, share of server faults and p99 latency of each method over the time range of the dashboard. Click a method for its traces.",
					noCalls,
					cell{name: "Service", label: "service_name"},
					cell{name: "Method", label: "rpc_method", links: tracesOfCell()},
					cell{name: "Rate", unit: "reqps", expr: `sum by (service_name, rpc_method) (rate(` + count + `{@calls}[$__range]))`},
					cell{name: "Server faults", unit: "percentunit", steps: faultShare,
						expr: `(sum by (service_name, rpc_method) (rate(` + count + `{@calls, error_type!=""}[$__range]))` +
							` or 0 * sum by (service_name, rpc_method) (rate(` + count + `{@calls}[$__range])))` +
							` / sum by (service_name, rpc_method) (rate(` + count + `{@calls}[$__range]))`},
					cell{name: "p99", unit: "s", expr: `histogram_quantile(0.99, sum by (le, service_name, rpc_method) (rate(` + buckets + `[$__range])))`},
				),
			}},
			{"What is refused", []*panel{
				lines("Refused, by reason", "Calls per second that an interceptor refused: who calls is not known (unauthenticated, identity_expired) or may not "+
					"(permission_denied), calls too often (rate_limited), messages are not valid (invalid), the server has as many calls as it takes "+
					"(concurrency, overloaded), or the time was up (timeout).", "reqps", "No server refused a call in this time range",
					query(`sum by (service_name, rpcscope_rejected_reason) (rate(rpcscope_server_rejected_total{@calls}[$__rate_interval]))`,
						"{{rpcscope_rejected_reason}} {{service_name}}")).stacked().traces(),
				lines("Share refused, by method", "Share of the calls of each method that were refused. A caller that retries at once what was refused drives it up.",
					"percentunit", "No server refused a call in this time range",
					query(`sum by (service_name, rpc_method) (rate(rpcscope_server_rejected_total{@calls}[$__rate_interval]))`+
						` / sum by (service_name, rpc_method) (rate(`+count+`{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
				lines("Rate limiter failures", "Calls per second for which the rate limiter could not tell whether there were too many: by its policy, and by what "+
					"became of them. What is let through is not limited; what is refused is a fault of ours.", "reqps", "No rate limiter failed in this time range",
					query(`sum by (service_name, rpcscope_ratelimit_policy, rpcscope_ratelimit_outcome) (rate(rpcscope_server_limiter_failures_total{@calls}[$__rate_interval]))`,
						"{{rpcscope_ratelimit_policy}} {{rpcscope_ratelimit_outcome}} {{service_name}}")),
			}},
			{"Deadlines", append(deadlines("server", buckets),
				lines("Calls without a limit", "Share of calls that neither interceptors.Timeout nor MaxTimeout sees: where their callers set no deadline they may go on for ever.",
					"percentunit", noDeadlines,
					query(`1 - (sum by (service_name, rpc_method) (rate(rpcscope_server_deadline_budget_seconds_count{@calls}[$__rate_interval]))`+
						` or 0 * sum by (service_name, rpc_method) (rate(`+count+`{@calls}[$__rate_interval])))`+
						` / sum by (service_name, rpc_method) (rate(`+count+`{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
			)},
			{"What goes on", []*panel{
				lines("In flight by method", "Calls begun and not ended. A line that only rises is a leak or a handler that hangs.", "short", "No server reports",
					query(`sum by (service_name, rpc_method) (rpcscope_server_active_calls{@calls})`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
				lines("Concurrency limit", "How many calls each instance may run at the same time, an adaptive limit as it is now, and how many it runs. "+
					"What is above the limit is refused.", "short", "No server limits its calls",
					query(`max by (service_name, instance, rpcscope_limit_kind) (rpcscope_server_concurrency_limit{@process})`,
						"limit {{rpcscope_limit_kind}} {{service_name}} {{instance}}"),
					query(`sum by (service_name, instance) (rpcscope_server_active_calls{@process})`, "running {{service_name}} {{instance}}")).
					override("/^limit /", dashed...),
				lines("Panics by method", "Panics per second of handlers and interceptors. The traces of a method with code INTERNAL have the stack.", "short",
					"No server has panicked",
					query(`sum by (service_name, rpc_method) (rate(rpcscope_server_panics_total{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).
					traces("rpc_method"),
			}},
		},
	}
}

const noDeadlines = "No deadlines: interceptors.Timeout and MaxTimeout measure them"

// deadlines show how long the calls of a side have, how long they take, and what share of the time that is.
func deadlines(side, durations string) []*panel {
	budget := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(rpcscope_` + side + `_deadline_budget_seconds_bucket{@calls}[$__rate_interval])))`
	}
	return []*panel{
		lines("Deadline budget", "How long calls have until their deadline when they begin: half of them less than p50, one in twenty less than p5. Where "+
			"the p99 of what they take comes near, calls run out of time. The dots are exemplars: click one to open its trace.", "s", noDeadlines,
			query(budget("0.5"), "p50 had"), exemplars(query(budget("0.05"), "p5 had")),
			query(`histogram_quantile(0.99, sum by (le) (rate(`+durations+`[$__rate_interval])))`, "p99 took")),
		lines("Deadline used", "What share of their time calls take: at 100 % their caller has gone. The dots are exemplars: click one to open its trace.",
			"percentunit", noDeadlines, quantiles(`rpcscope_`+side+`_deadline_used_bucket{@calls}`)...),
	}
}
