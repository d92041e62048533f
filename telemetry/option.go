package telemetry

import (
	"crypto/tls"
	"io"
	"log/slog"
	"maps"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/propagation"
)

// Option configures [Setup]. Where an OTEL_* environment variable says the
// same thing, the variable wins: who runs a program has the last word. A nil
// Option is skipped.
type Option interface{ apply(*options) }

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

type options struct {
	serviceName, serviceVersion, environment *string
	attributes                               []attribute.KeyValue
	detectors                                []resource.Detector

	endpoint    *string
	protocol    *string
	headers     map[string]string
	tlsConfig   *tls.Config
	dialOptions []grpc.DialOption
	prometheus  *string

	withoutTraces, withoutMetrics, withoutLogs bool

	sampler     sdktrace.Sampler
	sampleRatio *float64
	propagation []propagation.Option

	spanProcessors []sdktrace.SpanProcessor
	spanExporters  []sdktrace.SpanExporter
	metricReaders  []sdkmetric.Reader
	views          []sdkmetric.View
	logProcessors  []sdklog.Processor

	metricInterval *time.Duration
	exponential    bool
	runtimeMetrics bool
	minLogLevel    slog.Level
	slogDefault    bool

	shutdownTimeout time.Duration
	diagnostics     slog.Handler
	withoutGlobals  bool
	strict          bool
	lookupEnv       func(string) (string, bool)
	configFile      string
	readConfigFile  ReadConfigFile
}

func newOptions(opts []Option) *options {
	o := &options{
		runtimeMetrics:  true,
		shutdownTimeout: 5 * time.Second,
		lookupEnv:       os.LookupEnv,
	}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(o)
		}
	}
	return o
}

// WithServiceName names the service: resource attribute service.name.
// OTEL_SERVICE_NAME, or service.name in OTEL_RESOURCE_ATTRIBUTES, wins. The
// default is "unknown_service:" and the name of the executable.
func WithServiceName(name string) Option {
	return optionFunc(func(o *options) { o.serviceName = &name })
}

// WithServiceVersion sets service.version. The default is the version of the
// main module, else its VCS revision, as the Go tool recorded them.
func WithServiceVersion(version string) Option {
	return optionFunc(func(o *options) { o.serviceVersion = &version })
}

// WithEnvironment sets deployment.environment.name, as in "production". There is no default.
func WithEnvironment(name string) Option {
	return optionFunc(func(o *options) { o.environment = &name })
}

// WithResourceAttributes adds attributes to the resource. They win over
// detected ones; OTEL_RESOURCE_ATTRIBUTES wins over them. May be used repeatedly.
func WithResourceAttributes(attrs ...attribute.KeyValue) Option {
	return optionFunc(func(o *options) { o.attributes = append(o.attributes, attrs...) })
}

// WithResourceDetectors adds detectors to the built-in ones. They run side by
// side and are given 2 seconds; one that fails or is late is warned of and
// left out. Schema URLs that differ are no error. nil is skipped.
func WithResourceDetectors(detectors ...resource.Detector) Option {
	return optionFunc(func(o *options) {
		for _, d := range detectors {
			if d != nil {
				o.detectors = append(o.detectors, d)
			}
		}
	})
}

// WithEndpoint sets where OTLP goes: "http://collector:4317" is plaintext,
// "https://collector:4317" is TLS, a bare "host:port" is plaintext on loopback
// and an error elsewhere. Port 4318 means OTLP/HTTP unless a protocol is
// set. OTEL_EXPORTER_OTLP_ENDPOINT and its per-signal forms win. The default
// is http://localhost:4317.
func WithEndpoint(url string) Option {
	return optionFunc(func(o *options) { o.endpoint = &url })
}

// WithProtocol sets the OTLP protocol: "grpc" (the default, except on port
// 4318) or "http/protobuf". OTEL_EXPORTER_OTLP_PROTOCOL wins.
func WithProtocol(protocol string) Option {
	return optionFunc(func(o *options) { o.protocol = &protocol })
}

// WithHeaders adds headers to every OTLP request, for instance a back end's API
// key. OTEL_EXPORTER_OTLP_HEADERS wins header by header. Their values appear in
// no message and no [Config].
func WithHeaders(headers map[string]string) Option {
	return optionFunc(func(o *options) {
		if o.headers == nil {
			o.headers = map[string]string{}
		}
		maps.Copy(o.headers, headers)
	})
}

// WithTLSConfig sets the TLS configuration of OTLP connections; it is used
// where the endpoint's scheme is https, or missing. Certificates named by
// OTEL_EXPORTER_OTLP_CERTIFICATE and CLIENT_CERTIFICATE win. nil means the
// system's roots.
func WithTLSConfig(cfg *tls.Config) Option {
	return optionFunc(func(o *options) { o.tlsConfig = cfg })
}

// WithGRPCDialOptions adds dial options to OTLP/gRPC connections, after our own.
func WithGRPCDialOptions(opts ...grpc.DialOption) Option {
	return optionFunc(func(o *options) { o.dialOptions = append(o.dialOptions, opts...) })
}

// WithPrometheus makes metrics available for scraping, beside OTLP: on
// [Telemetry.MetricsHandler], and at http://addr/metrics when addr, a
// "host:port", is not empty. OTEL_EXPORTER_PROMETHEUS_HOST and _PORT win.
func WithPrometheus(addr string) Option {
	return optionFunc(func(o *options) { o.prometheus = &addr })
}

// WithConsole prints every finished trace to w as a tree, for a terminal. It is
// WithSpanProcessor(NewConsole(w)); see [Console]. Beside it the exporters go on, by
// default to OTLP: OTEL_TRACES_EXPORTER=none stops that of traces and leaves the
// trees, [WithoutTraces] stops both, and warns. OTEL_TRACES_EXPORTER=console, which
// prints to stdout, adds nothing where w is [os.Stdout] or nil.
func WithConsole(w io.Writer) Option { return WithSpanProcessor(NewConsole(w)) }

// WithoutTraces turns traces off. OTEL_TRACES_EXPORTER turns them on again.
func WithoutTraces() Option { return optionFunc(func(o *options) { o.withoutTraces = true }) }

// WithoutMetrics turns metrics off. OTEL_METRICS_EXPORTER turns them on again.
func WithoutMetrics() Option { return optionFunc(func(o *options) { o.withoutMetrics = true }) }

// WithoutLogs turns the export of logs off; [Telemetry.Logger] still writes to
// stderr. OTEL_LOGS_EXPORTER turns it on again.
func WithoutLogs() Option { return optionFunc(func(o *options) { o.withoutLogs = true }) }

// WithSampler sets the sampler. OTEL_TRACES_SAMPLER wins. nil means the
// default: every trace, unless the caller decided otherwise.
func WithSampler(s sdktrace.Sampler) Option { return optionFunc(func(o *options) { o.sampler = s }) }

// WithSampleRatio samples this share, 0 to 1, of the traces that start here
// and follows the caller's decision for the others. A ratio out of range is
// warned of and 1 is used. [WithSampler] and OTEL_TRACES_SAMPLER win.
func WithSampleRatio(ratio float64) Option {
	return optionFunc(func(o *options) { o.sampleRatio = &ratio })
}

// WithPropagation passes options to the [propagation.Propagator] that Setup
// installs. May be used repeatedly.
func WithPropagation(opts ...propagation.Option) Option {
	return optionFunc(func(o *options) { o.propagation = append(o.propagation, opts...) })
}

// WithSpanProcessor adds a span processor, beside the exporters. It is called
// while spans start and end: it must not block. nil is skipped.
func WithSpanProcessor(p sdktrace.SpanProcessor) Option {
	return optionFunc(func(o *options) {
		if p != nil {
			o.spanProcessors = append(o.spanProcessors, p)
		}
	})
}

// WithSpanExporter adds a span exporter, beside the configured ones, behind the
// same bounded queue and with the same reporting. Its exports are called one at
// a time, and once for each batch: retrying is its own business. nil is skipped.
func WithSpanExporter(e sdktrace.SpanExporter) Option {
	return optionFunc(func(o *options) {
		if e != nil {
			o.spanExporters = append(o.spanExporters, e)
		}
	})
}

// WithMetricReader adds a metric reader, beside the exporters. nil is skipped.
func WithMetricReader(r sdkmetric.Reader) Option {
	return optionFunc(func(o *options) {
		if r != nil {
			o.metricReaders = append(o.metricReaders, r)
		}
	})
}

// WithView adds metric views.
func WithView(views ...sdkmetric.View) Option {
	return optionFunc(func(o *options) { o.views = append(o.views, views...) })
}

// WithMetricInterval sets the interval between metric exports. The default is
// 15 seconds, also for d <= 0; OTEL_METRIC_EXPORT_INTERVAL wins.
func WithMetricInterval(d time.Duration) Option {
	return optionFunc(func(o *options) {
		if o.metricInterval = nil; d > 0 {
			o.metricInterval = &d
		}
	})
}

// WithExponentialHistograms exports histograms over OTLP as base-2 exponential
// ones. Prometheus exposition keeps explicit buckets: scraped as text, an
// exponential histogram has the +Inf bucket only.
func WithExponentialHistograms() Option {
	return optionFunc(func(o *options) { o.exponential = true })
}

// WithRuntimeMetrics switches the Go runtime's metrics (go.memory.used,
// go.goroutine.count, ...). They are on by default.
func WithRuntimeMetrics(on bool) Option {
	return optionFunc(func(o *options) { o.runtimeMetrics = on })
}

// WithLogProcessor adds a log processor, beside the exporters. nil is skipped.
func WithLogProcessor(p sdklog.Processor) Option {
	return optionFunc(func(o *options) {
		if p != nil {
			o.logProcessors = append(o.logProcessors, p)
		}
	})
}

// WithMinLogLevel sets the lowest level that [Telemetry.Logger] writes and that
// [Telemetry.SlogHandler] exports. The default is [slog.LevelInfo].
func WithMinLogLevel(level slog.Level) Option {
	return optionFunc(func(o *options) { o.minLogLevel = level })
}

// WithSlogDefault makes [Telemetry.Logger] the default logger of log/slog, and
// so of package log.
func WithSlogDefault() Option { return optionFunc(func(o *options) { o.slogDefault = true }) }

// WithShutdownTimeout bounds [Telemetry.Shutdown] when its context has no
// deadline, or a later one. The default is 5 seconds, also for d <= 0.
func WithShutdownTimeout(d time.Duration) Option {
	return optionFunc(func(o *options) {
		if d > 0 {
			o.shutdownTimeout = d
		}
	})
}

// WithDiagnostics sets where this package reports about itself: an unreachable
// collector, dropped spans, wrong settings. The default writes text to stderr,
// at the level of OTEL_LOG_LEVEL; nil means the default. A handler that leads
// back into [Telemetry.SlogHandler] would feed on itself.
func WithDiagnostics(h slog.Handler) Option {
	return optionFunc(func(o *options) { o.diagnostics = h })
}

// WithoutGlobals leaves OpenTelemetry's global providers, propagator, logger
// and error handler alone. Any number of such handles may live side by side.
func WithoutGlobals() Option { return optionFunc(func(o *options) { o.withoutGlobals = true }) }

// WithStrict makes every warning an error of [Setup], and [Run] return it
// without calling its function.
func WithStrict() Option { return optionFunc(func(o *options) { o.strict = true }) }

// WithLookupEnv replaces [os.LookupEnv] as the source of OTEL_* variables; nil
// means os.LookupEnv. The OpenTelemetry SDK itself still adds the process's
// own OTEL_RESOURCE_ATTRIBUTES to the resource.
func WithLookupEnv(lookup func(string) (string, bool)) Option {
	return optionFunc(func(o *options) {
		if o.lookupEnv = lookup; lookup == nil {
			o.lookupEnv = os.LookupEnv
		}
	})
}
