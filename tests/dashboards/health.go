package main

import "fmt"

func health() board {
	const (
		silent = "No process reports its runtime"
		untold = "No process tells what becomes of its telemetry"
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
					override("/^calls /", append(dashed, property("custom.axisPlacement", "right"))...).wide(12),
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
				number("Lost", "Spans, log records and data points that were dropped, since the queue was full, or not delivered, in the time range.", "short", untold,
					[]step{{nil, "green"}, {1, "red"}},
					query(`sum(`+lost("increase", "$__range")+`)`, "__auto")).decimals(0).tall(),
				number("Spans dropped", "Spans that were never sent, since the queue was full, in the time range. A larger OTEL_BSP_MAX_QUEUE_SIZE or a faster collector helps.",
					"short", untold, []step{{nil, "green"}, {1, "red"}},
					query(`sum(increase(otel_sdk_processor_span_processed_total{error_type="queue_full", @process}[$__range]))`, "__auto")).decimals(0).tall(),
				lines("Telemetry lost", "Spans, log records and data points per second that were dropped, since the queue was full, or failed, since they could not be delivered.",
					"short", untold,
					query(lost("rate", "$__rate_interval"), "{{signal}} {{fate}} "+labels)),
				lines("Telemetry delivered", "Spans, log records and data points per second that the back end has accepted.", "short", untold,
					query(either(
						part{`rate(otel_sdk_exporter_span_exported_total{error_type="", @process}[$__rate_interval])`, "spans", "delivered"},
						part{`rate(otel_sdk_exporter_log_exported_total{error_type="", @process}[$__rate_interval])`, "log records", "delivered"},
						part{`rate(otel_sdk_exporter_metric_data_point_exported_total{error_type="", @process}[$__rate_interval])`, "data points", "delivered"},
					), "{{signal}} "+labels)),
				lines("Telemetry processed and queued", "Spans and log records per second that were exported or given up, and how many wait (dashed). "+
					"At OTEL_BSP_MAX_QUEUE_SIZE, 2048 by default, more are dropped.", "short", untold,
					query(either(
						part{`rate(otel_sdk_processor_span_processed_total{error_type="", @process}[$__rate_interval])`, "spans", "processed"},
						part{`rate(otel_sdk_processor_log_processed_total{error_type="", @process}[$__rate_interval])`, "log records", "processed"},
					), "{{signal}} {{fate}} "+labels),
					query(either(
						part{`otel_sdk_processor_span_queue_size{@process}`, "spans", "queued"},
						part{`otel_sdk_processor_log_queue_size{@process}`, "log records", "queued"},
					), "queued {{signal}} "+labels)).override("/^queued /", dashed...).wide(24),
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

// A part is what one of several metrics tells of a signal.
type part struct{ expr, signal, fate string }

// either has the parts beside each other, each under its name: not every process exports every signal.
func either(parts ...part) string {
	var expr string
	for i, p := range parts {
		if i > 0 {
			expr += " or "
		}
		expr += fmt.Sprintf(`label_replace(label_replace(sum by (service_name, instance) (%s), "signal", "%s", "", ""), "fate", "%s", "", "")`, p.expr, p.signal, p.fate)
	}
	return expr
}

// lost is what was never sent, and what was sent in vain.
func lost(function, window string) string {
	of := func(metric string) string {
		return function + `(` + metric + `{error_type!="", @process}[` + window + `])`
	}
	return either(
		part{of("otel_sdk_processor_span_processed_total"), "spans", "dropped"},
		part{of("otel_sdk_exporter_span_exported_total"), "spans", "failed"},
		part{of("otel_sdk_processor_log_processed_total"), "log records", "dropped"},
		part{of("otel_sdk_exporter_log_exported_total"), "log records", "failed"},
		part{of("otel_sdk_exporter_metric_data_point_exported_total"), "data points", "failed"},
	)
}
