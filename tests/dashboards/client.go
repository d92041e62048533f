package main

func client() board {
	const (
		count   = `rpc_client_call_duration_seconds_count`
		sum     = `rpc_client_call_duration_seconds_sum`
		buckets = `rpc_client_call_duration_seconds_bucket{@calls}`
	)
	return board{
		uid: "grpc-client", title: "gRPC client",
		description: "What callers see of the servers they call: how calls end and how long they take, attempts and retries, circuit breakers, and what the way costs.",
		rows: []row{
			{"Overview", []*panel{
				number("Calls", "Outgoing calls per second, each counted once however often it was tried.", "reqps", noCalls, plain,
					query(`sum(rate(`+count+`{@calls}[$__rate_interval]))`, "__auto")).decimals(1),
				number("Failed", "Share of outgoing calls that did not end OK, as the clients saw it.", "percentunit", noCalls,
					[]step{{nil, "green"}, {0.01, "yellow"}, {0.1, "red"}},
					query(`(sum(rate(`+count+`{@calls, error_type!=""}[$__rate_interval])) or 0 * sum(rate(`+count+`{@calls}[$__rate_interval])))`+
						` / sum(rate(`+count+`{@calls}[$__rate_interval]))`, "__auto")).goTo("grpc-slo", "SLO and errors"),
				number("p99 latency", "99 % of the calls were at least this fast, connection and retries included.", "s", noCalls,
					[]step{{nil, "green"}, {0.25, "yellow"}, {1, "red"}},
					query(`histogram_quantile(0.99, sum by (le) (rate(`+buckets+`[$__rate_interval])))`, "__auto")),
				number("In flight", "Outgoing calls begun and not ended, streams that nobody reads any more included.", "short", "No client reports", plain,
					query(`sum(rpcscope_client_active_calls{@calls})`, "__auto")).decimals(0),
				number("Attempts per call", "1 is no retries, below it are calls that a breaker did not send.", "none", "No client counts attempts",
					[]step{{nil, "text"}, {1.2, "yellow"}, {2, "red"}},
					query(`sum(rate(rpcscope_client_attempts_total{@calls}[$__rate_interval])) / sum(rate(`+count+`{@calls}[$__rate_interval])`+
						` and on (job, instance, rpc_method) rpcscope_client_attempts_total)`, "__auto")).decimals(2),
				number("Breakers not closed", "Circuit breakers that are open or half-open.", "short", "No client has a circuit breaker that was used",
					[]step{{nil, "green"}, {1, "red"}},
					query(`sum(rpcscope_client_breaker_state{@process} > bool 0)`, "__auto")).decimals(0),
			}},
			{"Rate, errors and duration", []*panel{
				lines("Call rate", "Outgoing calls per second by method and server. Click a line for its traces.", "reqps", noCalls,
					query(`sum by (service_name, rpc_method, server_address) (rate(`+count+`{@calls}[$__rate_interval]))`,
						"{{rpc_method}} {{service_name}} → {{server_address}}")).traces("rpc_method"),
				lines("Calls, by code", "Outgoing calls per second by the code that the caller saw.", "reqps", noCalls,
					query(`sum by (rpc_response_status_code, service_name) (rate(`+count+`{@calls}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{service_name}}")).stacked().traces("rpc_response_status_code"),
				lines("Not OK, by method", "Outgoing calls per second that ended with another code than OK. Click a line for traces with that code.", "reqps",
					"Every call in this time range ended OK",
					query(`sum by (rpc_response_status_code, service_name, rpc_method) (rate(`+count+`{@calls, rpc_response_status_code!="OK"}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{rpc_method}}")).stacked().traces("rpc_method", "rpc_response_status_code"),
				lines("Latency", "p50, p95 and p99 as the caller saw them. The dots are exemplars: click one to open its trace.", "s", noCalls, quantiles(buckets)...),
				heatmap("Latency heatmap", "How many outgoing calls took how long. The dots are exemplars: click one to open its trace.", "s", noCalls, buckets),
				lines("In flight by method", "Outgoing calls begun and not ended.", "short", "No client reports",
					query(`sum by (service_name, rpc_method) (rpcscope_client_active_calls{@calls})`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
			}},
			{"The way to the server", []*panel{
				lines("Client minus server, mean", "How much longer calls take for their callers than for the server: network, connection, queues and retries. "+
					"All clients of a method against all its servers; calls that never arrive are the client's only.", "s",
					"No method of which both the clients and the servers report",
					query(`sum by (rpc_method) (rate(`+sum+`{@method}[$__rate_interval])) / sum by (rpc_method) (rate(`+count+`{@method}[$__rate_interval]))`+
						` - sum by (rpc_method) (rate(rpc_server_call_duration_seconds_sum{@method}[$__rate_interval]))`+
						` / sum by (rpc_method) (rate(rpc_server_call_duration_seconds_count{@method}[$__rate_interval]))`, "{{rpc_method}}")).belowZero(),
				lines("Client minus server, p95", "The same at the 95th percentile, as exact as the buckets are.", "s",
					"No method of which both the clients and the servers report",
					query(`histogram_quantile(0.95, sum by (le, rpc_method) (rate(rpc_client_call_duration_seconds_bucket{@method}[$__rate_interval])))`+
						` - histogram_quantile(0.95, sum by (le, rpc_method) (rate(rpc_server_call_duration_seconds_bucket{@method}[$__rate_interval])))`,
						"{{rpc_method}}")).belowZero(),
				graph("Who calls whom", "Services and the calls between them, as Jaeger has found them in traces.", "Jaeger has no traces of calls between services"),
			}},
			{"Deadlines", append(deadlines("client", buckets),
				heatmap("Deadline used, heatmap", "How many calls took what share of their time. The dots are exemplars: click one to open its trace.", "percentunit", noDeadlines,
					`rpcscope_client_deadline_used_bucket{@calls}`))},
			{"Retries and breakers", []*panel{
				timeline("Circuit breakers", "What each circuit breaker lets through: all calls (closed), a few to see how they fare (half-open), or none (open).",
					"No client has a circuit breaker that was used",
					query(`max by (service_name, server_address, rpcscope_breaker_name) (rpcscope_client_breaker_state{@process})`,
						"{{service_name}} → {{rpcscope_breaker_name}} {{server_address}}"),
					state{"0", "closed", "green"}, state{"1", "half-open", "orange"}, state{"2", "open", "red"}),
				lines("Changes of breakers", "How often a second circuit breakers changed their state.", "short", "No breaker changed in this time range",
					query(`sum by (service_name, rpcscope_breaker_name, rpcscope_breaker_to) (rate(rpcscope_client_breaker_transitions_total{@process}[$__rate_interval]))`,
						"{{rpcscope_breaker_name}} became {{rpcscope_breaker_to}} {{service_name}}")).wide(6),
				lines("Refused by the client", "Calls per second that an interceptor of the client ended itself: a breaker that is open, a limit, a message that is not valid.",
					"reqps", "No client refused a call in this time range",
					query(`sum by (service_name, rpcscope_rejected_reason) (rate(rpcscope_client_rejected_total{@calls}[$__rate_interval]))`,
						"{{rpcscope_rejected_reason}} {{service_name}}")).stacked().wide(6).traces(),
				lines("Attempts", "Attempts per second, by why: initial, retry, transparent_retry or hedge.", "ops",
					"No attempts: Retry, Hedge and interceptors.WithAttempts count them",
					query(`sum by (service_name, rpc_method, rpcscope_attempt) (rate(rpcscope_client_attempts_total{@calls}[$__rate_interval]))`,
						"{{rpcscope_attempt}} {{rpc_method}} {{service_name}}")).stacked().traces("rpc_method"),
				lines("Attempts per call, by method", "1 is no retries. When it rises with the errors of the server, retries make the trouble worse: see the budget of "+
					"Retry, and breakers.", "none", "No client counts attempts",
					query(`sum by (service_name, rpc_method) (rate(rpcscope_client_attempts_total{@calls}[$__rate_interval]))`+
						` / sum by (service_name, rpc_method) (rate(`+count+`{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
				lines("Retries not made", "Calls per second whose failure would have been tried again, and was not: there were enough attempts, the budget of retries "+
					"was spent, there was no time left, a breaker was open, the server asked not to, or an answer was under way.", "reqps",
					"Every failure that could be tried again was",
					query(`sum by (service_name, rpcscope_retry_stopped) (rate(rpcscope_client_retries_stopped_total{@calls}[$__rate_interval]))`,
						"{{rpcscope_retry_stopped}} {{service_name}}")).stacked().traces(),
				lines("Panics of interceptors", "Panics per second of the clients' interceptors. They reach the caller.", "short", "No client has panicked",
					query(`sum by (service_name, rpc_method) (rate(rpcscope_client_panics_total{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).
					wide(24).traces("rpc_method"),
			}},
		},
	}
}

// belowZero lets a graph have negative values: a difference of quantiles may be.
func (p *panel) belowZero() *panel {
	delete(p.FieldConfig.Defaults, "min")
	return p
}

// graph shows Jaeger's graph of services.
func graph(title, description, nothing string) *panel {
	p := newPanel("nodeGraph", title, description, "none", nothing, place{H: 8, W: 8}, []object{
		{"datasource": jaeger, "queryType": "dependencyGraph"},
	})
	p.Datasource = jaeger
	p.Options = object{"nodes": object{}, "edges": object{}, "zoomMode": "cooperative"}
	return p
}
