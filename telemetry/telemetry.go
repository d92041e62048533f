package telemetry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/log"
	nooplog "go.opentelemetry.io/otel/log/noop"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/rpcscope/rpcscope/propagation"
)

// Telemetry is the handle on what [Setup] built. It is safe for concurrent use.
type Telemetry struct {
	*core
	shared bool // the providers are another handle's
}

// core is shared by the handle that built it and by later, second ones.
type core struct {
	opts       *options
	diag       *diagnostics
	config     Config
	warnings   []error
	resource   *resource.Resource
	propagator *propagation.Propagator

	tracerProvider trace.TracerProvider
	meterProvider  metric.MeterProvider
	loggerProvider log.LoggerProvider
	logger         *slog.Logger

	signals   map[string]*signal
	reporters map[string]*reporter
	conns     *connections
	scrape    *prometheusExporter // nil when off

	closing  chan struct{}   // closed when Shutdown begins
	abort    context.Context // ends when Shutdown gives up or is done
	giveUp   context.CancelFunc
	shutdown sync.Once
	stopped  chan struct{} // closed when Shutdown is done
	result   error         // of the shutdown; read after stopped
}

// signal is what there is to flush, stop and count of traces, metrics or logs.
type signal struct {
	on         bool
	deliveries []*delivery
	queues     []queue
	readers    []sdkmetric.Reader
	cut        atomic.Bool // a shutdown came to no last collection
	flush      func(context.Context) error
	stop       func(context.Context) error
}

// queue is a batcher of either type.
type queue interface {
	queued() int
	droppedItems() int64
	ForceFlush(context.Context) error
	Shutdown(context.Context) error
}

var (
	activeMu sync.Mutex
	active   *core // what the OpenTelemetry globals point to
)

// Setup builds traces, metrics and logs from the OTEL_* environment variables
// and opts, installs them as OpenTelemetry's globals and returns at once:
// connections are made in the background.
//
// The handle is never nil and always safe to use. The error joins a
// [ConfigError] for each exporter or signal that could not be set up and is
// off; the others run. Its text has one line for each setting, with the signals
// that are not exported because of it. A program that goes on, as most should,
// logs it; Setup itself does not. Values that were replaced by a default are no
// error, see [Telemetry.Warnings]. ctx bounds the detection of resources only.
//
// While an earlier set-up is live, Setup returns [ErrAlreadySetup] and a
// handle that shares its providers, unless [WithoutGlobals] is used.
func Setup(ctx context.Context, opts ...Option) (*Telemetry, error) {
	o := newOptions(opts)
	if o.withoutGlobals {
		c, err := build(ctx, o)
		return &Telemetry{core: c}, err
	}
	activeMu.Lock()
	defer activeMu.Unlock()
	if active != nil {
		return &Telemetry{core: active, shared: true}, ErrAlreadySetup
	}
	c, err := build(ctx, o)
	active = c
	c.installGlobals()
	return &Telemetry{core: c}, err
}

// MustSetup is [Setup] for the first line of main:
//
//	defer telemetry.MustSetup(ctx).Close()
//
// It panics on any error of Setup: a setting that cannot be used, as
// OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317 without a scheme, ends the program
// where it starts. Use Setup, or [Run], for one that is to go on without the
// exporter. A wrong value that has a default, or a collector that is not there, is
// no error.
func MustSetup(ctx context.Context, opts ...Option) *Telemetry {
	t, err := Setup(ctx, opts...)
	if err != nil {
		_ = t.Close()
		panic(err)
	}
	return t
}

func build(ctx context.Context, o *options) (*core, error) {
	env := &environment{lookup: o.lookupEnv}
	fileErr := env.configFile(o) // first: it may take the environment's place
	c := &core{
		opts:           o,
		tracerProvider: nooptrace.NewTracerProvider(),
		meterProvider:  noopmetric.NewMeterProvider(),
		loggerProvider: nooplog.NewLoggerProvider(),
		signals:        map[string]*signal{},
		reporters:      map[string]*reporter{},
		conns:          newConnections(o.dialOptions),
		closing:        make(chan struct{}),
		stopped:        make(chan struct{}),
	}
	c.abort, c.giveUp = context.WithCancel(context.Background())
	for _, name := range []string{signalTraces, signalMetrics, signalLogs} {
		c.signals[name] = &signal{}
	}
	c.diag = env.newDiagnostics(o.diagnostics)
	if !o.withoutGlobals {
		c.diag.install() // before the SDK has anything to say
	}
	env.warnIgnored()
	c.resource = env.resource(ctx, o, rootFS())
	c.propagator = env.propagator(o)
	ctx = context.WithoutCancel(ctx) // the exporters do not wait for anything

	errs := []error{fileErr}
	if !env.disabled() && fileErr == nil {
		if !o.withoutGlobals {
			muteSDK()
		}
		errs = append(errs, c.buildTraces(ctx, env), c.buildMetrics(ctx, env), c.buildLogs(ctx, env), c.observeSelf())
		if !o.withoutGlobals {
			c.diag.install()
		}
	}
	c.logger = slog.New(c.slogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.minLogLevel})))
	env.optionSettings(o)
	c.config = Config{Settings: env.settings}
	c.warnings = env.warnings
	for _, w := range c.warnings {
		c.diag.Warn(w.Error())
	}
	if env.sourceOf("service.name") == sourceDetected && !o.withoutGlobals {
		c.diag.Info("the service has no name; set OTEL_SERVICE_NAME or use WithServiceName")
	}
	if o.strict {
		errs = append(errs, c.warnings...)
	}
	return c, joinSetup(errs...)
}

// rootFS is where containers leave their traces.
func rootFS() fs.FS { return os.DirFS("/") }

func (c *core) installGlobals() {
	otel.SetTracerProvider(c.tracerProvider)
	otel.SetMeterProvider(c.meterProvider)
	otel.SetLoggerProvider(c.loggerProvider)
	otel.SetTextMapPropagator(c.propagator)
	if c.opts.slogDefault {
		slog.SetDefault(c.logger)
	}
}

// delivery makes the delivery of one signal to one place.
func (c *core) delivery(name string, cfg otlpConfig) *delivery {
	place := cfg.endpoint.String()
	if cfg.protocol == protocolHTTP { // the path differs by signal, the server does not
		place = endpoint{scheme: cfg.endpoint.scheme, host: cfg.endpoint.host}.String()
	}
	r := c.reporters[place]
	if r == nil {
		r = newReporter(c.diag, place, cfg.defaulted)
		c.reporters[place] = r
	}
	r.defaulted = r.defaulted && cfg.defaulted // one signal that names it is enough
	d := &delivery{signal: name, timeout: cfg.timeout, report: r, closing: c.closing, abort: c.abort}
	c.signals[name].deliveries = append(c.signals[name].deliveries, d)
	return d
}

// otlpDelivery resolves how a signal goes over OTLP and prepares its delivery.
func (c *core) otlpDelivery(env *environment, name string) (otlpConfig, *delivery, error) {
	cfg, err := env.otlp(c.opts, name)
	if err != nil {
		return cfg, nil, env.located(err)
	}
	c.diag.hide(cfg.secrets())
	return cfg, c.delivery(name, cfg), nil
}

// exporterError says that an exporter could not be made of valid settings.
func exporterError(name string, cfg otlpConfig, err error) error {
	return &ConfigError{Signal: name, Source: "OTLP exporter", Value: cfg.endpoint.String(), Reason: err.Error()}
}

// full warns, once, of a queue that drops.
func (c *core) full(name, variable string) func() {
	return func() {
		c.diag.Warn("the queue of "+name+" is full and drops; said once, Stats counts them", "hint", "a larger "+variable+", or a faster collector")
	}
}

func (c *core) buildTraces(ctx context.Context, env *environment) error {
	s, o := c.signals[signalTraces], c.opts
	outputs, err := env.outputs(signalTraces, o.withoutTraces)
	off := err != nil || o.withoutTraces && outputs == nil
	if off {
		if o.withoutTraces && slices.ContainsFunc(o.spanProcessors, isConsole) {
			env.warn("", "WithConsole", "", "it prints nothing beside WithoutTraces, which turns the traces off; OTEL_TRACES_EXPORTER=none stops their export alone", "no traces")
		}
		return err
	}
	processors := slices.Clone(o.spanProcessors)
	batch := env.batch(signalTraces, "OTEL_BSP_", 5e9)
	queueFull := c.full(signalTraces, "OTEL_BSP_MAX_QUEUE_SIZE")
	for _, out := range outputs {
		switch out.name {
		case exporterConsole:
			if !slices.ContainsFunc(processors, printsToStdout) {
				processors = append(processors, NewConsole(nil))
			}
		case exporterOTLP:
			batch := batch
			if out.env != env {
				batch = out.env.batch(signalTraces, "OTEL_BSP_", 5e9)
			}
			cfg, d, otlpErr := c.otlpDelivery(out.env, signalTraces)
			if otlpErr != nil {
				err = errors.Join(err, otlpErr)
				continue
			}
			e, makeErr := c.conns.spanExporter(ctx, cfg)
			if makeErr != nil {
				err = errors.Join(err, exporterError(signalTraces, cfg, makeErr))
				continue
			}
			p := newSpanProcessor(batch, e, d, queueFull)
			s.queues, processors = append(s.queues, p), append(processors, p)
		}
	}
	for i, e := range o.spanExporters {
		name := "WithSpanExporter"
		if i > 0 { // each is doing well or badly by itself
			name += "#" + strconv.Itoa(i+1)
		}
		d := c.delivery(signalTraces, customExporter(name, batch))
		d.once = true
		p := newSpanProcessor(batch, e, d, queueFull)
		s.queues, processors = append(s.queues, p), append(processors, p)
	}
	env.adopt(signalTraces, outputs)
	sampler, limits := env.sampler(o), env.spanLimits()
	if len(processors) == 0 {
		return err
	}
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(c.resource),
		sdktrace.WithSampler(sampler),
		sdktrace.WithRawSpanLimits(limits),
	}
	for _, p := range processors {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	tp := sdktrace.NewTracerProvider(opts...)
	c.tracerProvider, s.on, s.flush, s.stop = tp, true, tp.ForceFlush, tp.Shutdown
	return err
}

// customExporter stands for the settings of an exporter that the user made.
func customExporter(option string, batch batchConfig) otlpConfig {
	return otlpConfig{endpoint: endpoint{scheme: "exporter", host: option}, protocol: protocolGRPC, timeout: batch.timeout}
}

func (c *core) buildMetrics(ctx context.Context, env *environment) error {
	s, o := c.signals[signalMetrics], c.opts
	outputs, err := env.outputs(signalMetrics, o.withoutMetrics)
	off := err != nil || o.withoutMetrics && outputs == nil
	if off {
		return err
	}
	general := env.metric(o)
	readers := slices.Clone(o.metricReaders)
	var scraped *environment // has the settings of the scraping; nil when there is none
	if o.prometheus != nil {
		scraped = env
	}
	for _, out := range outputs {
		cfg := general
		if out.env != env {
			cfg = out.env.metric(o)
		}
		switch out.name {
		case exporterPrometheus:
			scraped = out.env
		case exporterConsole:
			readers = append(readers, sdkmetric.NewPeriodicReader(newMetricConsole(os.Stdout), out.readerOptions(cfg)...))
		case exporterOTLP:
			otlp, d, otlpErr := c.otlpDelivery(out.env, signalMetrics)
			if otlpErr != nil {
				err = errors.Join(err, otlpErr)
				continue
			}
			e, makeErr := c.conns.metricExporter(ctx, otlp, cfg)
			if makeErr != nil {
				err = errors.Join(err, exporterError(signalMetrics, otlp, makeErr))
				continue
			}
			d.timeout = min(d.timeout, cfg.timeout)
			readers = append(readers, sdkmetric.NewPeriodicReader(&metricExporter{Exporter: e, delivery: d}, out.readerOptions(cfg)...))
		}
	}
	if scraped != nil {
		asked := slices.ContainsFunc(outputs, func(out wayOut) bool { return out.name == exporterPrometheus })
		addr := scraped.prometheusAddr(o, asked)
		p, reader, scrapeErr := newPrometheusExporter(addr, scraped.sourceOf("metrics.prometheus"), c.diag)
		err = errors.Join(err, scrapeErr)
		if reader != nil {
			c.scrape, readers = p, append(readers, reader)
		}
	}
	env.adopt(signalMetrics, outputs)
	if len(readers) == 0 {
		return err
	}
	opts := []sdkmetric.Option{
		sdkmetric.WithResource(c.resource),
		sdkmetric.WithExemplarFilter(general.exemplars),
		sdkmetric.WithView(o.views...),
	}
	for _, r := range readers {
		opts = append(opts, sdkmetric.WithReader(r))
	}
	mp := sdkmetric.NewMeterProvider(opts...)
	c.meterProvider, s.on, s.flush, s.stop, s.readers = mp, true, mp.ForceFlush, mp.Shutdown, readers
	if o.runtimeMetrics {
		if rtErr := runtime.Start(runtime.WithMeterProvider(mp)); rtErr != nil {
			env.warn("", "WithRuntimeMetrics", "", rtErr.Error(), "no runtime metrics")
		}
	}
	return err
}

func (c *core) buildLogs(ctx context.Context, env *environment) error {
	s, o := c.signals[signalLogs], c.opts
	outputs, err := env.outputs(signalLogs, o.withoutLogs)
	off := err != nil || o.withoutLogs && outputs == nil
	if off {
		return err
	}
	processors := slices.Clone(o.logProcessors)
	batch := env.batch(signalLogs, "OTEL_BLRP_", 1e9)
	for _, out := range outputs {
		switch out.name {
		case exporterConsole:
			processors = append(processors, newLogConsole(os.Stdout))
		case exporterOTLP:
			batch := batch
			if out.env != env {
				batch = out.env.batch(signalLogs, "OTEL_BLRP_", 1e9)
			}
			cfg, d, otlpErr := c.otlpDelivery(out.env, signalLogs)
			if otlpErr != nil {
				err = errors.Join(err, otlpErr)
				continue
			}
			e, makeErr := c.conns.logExporter(ctx, cfg)
			if makeErr != nil {
				err = errors.Join(err, exporterError(signalLogs, cfg, makeErr))
				continue
			}
			p := newLogProcessor(batch, e, d, c.full(signalLogs, "OTEL_BLRP_MAX_QUEUE_SIZE"))
			s.queues, processors = append(s.queues, p), append(processors, p)
		}
	}
	env.adopt(signalLogs, outputs)
	count, length := env.logLimits()
	if len(processors) == 0 {
		return err
	}
	opts := []sdklog.LoggerProviderOption{
		sdklog.WithResource(c.resource),
		sdklog.WithAttributeCountLimit(count),
		sdklog.WithAttributeValueLengthLimit(length),
	}
	for _, p := range processors {
		opts = append(opts, sdklog.WithProcessor(p))
	}
	lp := sdklog.NewLoggerProvider(opts...)
	c.loggerProvider, s.on, s.flush, s.stop = lp, true, lp.ForceFlush, lp.Shutdown
	return err
}

// TracerProvider returns the tracer provider; a no-op one when traces are off.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracerProvider }

// MeterProvider returns the meter provider; a no-op one when metrics are off.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meterProvider }

// LoggerProvider returns the logger provider; a no-op one when the export of logs is off.
func (t *Telemetry) LoggerProvider() log.LoggerProvider { return t.loggerProvider }

// Propagator returns the propagator, a [*propagation.Propagator]. It works with
// OTEL_SDK_DISABLED too.
func (t *Telemetry) Propagator() otelprop.TextMapPropagator { return t.propagator }

// Resource returns what all telemetry of this handle is attributed to.
func (t *Telemetry) Resource() *resource.Resource { return t.resource }

// Logger returns a logger that writes text to stderr and exports the same
// records over OTLP; both carry trace, span, request id and identity.
func (t *Telemetry) Logger() *slog.Logger { return t.logger }

// SlogHandler returns a handler that passes records to base and exports them
// over OTLP, each with the trace_id, span_id and request_id of its context and
// the tenant.id and user.hash of its identity. Keys that a record already has
// are left as they are; the keys stand outside any group. base keeps its own
// level; the export starts at [WithMinLogLevel]. nil exports only.
//
// The result may become slog's default, also when base is the initial default
// handler, which would otherwise wait for itself: text goes to stderr then.
func (t *Telemetry) SlogHandler(base slog.Handler) slog.Handler { return t.slogHandler(base) }

// MetricsHandler serves the metrics in Prometheus' text format, or OpenMetrics
// with exemplars to a scraper that asks for it. It answers 503 unless
// [WithPrometheus] or OTEL_METRICS_EXPORTER=prometheus is used.
func (t *Telemetry) MetricsHandler() http.Handler { return t.scrape.handler() }

// Config returns the effective settings, each with its source.
func (t *Telemetry) Config() Config { return Config{Settings: slices.Clone(t.config.Settings)} }

// Warnings returns a [ConfigError] for each setting that was wrong and
// replaced by a default.
func (t *Telemetry) Warnings() []error { return slices.Clone(t.warnings) }
