// Package otelconf lets [telemetry.Setup] honour OTEL_CONFIG_FILE, the
// declarative configuration of OpenTelemetry:
//
//	tel, err := telemetry.Setup(ctx, otelconf.FromEnvironment())
//
// It is a module of its own, so that only those who want files depend on YAML.
//
// # What a file says
//
//	file_format: "1.0"
//	resource:
//	  attributes:
//	    - name: service.name
//	      value: ${SERVICE:-users}
//	tracer_provider:
//	  sampler:
//	    parent_based:
//	      root:
//	        trace_id_ratio_based:
//	          ratio: 0.1
//	  processors:
//	    - batch:
//	        exporter:
//	          otlp_grpc:
//	            endpoint: http://collector:4317
//	            headers:
//	              - name: api-key
//	                value: ${API_KEY}
//	meter_provider:
//	  readers:
//	    - periodic:
//	        exporter:
//	          otlp_http:
//	            endpoint: http://collector:4318/v1/metrics
//
// The schema is version 1.0 of
// https://github.com/open-telemetry/opentelemetry-configuration, in the types
// of go.opentelemetry.io/contrib/otelconf, with several processors and readers
// for each signal, views, samplers and limits. A reference ${NAME},
// ${env:NAME} or ${NAME:-default} stands in a value and cannot add keys; $$ is
// a dollar sign.
//
// The file replaces all other OTEL_* variables, and what it says wins over
// options. A signal it does not mention is not exported.
//
// # What is checked
//
// Everything, before anything is built. A key that does not exist, anywhere, a
// value of the wrong type and a key that is missing are errors of Setup; each
// names the file, the line and the path of the key, and says what is allowed
// there. No value of the file is part of a message unless it is one of a fixed
// list. With such an error nothing is exported, and the service runs.
//
// Values that a variable could have too are checked as those are: a wrong
// number is warned of and replaced by the default, an exporter that cannot be
// made is an error and the others run.
//
// # What is different
//
// Exporters, queues and shutdown are those of package telemetry, not the ones
// that contrib's NewSDK builds: batches that never block a call,
// [telemetry.Telemetry.Stats] and reports about each place that telemetry goes
// to. It follows that
//
//   - a simple processor is a batch, with a warning, unless its exporter is the console;
//   - the console is [telemetry.Console];
//   - the propagator is the suite's, with tracecontext and baggage, also where the file names none; others are warned of;
//   - readers export every 15 seconds unless they say otherwise;
//   - the resource is detected as usual, beside the attributes of the file;
//   - pull: {exporter: {prometheus/development: {host: ..., port: ...}}} serves metrics as [telemetry.WithPrometheus] does.
//
// Other experimental parts of the schema (keys that end in /development),
// distribution, schema_url, producers and a view's cardinality limit are warned
// of and ignored.
package otelconf
