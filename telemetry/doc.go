// Package telemetry sets up OpenTelemetry traces, metrics and logs in one line,
// and takes them down again without losing data or time.
//
//	func main() {
//		ctx := context.Background()
//		tel := telemetry.MustSetup(ctx, telemetry.WithServiceName("users"))
//		defer tel.Close()
//
//		logger := tel.Logger()
//		server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(logger))...)
//		...
//	}
//
// [Run] does the same for a whole program, with signals and panics taken care of.
//
// # What comes out
//
// Without any configuration everything goes by OTLP/gRPC, in plaintext, to
// localhost:4317. If nothing listens there, one line on stderr says so and the
// service runs on. [WithConsole] prints finished traces as trees in a terminal,
// beside OTLP, which OTEL_TRACES_EXPORTER=none stops; [WithPrometheus] exposes metrics for scraping.
//
// # Configuration
//
// The OTEL_* environment variables of the OpenTelemetry specification win over
// options, options over what is detected, that over defaults;
// [Telemetry.Config] tells the value of each setting and where it came from.
// The environment is read once and validated: a wrong number or name is
// replaced by the default and reported ([Telemetry.Warnings]). A setting that
// cannot be used, as an endpoint in no known form, turns off the exporter that it is
// of and no other: Setup returns an error and the service can run on, [Run] reports
// it and runs on, and [MustSetup] panics. An empty variable is an unset one. ENVIRONMENT.md beside this file lists them all, and
// those of the specification that are not honoured, with the reason.
// OTEL_CONFIG_FILE is honoured with the module telemetry/otelconf; see
// [WithConfigFile].
//
// An endpoint's scheme decides about TLS, for all signals alike: http is
// plaintext, https is TLS. "host:port" without a scheme is plaintext on loopback
// and an error elsewhere. Port 4318 means OTLP/HTTP unless
// OTEL_EXPORTER_OTLP_PROTOCOL says otherwise.
//
// # Secrets
//
// Header values, tokens in a URL's path, what certificate and key files hold:
// none of it is in a report, an error, [Telemetry.Config] or [Telemetry.Stats],
// not even where a back end quotes it. A URL with a user, a password or a query
// is refused, and not shown: credentials go into OTEL_EXPORTER_OTLP_HEADERS or
// [WithHeaders]. The attributes of the resource are telemetry and go where it
// goes; the command line is never one of them.
//
// # When the collector is in trouble
//
// No RPC ever waits for telemetry: spans and log records go through bounded
// queues that drop, and count, what does not fit: with the default sizes, 200,000
// spans and as many log records beside a dead collector hold 4 to 7 MB. Failed
// batches are retried for OTEL_EXPORTER_OTLP_TIMEOUT, 10 seconds by default, and
// then given up. A collector that comes late, or back, is found within 10
// seconds. [Telemetry.Stats] counts every span and record.
//
// Trouble with a configured endpoint is reported at once, after 1, 5 and 15
// minutes and every 15 minutes from then on, with counts, and once more when it
// is over; an endpoint that comes and goes is reported ever less often, down to
// every 15 minutes. A back end that does not take a signal, as Jaeger does not
// take logs, is warned of once and left alone with that signal for 5 minutes at
// a time.
//
// [Telemetry.Shutdown] takes half a second more than it is given, at the very
// most, whatever the collector, the network or an exporter of your own does, and
// returns [ErrDataLost] when something did not arrive.
//
// Reports go to [WithDiagnostics], by default stderr, and never through
// slog.Default, from where they might come back as telemetry. No report holds a
// header's value.
package telemetry
