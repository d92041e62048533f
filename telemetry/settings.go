package telemetry

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rpcscope/rpcscope/propagation"
)

const (
	exporterOTLP       = "otlp"
	exporterConsole    = "console"
	exporterPrometheus = "prometheus"
	exporterNone       = "none"
)

// exporters resolves one signal's list of exporters: empty means none.
func (e *environment) exporters(signal string, without bool) ([]string, error) {
	name := "OTEL_" + strings.ToUpper(signal) + "_EXPORTER"
	allowed := []string{exporterOTLP, exporterConsole, exporterNone}
	if signal == signalMetrics {
		allowed = []string{exporterOTLP, exporterPrometheus, exporterConsole, exporterNone}
	}
	list, source := []string{exporterOTLP}, sourceDefault
	if without {
		list, source = nil, "Without"+strings.ToUpper(signal[:1])+signal[1:]
	}
	if v, _ := e.get(name); len(splitList(v)) > 0 {
		list, source = splitList(strings.ToLower(v)), name
		for _, x := range list {
			if !slices.Contains(allowed, x) {
				return nil, &ConfigError{Signal: signal, Source: name, Value: v, Reason: "want " + orList(allowed) + ", or a list of them"}
			}
		}
		if i := slices.Index(list, exporterNone); i >= 0 {
			if len(list) > 1 {
				e.warn("", name, v, "none excludes the others", exporterNone)
			}
			list = nil
		}
	}
	shown := strings.Join(list, ",")
	if shown == "" {
		shown = exporterNone
	}
	e.set(signal+".exporters", shown, source)
	return list, nil
}

// disabled reports OTEL_SDK_DISABLED.
func (e *environment) disabled() bool {
	return resolve(e, "disabled", parseBool, nil, "", false, "OTEL_SDK_DISABLED")
}

var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// sampler resolves the sampler: OTEL_TRACES_SAMPLER, WithSampler, WithSampleRatio, default.
func (e *environment) sampler(o *options) sdktrace.Sampler {
	s, source := sdktrace.ParentBased(sdktrace.AlwaysSample()), sourceDefault
	switch {
	case o.sampler != nil:
		s, source = o.sampler, "WithSampler"
	case o.sampleRatio != nil:
		ratio, err := parseRatio(strconv.FormatFloat(*o.sampleRatio, 'g', -1, 64))
		if err != nil {
			e.warn("", "WithSampleRatio", fmt.Sprint(*o.sampleRatio), err.Error(), "1")
		}
		s, source = sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), "WithSampleRatio"
	}
	v, name := e.get("OTEL_TRACES_SAMPLER")
	arg, argName := e.get("OTEL_TRACES_SAMPLER_ARG")
	if name != "" {
		kind := strings.ToLower(v)
		switch {
		case !slices.Contains(samplers, kind):
			e.warn("", name, v, "want "+orList(samplers), s.Description())
		case strings.HasSuffix(kind, "traceidratio"):
			s, source = e.ratioSampler(kind, arg, argName), name
		default:
			s, source = fixedSampler(kind), name
			if argName != "" {
				e.warn("", argName, arg, "has no effect on "+kind, s.Description())
			}
		}
	} else if argName != "" {
		e.warn("", argName, arg, "has no effect without OTEL_TRACES_SAMPLER", s.Description())
	}
	e.set("traces.sampler", s.Description(), source)
	return s
}

func (e *environment) ratioSampler(kind, arg, argName string) sdktrace.Sampler {
	ratio := 1.0
	if argName != "" {
		r, err := parseRatio(arg)
		if err != nil {
			e.warn("", argName, arg, err.Error(), "1 (every trace is sampled)")
		}
		ratio = r
	}
	s := sdktrace.TraceIDRatioBased(ratio)
	if strings.HasPrefix(kind, "parentbased_") {
		s = sdktrace.ParentBased(s)
	}
	return s
}

func fixedSampler(kind string) sdktrace.Sampler {
	switch kind {
	case "always_on":
		return sdktrace.AlwaysSample()
	case "always_off":
		return sdktrace.NeverSample()
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample())
	}
	return sdktrace.ParentBased(sdktrace.AlwaysSample())
}

// parseRatio returns 1 beside an error: what is then sampled.
func parseRatio(s string) (float64, error) {
	r, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(r) || r < 0 || r > 1 {
		return 1, errors.New("want a number from 0 to 1, as in 0.1")
	}
	return r, nil
}

// propagator builds the propagator of OTEL_PROPAGATORS and WithPropagation.
func (e *environment) propagator(o *options) *propagation.Propagator {
	names, source := []string{"tracecontext", "baggage"}, sourceDefault
	var opts []propagation.Option
	if v, name := e.get("OTEL_PROPAGATORS"); name != "" {
		list := splitList(strings.ToLower(v))
		known := slices.DeleteFunc(slices.Clone(list), func(s string) bool {
			return s != "tracecontext" && s != "baggage" && s != exporterNone
		})
		unknown := len(list) - len(known)
		if slices.Contains(known, exporterNone) {
			if len(known) > 1 {
				e.warn("", name, v, "none excludes the others", exporterNone)
			}
			known = nil
		}
		if unknown < len(list) { // else nobody knows what was meant
			names, source = known, name
		}
		if unknown > 0 {
			e.warn("", name, v, "want tracecontext, baggage or none (others: WithPropagation)", orNone(names))
		}
	}
	if !slices.Contains(names, "tracecontext") {
		opts = append(opts, propagation.WithTraceContext(otelprop.NewCompositeTextMapPropagator()))
	}
	if !slices.Contains(names, "baggage") {
		opts = append(opts, propagation.WithoutBaggage())
	}
	e.set("propagators", orNone(names), source)
	return propagation.New(append(slices.Clone(o.propagation), opts...)...)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return exporterNone
	}
	return strings.Join(list, ",")
}

// batchConfig is the queue of one signal.
type batchConfig struct {
	queue, batch int
	delay        time.Duration
	timeout      time.Duration
}

// batch resolves OTEL_BSP_* or OTEL_BLRP_*.
func (e *environment) batch(signal, prefix string, delay time.Duration) batchConfig {
	c := batchConfig{
		queue:   resolve(e, signal+".queue_size", parsePositive, nil, "", 2048, prefix+"MAX_QUEUE_SIZE"),
		batch:   resolve(e, signal+".batch_size", parsePositive, nil, "", 512, prefix+"MAX_EXPORT_BATCH_SIZE"),
		delay:   resolve(e, signal+".batch_delay", parseMillis, nil, "", delay, prefix+"SCHEDULE_DELAY"),
		timeout: e.timeLimit(signal+".batch_timeout", 30*time.Second, prefix+"EXPORT_TIMEOUT"),
	}
	if c.batch > c.queue {
		if e.sourceOf(signal+".batch_size") != sourceDefault {
			e.warn("", prefix+"MAX_EXPORT_BATCH_SIZE", strconv.Itoa(c.batch), "want at most the queue size", strconv.Itoa(c.queue))
		}
		c.batch = c.queue
		e.replace(signal+".batch_size", strconv.Itoa(c.batch))
	}
	return c
}

// spanLimits resolves the limits of spans, the general ones behind their own.
func (e *environment) spanLimits() sdktrace.SpanLimits {
	limit := func(name string, def countLimit, vars ...string) int {
		return int(resolve(e, "traces."+name, parseLimit, nil, "", def, vars...))
	}
	return sdktrace.SpanLimits{
		AttributeValueLengthLimit:   limit("attribute_value_length", -1, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
		AttributeValueDepthLimit:    sdktrace.DefaultAttributeValueDepthLimit,
		AttributeCountLimit:         limit("attribute_count", 128, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
		EventCountLimit:             limit("event_count", 128, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
		LinkCountLimit:              limit("link_count", 128, "OTEL_SPAN_LINK_COUNT_LIMIT"),
		AttributePerEventCountLimit: limit("event_attribute_count", 128, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"),
		AttributePerLinkCountLimit:  limit("link_attribute_count", 128, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"),
	}
}

// logLimits resolves the limits of log records.
func (e *environment) logLimits() (count, length int) {
	count = int(resolve(e, "logs.attribute_count", parseLimit, nil, "", 128, "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"))
	length = int(resolve(e, "logs.attribute_value_length", parseLimit, nil, "", -1, "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"))
	return count, length
}

// countLimit is a limit of the SDK; a negative one is none.
type countLimit int

func (l countLimit) String() string {
	if l < 0 {
		return "no limit"
	}
	return strconv.Itoa(int(l))
}

func parseLimit(s string) (countLimit, error) {
	n, err := parseWhole(s, 0)
	return countLimit(n), err
}

// metricConfig says how metrics are aggregated and when they are sent.
type metricConfig struct {
	interval, timeout time.Duration
	temporality       sdkmetric.TemporalitySelector
	aggregation       sdkmetric.AggregationSelector
	exemplars         exemplar.Filter
}

func (e *environment) metric(o *options) metricConfig {
	c := metricConfig{
		interval: resolve(e, "metrics.interval", parseMillis, o.metricInterval, "WithMetricInterval", 15*time.Second, "OTEL_METRIC_EXPORT_INTERVAL"),
		timeout:  e.timeLimit("metrics.export_timeout", 30*time.Second, "OTEL_METRIC_EXPORT_TIMEOUT"),
	}
	switch resolve(e, "metrics.temporality", parseEnum("cumulative", "delta", "lowmemory"), nil, "", "cumulative", otlpPrefix+"METRICS_TEMPORALITY_PREFERENCE") {
	case "delta":
		c.temporality = sdkmetric.DeltaTemporalitySelector
	case "lowmemory":
		c.temporality = sdkmetric.LowMemoryTemporalitySelector
	default:
		c.temporality = sdkmetric.CumulativeTemporalitySelector
	}
	const exponential = "base2_exponential_bucket_histogram"
	var option *string
	if o.exponential {
		v := exponential
		option = &v
	}
	c.aggregation = sdkmetric.DefaultAggregationSelector
	if resolve(e, "metrics.histograms", parseEnum("explicit_bucket_histogram", exponential), option, "WithExponentialHistograms", "explicit_bucket_histogram", otlpPrefix+"METRICS_DEFAULT_HISTOGRAM_AGGREGATION") == exponential {
		c.aggregation = exponentialHistograms
	}
	switch resolve(e, "metrics.exemplars", parseEnum("trace_based", "always_on", "always_off"), nil, "", "trace_based", "OTEL_METRICS_EXEMPLAR_FILTER") {
	case "always_on":
		c.exemplars = exemplar.AlwaysOnFilter
	case "always_off":
		c.exemplars = exemplar.AlwaysOffFilter
	default:
		c.exemplars = exemplar.TraceBasedFilter
	}
	return c
}

func exponentialHistograms(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if k == sdkmetric.InstrumentKindHistogram {
		return sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}
	}
	return sdkmetric.DefaultAggregationSelector(k)
}

// prometheusAddr resolves the address to listen on; "" for none.
func (e *environment) prometheusAddr(o *options, exporter bool) string {
	addr, sources := "", []string{sourceDefault}
	if exporter {
		addr = "localhost:9464"
	}
	if o.prometheus != nil && *o.prometheus != "" {
		addr, sources = *o.prometheus, []string{"WithPrometheus"}
	}
	if addr != "" {
		host, port := splitAddr(addr)
		hostVar, portVar := "", ""
		if v, name := e.get("OTEL_EXPORTER_PROMETHEUS_HOST"); name != "" {
			host, hostVar = v, name
		}
		if v, name := e.get("OTEL_EXPORTER_PROMETHEUS_PORT"); name != "" {
			if n, err := strconv.Atoi(v); err != nil || n < 0 || n > 65535 {
				e.warn("", name, v, "want a port from 0 to 65535", port)
			} else {
				port, portVar = v, name
			}
		}
		if hostVar != "" && portVar != "" {
			sources = nil
		}
		for _, name := range []string{hostVar, portVar} {
			if name != "" {
				sources = append(sources, e.at(name))
			}
		}
		addr = joinAddr(host, port)
	}
	e.set("metrics.prometheus", orNone(splitList(addr)), strings.Join(sources, ", "))
	return addr
}

// optionSettings records what only options can say.
func (e *environment) optionSettings(o *options) {
	def := newOptions(nil)
	set := func(name string, value, def any, option string) {
		source := sourceDefault
		if value != def {
			source = option
		}
		e.set(name, fmt.Sprint(value), source)
	}
	set("metrics.runtime", o.runtimeMetrics, def.runtimeMetrics, "WithRuntimeMetrics")
	set("logs.min_level", o.minLogLevel, def.minLogLevel, "WithMinLogLevel")
	set("shutdown_timeout", o.shutdownTimeout, def.shutdownTimeout, "WithShutdownTimeout")
	set("globals", !o.withoutGlobals, !def.withoutGlobals, "WithoutGlobals")
}

// executable names the program, for service.name.
func executable() string {
	exe, err := os.Executable()
	if err != nil || exe == "" {
		return "go"
	}
	return exe[strings.LastIndexAny(exe, `/\`)+1:]
}
