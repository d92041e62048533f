//go:build unix

package main

// scenario is one of users-load's, and what one sees of it.
type scenario struct {
	name, about string
	graphs      []graphed
	facts       []fact
}

// graphed is a panel of a dashboard that is drawn, for one service.
type graphed struct{ panel, service string }

// fact is a sentence with what Prometheus says at the end of the run. Where a value is not between its least and most, the
// sentence does not hold, and nothing is written.
type fact struct {
	text   string // with a %s for each of the values
	values []value
}

type value struct {
	expr, unit  string
	least, most float64
}

const (
	service, load = "users-api", "users-load"

	byCode   = "gRPC server: Calls, by code"
	latency  = "gRPC server: Latency"
	byMethod = "gRPC server: p95 latency by method"
	notOK    = "gRPC server: Not OK, by method"
	flying   = "gRPC server: In flight by method"
	refused  = "gRPC server: Refused, by reason"

	clientByCode = "gRPC client: Calls, by code"
	attempts     = "gRPC client: Attempts"
	perCall      = "gRPC client: Attempts per call, by method"
	notRetried   = "gRPC client: Retries not made"
	breakers     = "gRPC client: Circuit breakers"
)

// Each run is on a stack of its own, whose counters began at 0: what they have at the end is of the run. Of the users
// service those of its own methods are told, not those of signing up before the run.
const (
	served = `rpc_server_call_duration_seconds_count{job="users/users-api", rpc_method=~"users.v1.UserService/.*"`
	spent  = `rpc_server_call_duration_seconds_sum{job="users/users-api", rpc_method=~"users.v1.UserService/.*"`
	took   = `rpc_server_call_duration_seconds_bucket{job="users/users-api", rpc_method=~"users.v1.UserService/.*"`
	called = `rpc_client_call_duration_seconds_count{job="users/users-load", rpc_method=~"users.v1.UserService/.*"`
	asked  = `rpc_client_call_duration_seconds_count{job="users/users-api", rpc_method="audit.v1.AuditService/Record"`
	tried  = `rpcscope_client_attempts_total{job="users/users-load", rpc_method=~"users.v1.UserService/.*"`
)

// with is an aggregation of a selector of the above with more matchers.
func with(selector, matchers string) string {
	if matchers != "" {
		selector += ", " + matchers
	}
	return "sum(" + selector + "})"
}

func quantile(q, matchers string) string {
	if matchers != "" {
		matchers = ", " + matchers
	}
	return "histogram_quantile(" + q + ", sum by (le) (" + took + matchers + "}))"
}

const (
	creates = `rpc_method="users.v1.UserService/CreateUser"`
	gets    = `rpc_method="users.v1.UserService/GetUsers"`
)

var scenarios = []scenario{
	{
		name: "steady", about: "What a day is like: users are looked up, created, imported and followed; a few are looked up who do not exist.",
		graphs: []graphed{{byCode, service}, {latency, service}, {byMethod, service}, {clientByCode, service}},
		facts: []fact{
			{"The users service ended %s calls: %s OK, and %s NOT_FOUND, which is no fault of anybody's.", []value{
				{with(served, ""), "", 300, 1e6},
				{with(served, `rpc_response_status_code="OK"`), "", 250, 1e6},
				{with(served, "") + " - " + with(served, `rpc_response_status_code="OK"`) + " == " + with(served, `rpc_response_status_code="NOT_FOUND"`), "", 5, 1e6},
			}},
			{"But for those that follow, half of them took at most %s, 99 %% at most %s.", []value{
				{quantile("0.5", `rpc_method!="users.v1.UserService/WatchUsers"`), "s", 0, 0.1},
				{quantile("0.99", `rpc_method!="users.v1.UserService/WatchUsers"`), "s", 0, 1},
			}},
		},
	},
	{
		name: "burst", about: "Five times as many calls in the last second of every five.",
		graphs: []graphed{{byCode, service}, {latency, service}, {byMethod, service}, {clientByCode, service}},
		facts: []fact{
			{"The users service had %s at most, and %s in between.", []value{
				{"max_over_time(sum(rate(" + served + "}[2s]))[@run:500ms])", "reqps", 80, 1e4},
				{"quantile_over_time(0.5, sum(rate(" + served + "}[2s]))[@run:500ms])", "reqps", 10, 100},
			}},
			{"It has time for them: 99 %% took at most %s.", []value{{quantile("0.99", ""), "s", 0, 1}}},
		},
	},
	{
		name: "slow", about: "The audit service takes 200 ms, and now and then longer than the second that the users service gives it. Users are looked up without it.",
		graphs: []graphed{{byMethod, service}, {byCode, service}, {clientByCode, service}, {flying, service}},
		facts: []fact{
			{"A call of CreateUser took %s on average, one of GetUsers %s: who does not need the audit service does not wait for it.", []value{
				{with(spent, creates) + " / " + with(served, creates), "s", 0.2, 2},
				{with(spent, gets) + " / " + with(served, gets), "s", 0, 0.1},
			}},
			{"%s calls of the audit service were given up after a second, and as many calls of CreateUser, %s, ended with DEADLINE_EXCEEDED: the picture of the client (below left) says where that comes from.", []value{
				{with(asked, `rpc_response_status_code="DEADLINE_EXCEEDED"`), "", 1, 1e6},
				{with(served, `rpc_response_status_code="DEADLINE_EXCEEDED"`), "", 1, 1e6},
			}},
		},
	},
	{
		name: "failing", about: "The audit service is away, refuses or panics for most of the calls that it gets. The users service would make those again that found it away.",
		graphs: []graphed{{byCode, service}, {clientByCode, service}, {notOK, service}, {notRetried, service}},
		facts: []fact{
			{"Callers got %s times UNAVAILABLE and %s times INTERNAL: what the audit service refuses or breaks is not the caller's fault, and does not look like it.", []value{
				{with(served, `rpc_response_status_code="UNAVAILABLE"`), "", 1, 1e6},
				{with(served, `rpc_response_status_code="INTERNAL"`), "", 1, 1e6},
			}},
			{"All %s calls of GetUsers were OK.", []value{
				{with(served, gets) + " == " + with(served, gets+`, rpc_response_status_code="OK"`), "", 100, 1e6},
			}},
			{"For %s calls of the audit service there were %s attempts: so many fail that the budget for retries is spent at once, and %s times there was no retry for that reason. To make these calls again would help nobody.", []value{
				{with(asked, ""), "", 1, 1e6},
				{`sum(rpcscope_client_attempts_total{job="users/users-api"})`, "", 1, 1e6},
				{`sum(rpcscope_client_retries_stopped_total{job="users/users-api", rpcscope_retry_stopped="budget"})`, "", 10, 1e6},
			}},
		},
	},
	{
		name: "hostile", about: "Four of five calls do something wrong: no token, a wrong one, too many calls, messages that are none, methods that do not exist.",
		graphs: []graphed{{byCode, service}, {refused, service}, {latency, service}, {byMethod, service}},
		facts: []fact{
			{"The users service refused %s calls without a valid token, %s over a limit, %s for which a role was missing, and %s whose message was not valid.", []value{
				rejected("unauthenticated"), rejected("rate_limited"), rejected("permission_denied"), rejected("invalid"),
			}},
			{"Callers made %s calls of methods that they had made up. In the metrics that is one method, `_OTHER`, and the metrics know %s names in all.", []value{
				{`sum(rpc_server_call_duration_seconds_count{job="users/users-api", rpc_method="_OTHER"})`, "", 10, 1e6},
				{`count(count by (rpc_method) (rpc_server_call_duration_seconds_count{job="users/users-api"}))`, "", 3, 20},
			}},
		},
	},
	{
		name: "storm", about: "The service is away for 2 s of every 6 s, and callers make each call that fails again, up to 4 times, whatever that does to the service.",
		graphs: []graphed{{clientByCode, load}, {attempts, load}, {byCode, service}, {perCall, load}},
		facts: []fact{
			{"%s calls became %s attempts, and the users service had %s of them, when it was away up to %s.", []value{
				{with(called, ""), "", 100, 1e6},
				{with(tried, ""), "", 200, 1e6},
				{with(served, ""), "", 200, 1e6},
				{"max_over_time(sum(rate(" + served + "}[2s]))[@run:500ms])", "reqps", 100, 1e4},
			}},
			{"It did not help: %s calls ended with UNAVAILABLE.", []value{{with(called, `rpc_response_status_code="UNAVAILABLE"`), "", 10, 1e6}}},
		},
	},
	{
		name: "breaker", about: "The same with a circuit breaker behind the retries, which opens after 5 failures and tries again each half a second.",
		graphs: []graphed{{clientByCode, load}, {attempts, load}, {byCode, service}, {breakers, load}},
		facts: []fact{
			{"Of %s calls the users service had %s, and while it was away %s that it had to refuse; the breaker ended %s without sending them.", []value{
				{with(called, ""), "", 100, 1e6},
				{with(served, ""), "", 50, 1e6},
				{with(served, `rpc_response_status_code="UNAVAILABLE"`), "", 5, 300},
				{`sum(rpcscope_client_rejected_total{job="users/users-load", rpcscope_rejected_reason="breaker_open"})`, "", 10, 1e6},
			}},
			{"It was open %s of the time.", []value{
				{`avg_over_time((max(rpcscope_client_breaker_state{job="users/users-load"}) == bool 2)[@run:500ms])`, "percentunit", 0.1, 0.6},
			}},
		},
	},
}

func rejected(reason string) value {
	return value{`sum(rpcscope_server_rejected_total{job="users/users-api", rpcscope_rejected_reason="` + reason + `"})`, "", 1, 1e6}
}
