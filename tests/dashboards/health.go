package main

func health() board {
	const (
		silent = "No process reports its runtime"
		labels = "{{service_name}} {{instance}}"
	)
	gauge := func(metric string) object {
		return query(`sum by (service_name, instance) (`+metric+`{@process})`, labels)
	}
	return board{
		uid: "grpc-runtime", title: "Runtime and telemetry health",
		description: "The Go runtime of the processes against the calls they have, and whether their telemetry arrives.",
		rows: []row{
			{"Runtime", []*panel{
				lines("Goroutines against load", "Live goroutines, and the calls in flight (right axis). Goroutines that stay when the calls have gone are a leak.", "short", silent,
					query(`sum by (service_name, instance) (go_goroutine_count{@process})`, "goroutines "+labels),
					query(`sum by (service_name, instance) ({__name__=~"rpcscope_(server|client)_active_calls", @process})`, "calls "+labels)).
					override("/^calls /", property("custom.axisPlacement", "right"), property("custom.fillOpacity", 0),
						property("custom.lineStyle", object{"fill": "dash", "dash": []int{10, 10}})).wide(12),
				lines("Goroutines per call in flight", "Live goroutines for each call that is in flight, or in all where there is none. It falls with load, and rises only where calls "+
					"leave some behind.", "none", silent,
					query(`sum by (service_name, instance) (go_goroutine_count{@process})`+
						` / clamp_min(sum by (service_name, instance) ({__name__=~"rpcscope_(server|client)_active_calls", @process}), 1)`, labels)).wide(12),
				lines("Memory", "Memory that the Go runtime uses, and the heap size at which the next collection ends.", "bytes", silent,
					query(`sum by (service_name, instance) (go_memory_used_bytes{@process})`, "used "+labels),
					query(`sum by (service_name, instance) (go_memory_gc_goal_bytes{@process})`, "goal "+labels)),
				lines("Allocated", "Bytes allocated per second.", "Bps", silent,
					query(`sum by (service_name, instance) (rate(go_memory_allocated_bytes_total{@process}[$__rate_interval]))`, labels)),
				lines("Allocated per call", "Bytes allocated for each call that the process served, whatever else it did.", "bytes", noCalls,
					query(`sum by (service_name, instance) (rate(go_memory_allocated_bytes_total{@process}[$__rate_interval]))`+
						` / sum by (service_name, instance) (rate(rpc_server_call_duration_seconds_count{@process}[$__rate_interval]))`, labels)),
				lines("Allocations", "Objects allocated on the heap per second.", "ops", silent,
					query(`sum by (service_name, instance) (rate(go_memory_allocations_total{@process}[$__rate_interval]))`, labels)),
				lines("Processors", "Threads that may run Go code at the same time: GOMAXPROCS.", "short", silent, gauge("go_processor_limit")),
				lines("GOGC", "How much the heap may grow before it is collected, as a share of what was live.", "percent", silent, gauge("go_config_gogc_percent")),
			}},
			{"Telemetry", []*panel{
				lines("Age of the newest metrics", "Seconds since a process last delivered its metrics. It saws between 0 and the export interval; a line that climbs is a process "+
					"that is gone, or whose telemetry does not arrive.", "s", "Nothing has delivered metrics in this time range",
					query(`time() - max by (service_name, instance) (timestamp(target_info{@process}))`, labels)).wide(12),
				lines("Processes that report", "How many processes of each service and version deliver metrics.", "short", "Nothing has delivered metrics in this time range",
					query(`count by (service_name, service_version) (target_info{@process})`, "{{service_name}} {{service_version}}")).wide(12),
				lines("Series, by metric", "How many series there are of each metric of calls. What grows without end has an attribute with too many values.", "short",
					"No metrics of calls",
					query(`count by (__name__) ({__name__=~"(rpc|rpcscope)_.+_(total|count|calls|state|limit)", @process})`, "{{__name__}}")).wide(12),
				table("Processes", "What reports, with version, runtime and host.", "Nothing has delivered metrics in this time range",
					cell{name: "Service", label: "service_name"},
					cell{name: "Instance", label: "instance"},
					cell{name: "Version", label: "service_version"},
					cell{name: "SDK", label: "telemetry_sdk_version"},
					cell{name: "Go", label: "process_runtime_version"},
					cell{name: "Host", label: "host_name"},
					cell{name: "Last delivery", unit: "s", steps: []step{{nil, "green"}, {60, "yellow"}, {180, "red"}},
						expr: `time() - max by (service_name, instance, service_version, telemetry_sdk_version, process_runtime_version, host_name) (timestamp(target_info{@process}))`},
				).wide(12),
			}},
		},
	}
}
