package main

func streams() board {
	const (
		duration = `rpc_${side}_call_duration_seconds`
		first    = `rpcscope_${side}_time_to_first_message_seconds_bucket{@calls}`
		request  = `rpcscope_${side}_request_size_bytes`
		response = `rpcscope_${side}_response_size_bytes`
		nothing  = "No messages: interceptors.WithMessageMetrics measures them"
	)
	rate := func(title, what, metric string) *panel {
		return lines(title, what+" messages per second by method, those of streams as they go.", "mps", nothing,
			query(`sum by (service_name, rpc_method) (rate(`+metric+`_count{@calls}[$__rate_interval]))`, "{{rpc_method}} {{service_name}}")).traces("rpc_method")
	}
	perCall := func(title, what, metric string) *panel {
		return lines(title, "How many "+what+" messages the calls had that ended: the mean, and what 95 % of them do not exceed.", "none", nothing,
			query(`sum by (service_name, rpc_method) (rate(`+metric+`_sum{@calls}[$__rate_interval]))`+
				` / sum by (service_name, rpc_method) (rate(`+metric+`_count{@calls}[$__rate_interval]))`, "mean {{rpc_method}} {{service_name}}"),
			query(`histogram_quantile(0.95, sum by (le, service_name, rpc_method) (rate(`+metric+`_bucket{@calls}[$__rate_interval])))`,
				"p95 {{rpc_method}} {{service_name}}")).wide(12).traces("rpc_method")
	}
	return board{
		uid: "grpc-streams", title: "Streams",
		description: "Messages and the calls that carry them, seen by servers or by clients: how many there are, how large, how long the first one takes. " +
			"Choose the methods that stream. Messages are measured where interceptors.WithMessageMetrics is on.",
		variables: []object{choice("side", "Seen by", "Whose measurements are shown: those of servers or those of clients.", "server", "client")},
		rows: []row{
			{"Overview", []*panel{
				number("Requests", "Request messages per second.", "mps", nothing, plain,
					query(`sum(rate(`+request+`_count{@calls}[$__rate_interval]))`, "__auto")).decimals(1),
				number("Responses", "Response messages per second.", "mps", nothing, plain,
					query(`sum(rate(`+response+`_count{@calls}[$__rate_interval]))`, "__auto")).decimals(1),
				number("Request bytes", "Bytes of request messages per second, uncompressed.", "Bps", nothing, plain,
					query(`sum(rate(`+request+`_sum{@calls}[$__rate_interval]))`, "__auto")),
				number("Response bytes", "Bytes of response messages per second, uncompressed.", "Bps", nothing, plain,
					query(`sum(rate(`+response+`_sum{@calls}[$__rate_interval]))`, "__auto")),
				number("p95 to the first message", "95 % of the calls had their first response message within this time.", "s", nothing,
					[]step{{nil, "green"}, {0.25, "yellow"}, {1, "red"}},
					query(`histogram_quantile(0.95, sum by (le) (rate(`+first+`[$__rate_interval])))`, "__auto")),
				number("Open", "Calls of the methods that have begun and not ended.", "short", "Nothing reports", plain,
					query(`sum(rpcscope_${side}_active_calls{@calls})`, "__auto")).decimals(0),
			}},
			{"Messages", []*panel{
				rate("Request rate", "Request", request).wide(12),
				rate("Response rate", "Response", response).wide(12),
				lines("Request size", "p50, p95 and p99 of the size of a request message, uncompressed. The dots are exemplars: click one to open its trace.", "bytes", nothing,
					quantiles(request+`_bucket{@calls}`)...),
				lines("Response size", "p50, p95 and p99 of the size of a response message, uncompressed. The dots are exemplars: click one to open its trace.", "bytes", nothing,
					quantiles(response+`_bucket{@calls}`)...),
				heatmap("Response size heatmap", "How many response messages were how large. The dots are exemplars: click one to open its trace.", "bytes", nothing,
					response+`_bucket{@calls}`),
			}},
			{"Calls that carry them", []*panel{
				lines("Open, by method", "Calls begun and not ended. A line that only rises is streams that nobody ends.", "short", "Nothing reports",
					query(`sum by (service_name, rpc_method) (rpcscope_${side}_active_calls{@calls})`, "{{rpc_method}} {{service_name}}")).traces("rpc_method"),
				lines("Time to the first message", "p50, p95 and p99 of the time from the beginning of a call to its first response message. "+
					"The dots are exemplars: click one to open its trace.", "s", nothing, quantiles(first)...),
				lines("Duration, by method", "p95 of the time from the beginning of a call to its end. The dots are exemplars: click one to open its trace.", "s", noCalls,
					exemplars(query(`histogram_quantile(0.95, sum by (le, service_name, rpc_method) (rate(`+duration+`_bucket{@calls}[$__rate_interval])))`,
						"{{rpc_method}} {{service_name}}"))).traces("rpc_method"),
				perCall("Requests per call", "request", `rpcscope_${side}_requests_per_call`),
				perCall("Responses per call", "response", `rpcscope_${side}_responses_per_call`),
				lines("Ended, by code", "Calls per second by the code that they ended with. CANCELLED is a caller that hung up, which is how many streams end.", "reqps", noCalls,
					query(`sum by (rpc_response_status_code, service_name, rpc_method) (rate(`+duration+`_count{@calls}[$__rate_interval]))`,
						"{{rpc_response_status_code}} {{rpc_method}}")).stacked().wide(24).traces("rpc_method", "rpc_response_status_code"),
			}},
		},
	}
}
