package otelconf

import (
	"slices"
	"strconv"

	"go.opentelemetry.io/contrib/otelconf"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/rpcscope/rpcscope/telemetry"
)

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func (f *converter) tracerProvider(p *otelconf.TracerProvider) {
	if p == nil {
		return
	}
	const path = "tracer_provider"
	for i, sp := range p.Processors {
		at := index(path+".processors", i)
		switch f.only(at, []string{"batch", "simple"}, []bool{sp.Batch != nil, sp.Simple != nil}) {
		case "batch":
			b := sp.Batch
			x := f.exporter(&f.file.Traces, "TRACES", at+".batch.exporter", b.Exporter.Console != nil, ofGRPC(b.Exporter.OTLPGrpc), ofHTTP(b.Exporter.OTLPHttp))
			f.batch(x, "OTEL_BSP_", at+".batch", b.MaxQueueSize, b.MaxExportBatchSize, b.ScheduleDelay, b.ExportTimeout)
		case "simple":
			e := sp.Simple.Exporter
			x := f.exporter(&f.file.Traces, "TRACES", at+".simple.exporter", e.Console != nil, ofGRPC(e.OTLPGrpc), ofHTTP(e.OTLPHttp))
			f.simple(x, at+".simple")
		}
	}
	if l := p.Limits; l != nil {
		f.setInt("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", l.AttributeCountLimit, path+".limits.attribute_count_limit")
		f.setInt("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", l.AttributeValueLengthLimit, path+".limits.attribute_value_length_limit")
		f.setInt("OTEL_SPAN_EVENT_COUNT_LIMIT", l.EventCountLimit, path+".limits.event_count_limit")
		f.setInt("OTEL_SPAN_LINK_COUNT_LIMIT", l.LinkCountLimit, path+".limits.link_count_limit")
		f.setInt("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", l.EventAttributeCountLimit, path+".limits.event_attribute_count_limit")
		f.setInt("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", l.LinkAttributeCountLimit, path+".limits.link_attribute_count_limit")
	}
	if p.Sampler != nil {
		f.set("WithSampler", "", path+".sampler")
		f.file.Options = append(f.file.Options, telemetry.WithSampler(f.sampler(p.Sampler, path+".sampler")))
	}
}

// batch sets what a batch processor is told.
func (f *converter) batch(x *telemetry.FileExporter, prefix, path string, queue, batch, delay, timeout *int) {
	setInt(x.Variables, prefix+"MAX_QUEUE_SIZE", queue, f.source(path+".max_queue_size"))
	setInt(x.Variables, prefix+"MAX_EXPORT_BATCH_SIZE", batch, f.source(path+".max_export_batch_size"))
	setInt(x.Variables, prefix+"SCHEDULE_DELAY", delay, f.source(path+".schedule_delay"))
	setInt(x.Variables, prefix+"EXPORT_TIMEOUT", timeout, f.source(path+".export_timeout"))
}

// simple warns of a processor that would make calls wait for the network.
func (f *converter) simple(x *telemetry.FileExporter, path string) {
	if x.Name != "console" {
		f.warn(path, "every call would wait for the network", "batch")
	}
}

// sampler builds a sampler. It says nothing about one that is none: a problem stands for it.
func (f *converter) sampler(s *otelconf.Sampler, path string) sdktrace.Sampler {
	switch f.only(path, []string{"always_on", "always_off", "parent_based", "trace_id_ratio_based"},
		[]bool{s.AlwaysOn != nil, s.AlwaysOff != nil, s.ParentBased != nil, s.TraceIDRatioBased != nil}) {
	case "always_off":
		return sdktrace.NeverSample()
	case "parent_based":
		return f.parentBased(s.ParentBased, path+".parent_based")
	case "trace_id_ratio_based":
		if r := s.TraceIDRatioBased.Ratio; r != nil {
			return sdktrace.TraceIDRatioBased(*r)
		}
	}
	return sdktrace.AlwaysSample()
}

func (f *converter) parentBased(p *otelconf.ParentBasedSampler, path string) sdktrace.Sampler {
	root := sdktrace.AlwaysSample()
	if p.Root != nil {
		root = f.sampler(p.Root, path+".root")
	}
	var opts []sdktrace.ParentBasedSamplerOption
	for _, child := range []struct {
		key string
		s   *otelconf.Sampler
		use func(sdktrace.Sampler) sdktrace.ParentBasedSamplerOption
	}{
		{"remote_parent_sampled", p.RemoteParentSampled, sdktrace.WithRemoteParentSampled},
		{"remote_parent_not_sampled", p.RemoteParentNotSampled, sdktrace.WithRemoteParentNotSampled},
		{"local_parent_sampled", p.LocalParentSampled, sdktrace.WithLocalParentSampled},
		{"local_parent_not_sampled", p.LocalParentNotSampled, sdktrace.WithLocalParentNotSampled},
	} {
		if child.s != nil {
			opts = append(opts, child.use(f.sampler(child.s, path+"."+child.key)))
		}
	}
	return sdktrace.ParentBased(root, opts...)
}

func (f *converter) loggerProvider(p *otelconf.LoggerProvider) {
	if p == nil {
		return
	}
	const path = "logger_provider"
	for i, lp := range p.Processors {
		at := index(path+".processors", i)
		switch f.only(at, []string{"batch", "simple"}, []bool{lp.Batch != nil, lp.Simple != nil}) {
		case "batch":
			b := lp.Batch
			x := f.exporter(&f.file.Logs, "LOGS", at+".batch.exporter", b.Exporter.Console != nil, ofGRPC(b.Exporter.OTLPGrpc), ofHTTP(b.Exporter.OTLPHttp))
			f.batch(x, "OTEL_BLRP_", at+".batch", b.MaxQueueSize, b.MaxExportBatchSize, b.ScheduleDelay, b.ExportTimeout)
		case "simple":
			e := lp.Simple.Exporter
			x := f.exporter(&f.file.Logs, "LOGS", at+".simple.exporter", e.Console != nil, ofGRPC(e.OTLPGrpc), ofHTTP(e.OTLPHttp))
			f.simple(x, at+".simple")
		}
	}
	if l := p.Limits; l != nil {
		f.setInt("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", l.AttributeCountLimit, path+".limits.attribute_count_limit")
		f.setInt("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", l.AttributeValueLengthLimit, path+".limits.attribute_value_length_limit")
	}
}

func (f *converter) meterProvider(p *otelconf.MeterProvider) {
	if p == nil {
		return
	}
	const path = "meter_provider"
	for i, r := range p.Readers {
		at := index(path+".readers", i)
		switch f.only(at, []string{"periodic", "pull"}, []bool{r.Periodic != nil, r.Pull != nil}) {
		case "periodic":
			f.periodic(r.Periodic, at+".periodic")
		case "pull":
			f.pull(r.Pull, at+".pull")
		}
	}
	if p.ExemplarFilter != nil {
		f.set("OTEL_METRICS_EXEMPLAR_FILTER", string(*p.ExemplarFilter), path+".exemplar_filter")
	}
	for i, v := range p.Views {
		f.view(v, index(path+".views", i))
	}
}

func (f *converter) periodic(r *otelconf.PeriodicMetricReader, path string) {
	e := r.Exporter
	x := f.exporter(&f.file.Metrics, "METRICS", path+".exporter", e.Console != nil, ofMetricGRPC(e.OTLPGrpc), ofMetricHTTP(e.OTLPHttp))
	setInt(x.Variables, "OTEL_METRIC_EXPORT_INTERVAL", r.Interval, f.source(path+".interval"))
	setInt(x.Variables, "OTEL_METRIC_EXPORT_TIMEOUT", r.Timeout, f.source(path+".timeout"))
	if r.CardinalityLimits != nil {
		x.ReaderOptions = append(x.ReaderOptions, sdkmetric.WithCardinalityLimitSelector(cardinality(r.CardinalityLimits)))
	}
	f.producers(r.Producers, path)
}

func (f *converter) producers(p []otelconf.MetricProducer, path string) {
	if len(p) > 0 {
		f.warn(path+".producers", "is not supported", "the rest of the file")
	}
}

// cardinality bounds the attribute sets of an instrument.
func cardinality(l *otelconf.CardinalityLimits) sdkmetric.CardinalityLimitSelector {
	limits := map[sdkmetric.InstrumentKind]*int{
		sdkmetric.InstrumentKindCounter:                 l.Counter,
		sdkmetric.InstrumentKindUpDownCounter:           l.UpDownCounter,
		sdkmetric.InstrumentKindHistogram:               l.Histogram,
		sdkmetric.InstrumentKindGauge:                   l.Gauge,
		sdkmetric.InstrumentKindObservableCounter:       l.ObservableCounter,
		sdkmetric.InstrumentKindObservableUpDownCounter: l.ObservableUpDownCounter,
		sdkmetric.InstrumentKindObservableGauge:         l.ObservableGauge,
	}
	return func(kind sdkmetric.InstrumentKind) (limit int, fallback bool) {
		for _, n := range []*int{limits[kind], l.Default} {
			if n != nil {
				return *n, false
			}
		}
		return 0, true
	}
}

// pull serves metrics for scraping.
func (f *converter) pull(r *otelconf.PullMetricReader, path string) {
	at := path + ".exporter." + prometheusKey
	p, ok := f.scraped[at]
	switch {
	case !ok:
		f.problem(path+".exporter", "want "+prometheusKey)
		return
	case slices.ContainsFunc(f.file.Metrics, func(x telemetry.FileExporter) bool { return x.Name == "prometheus" }):
		f.problem(at, "want one for all")
		return
	}
	x := telemetry.FileExporter{Name: "prometheus", Variables: telemetry.Variables{}}
	setText(x.Variables, "OTEL_EXPORTER_PROMETHEUS_HOST", p.Host, f.source(at+".host"))
	setInt(x.Variables, "OTEL_EXPORTER_PROMETHEUS_PORT", p.Port, f.source(at+".port"))
	f.file.Metrics = append(f.file.Metrics, x)
	if r.CardinalityLimits != nil {
		f.warn(path+".cardinality_limits", "is not supported", "no limit")
	}
	f.producers(r.Producers, path)
}
