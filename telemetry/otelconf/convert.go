package otelconf

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/contrib/otelconf"
	"go.opentelemetry.io/otel/attribute"

	"github.com/rpcscope/rpcscope/telemetry"
)

// converter says in the terms of package telemetry what a file says.
type converter struct {
	*checker
	file telemetry.ConfigFile
}

// levels are those of OTEL_LOG_LEVEL.
var levels = func() map[string]string {
	m := map[string]string{}
	for name, level := range map[string]string{"trace": "debug", "debug": "debug", "info": "info", "warn": "warn", "error": "error", "fatal": "error"} {
		for _, n := range []string{"", "2", "3", "4"} {
			m[name+n] = level
		}
	}
	return m
}()

func (f *converter) convert(cfg *otelconf.OpenTelemetryConfiguration) {
	if _, said := f.lines["disabled"]; said {
		setBool(f.file.Variables, "OTEL_SDK_DISABLED", cfg.Disabled, f.source("disabled"))
	}
	if _, said := f.lines["log_level"]; said && cfg.LogLevel != nil {
		f.set("OTEL_LOG_LEVEL", levels[string(*cfg.LogLevel)], "log_level")
	}
	if l := cfg.AttributeLimits; l != nil {
		f.setInt("OTEL_ATTRIBUTE_COUNT_LIMIT", l.AttributeCountLimit, "attribute_limits.attribute_count_limit")
		f.setInt("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", l.AttributeValueLengthLimit, "attribute_limits.attribute_value_length_limit")
	}
	f.resource(cfg.Resource)
	f.propagator(cfg.Propagator)
	f.tracerProvider(cfg.TracerProvider)
	f.meterProvider(cfg.MeterProvider)
	f.loggerProvider(cfg.LoggerProvider)
	f.file.Warnings = f.warnings
}

// set sets a variable of the whole file.
func (f *converter) set(name, value, path string) {
	f.file.Variables[name] = telemetry.Variable{Value: value, Source: f.source(path)}
}

func (f *converter) setInt(name string, value *int, path string) {
	setInt(f.file.Variables, name, value, f.source(path))
}

func setInt(vars telemetry.Variables, name string, value *int, source string) {
	if value != nil {
		vars[name] = telemetry.Variable{Value: strconv.Itoa(*value), Source: source}
	}
}

func setBool(vars telemetry.Variables, name string, value *bool, source string) {
	if value != nil {
		vars[name] = telemetry.Variable{Value: strconv.FormatBool(*value), Source: source}
	}
}

func setText(vars telemetry.Variables, name string, value *string, source string) {
	if value != nil {
		vars[name] = telemetry.Variable{Value: *value, Source: source}
	}
}

// only returns which of the named alternatives is set; anything but one is a problem.
func (f *converter) only(path string, names []string, set []bool) string {
	var chosen []string
	for i, ok := range set {
		if ok {
			chosen = append(chosen, names[i])
		}
	}
	if len(chosen) != 1 {
		f.problem(path, "want one of "+orList(names))
		return ""
	}
	return chosen[0]
}

// resource passes attributes on. They win over those of attributes_list.
func (f *converter) resource(r *otelconf.Resource) {
	if r == nil {
		return
	}
	if r.SchemaUrl != nil {
		f.warn("resource.schema_url", "is not supported", "the schema of the detected resource")
	}
	var attrs []attribute.KeyValue
	own := map[string]bool{}
	for i, a := range r.Attributes {
		at := "resource.attributes[" + strconv.Itoa(i) + "]"
		own[a.Name] = true
		kv, want := resourceAttribute(a)
		switch {
		case a.Name == "":
			f.problem(at+".name", "want a text that is not empty")
		case want != "":
			f.problem(at+".value", "want "+want)
		case a.Name == "service.name":
			f.set("OTEL_SERVICE_NAME", kv.Value.String(), at)
		default:
			attrs = append(attrs, kv)
		}
	}
	f.file.Options = append(f.file.Options, telemetry.WithResourceAttributes(attrs...))
	if r.AttributesList == nil {
		return
	}
	members := slices.DeleteFunc(strings.Split(*r.AttributesList, ","), func(member string) bool {
		name, _, _ := strings.Cut(member, "=")
		return own[strings.TrimSpace(name)]
	})
	f.set("OTEL_RESOURCE_ATTRIBUTES", strings.Join(members, ","), "resource.attributes_list")
}

// resourceAttribute makes the attribute, or says what its value should be.
// Without a type the value's own is taken.
func resourceAttribute(a otelconf.AttributeNameValue) (kv attribute.KeyValue, want string) {
	list, isList := a.Value.([]any)
	if !isList {
		list = []any{a.Value}
	}
	kind := ""
	if a.Type != nil {
		kind = string(*a.Type)
	} else if len(list) > 0 {
		kind = map[bool]string{true: "_array"}[isList]
		switch list[0].(type) {
		case bool:
			kind = "bool" + kind
		case int, int64:
			kind = "int" + kind
		case float64:
			kind = "double" + kind
		default:
			kind = "string" + kind
		}
	}
	element, wantList := strings.CutSuffix(kind, "_array")
	if wantList != isList {
		return kv, map[bool]string{true: "a list, as type is " + kind, false: "one value, as type is " + kind}[wantList]
	}
	k := attribute.Key(a.Name)
	var ok bool
	switch element {
	case "bool":
		kv, ok = attributeOf(list, isList, k.Bool, k.BoolSlice, func(v any) (bool, bool) { b, ok := v.(bool); return b, ok })
	case "int":
		kv, ok = attributeOf(list, isList, k.Int, k.IntSlice, func(v any) (int, bool) { n, ok := v.(int); return n, ok })
	case "double":
		kv, ok = attributeOf(list, isList, k.Float64, k.Float64Slice, func(v any) (float64, bool) {
			if n, ok := v.(int); ok {
				return float64(n), true
			}
			x, ok := v.(float64)
			return x, ok
		})
	default:
		kv, ok = attributeOf(list, isList, k.String, k.StringSlice, func(v any) (string, bool) { s, ok := v.(string); return s, ok })
	}
	if !ok {
		return kv, "what type says: " + kind
	}
	return kv, ""
}

func attributeOf[T any](list []any, isList bool, one func(T) attribute.KeyValue, many func([]T) attribute.KeyValue, as func(any) (T, bool)) (attribute.KeyValue, bool) {
	values := make([]T, len(list))
	for i, v := range list {
		var ok bool
		if values[i], ok = as(v); !ok {
			return attribute.KeyValue{}, false
		}
	}
	if isList {
		return many(values), true
	}
	return one(values[0]), true
}

func (f *converter) propagator(p *otelconf.Propagator) {
	if p == nil {
		return
	}
	var list []string
	for _, one := range p.Composite {
		for name, set := range map[string]bool{"tracecontext": one.Tracecontext != nil, "baggage": one.Baggage != nil, "b3": one.B3 != nil, "b3multi": one.B3Multi != nil, "jaeger": one.Jaeger != nil, "ottrace": one.Ottrace != nil} {
			if set {
				list = append(list, name)
			}
		}
	}
	if p.CompositeList != nil {
		list = append(list, strings.Split(*p.CompositeList, ",")...)
	}
	if len(list) == 0 {
		list = []string{"none"}
	}
	f.set("OTEL_PROPAGATORS", strings.Join(list, ","), "propagator")
}

// otlp is what the four types of OTLP exporters have in common.
type otlp struct {
	protocol                           string
	endpoint, compression, headersList *string
	headers                            []otelconf.NameStringValuePair
	timeout                            *int
	ca, cert, key                      *string
	insecure                           *bool
	encoding                           *otelconf.OTLPHttpEncoding
	temporality                        *otelconf.ExporterTemporalityPreference
	histograms                         *otelconf.ExporterDefaultHistogramAggregation
}

func ofGRPC(e *otelconf.OTLPGrpcExporter) *otlp {
	if e == nil {
		return nil
	}
	x := &otlp{protocol: "grpc", endpoint: e.Endpoint, compression: e.Compression, headersList: e.HeadersList, headers: e.Headers, timeout: e.Timeout}
	x.grpcTLS(e.Tls)
	return x
}

func ofHTTP(e *otelconf.OTLPHttpExporter) *otlp {
	if e == nil {
		return nil
	}
	x := &otlp{protocol: "http/protobuf", endpoint: e.Endpoint, compression: e.Compression, headersList: e.HeadersList, headers: e.Headers, timeout: e.Timeout, encoding: e.Encoding}
	x.httpTLS(e.Tls)
	return x
}

func ofMetricGRPC(e *otelconf.OTLPGrpcMetricExporter) *otlp {
	if e == nil {
		return nil
	}
	x := &otlp{protocol: "grpc", endpoint: e.Endpoint, compression: e.Compression, headersList: e.HeadersList, headers: e.Headers, timeout: e.Timeout,
		temporality: e.TemporalityPreference, histograms: e.DefaultHistogramAggregation}
	x.grpcTLS(e.Tls)
	return x
}

func ofMetricHTTP(e *otelconf.OTLPHttpMetricExporter) *otlp {
	if e == nil {
		return nil
	}
	x := &otlp{protocol: "http/protobuf", endpoint: e.Endpoint, compression: e.Compression, headersList: e.HeadersList, headers: e.Headers, timeout: e.Timeout, encoding: e.Encoding,
		temporality: e.TemporalityPreference, histograms: e.DefaultHistogramAggregation}
	x.httpTLS(e.Tls)
	return x
}

func (x *otlp) grpcTLS(t *otelconf.GrpcTls) {
	if t != nil {
		x.ca, x.cert, x.key, x.insecure = t.CaFile, t.CertFile, t.KeyFile, t.Insecure
	}
}

func (x *otlp) httpTLS(t *otelconf.HttpTls) {
	if t != nil {
		x.ca, x.cert, x.key = t.CaFile, t.CertFile, t.KeyFile
	}
}

// exporter adds an exporter to a signal's.
func (f *converter) exporter(exporters *[]telemetry.FileExporter, signal, path string, console bool, overGRPC, overHTTP *otlp) *telemetry.FileExporter {
	which := f.only(path, []string{"console", "otlp_grpc", "otlp_http"}, []bool{console, overGRPC != nil, overHTTP != nil})
	e := telemetry.FileExporter{Name: "console", Variables: telemetry.Variables{}}
	switch which {
	case "otlp_grpc":
		e.Name = "otlp"
		f.otlp(e.Variables, signal, path+".otlp_grpc", overGRPC)
	case "otlp_http":
		e.Name = "otlp"
		f.otlp(e.Variables, signal, path+".otlp_http", overHTTP)
	}
	*exporters = append(*exporters, e)
	return &(*exporters)[len(*exporters)-1]
}

func (f *converter) otlp(vars telemetry.Variables, signal, path string, x *otlp) {
	prefix := "OTEL_EXPORTER_OTLP_" + signal + "_"
	at := func(key string) string { return f.source(path + "." + key) }
	protocol := x.protocol
	if x.encoding != nil && *x.encoding == otelconf.OTLPHttpEncodingJson {
		protocol = "http/json" // which is warned of
	}
	vars[prefix+"PROTOCOL"] = telemetry.Variable{Value: protocol, Source: f.source(path)}
	setText(vars, prefix+"ENDPOINT", x.endpoint, at("endpoint"))
	setText(vars, prefix+"COMPRESSION", x.compression, at("compression"))
	setInt(vars, prefix+"TIMEOUT", x.timeout, at("timeout"))
	setBool(vars, prefix+"INSECURE", x.insecure, at("tls.insecure"))
	setText(vars, prefix+"CERTIFICATE", x.ca, at("tls.ca_file"))
	setText(vars, prefix+"CLIENT_CERTIFICATE", x.cert, at("tls.cert_file"))
	setText(vars, prefix+"CLIENT_KEY", x.key, at("tls.key_file"))
	if (x.cert == nil) != (x.key == nil) {
		f.problem(path+".tls", "want cert_file and key_file, or neither")
	}
	if h := f.headers(path, x); h != "" {
		vars[prefix+"HEADERS"] = telemetry.Variable{Value: h, Source: at("headers")}
	}
	if x.temporality != nil {
		vars[prefix+"TEMPORALITY_PREFERENCE"] = telemetry.Variable{Value: strings.ReplaceAll(string(*x.temporality), "_", ""), Source: at("temporality_preference")}
	}
	if x.histograms != nil {
		vars[prefix+"DEFAULT_HISTOGRAM_AGGREGATION"] = telemetry.Variable{Value: string(*x.histograms), Source: at("default_histogram_aggregation")}
	}
}

// headers writes headers as a variable does. Those of headers win over those of headers_list.
func (f *converter) headers(path string, x *otlp) string {
	var members []string
	if x.headersList != nil && strings.TrimSpace(*x.headersList) != "" {
		members = append(members, *x.headersList)
	}
	for i, h := range x.headers {
		switch {
		case h.Name == "" || strings.ContainsAny(h.Name, "=,"):
			f.problem(path+".headers["+strconv.Itoa(i)+"].name", "want the name of a header")
		case h.Value != nil:
			members = append(members, h.Name+"="+url.PathEscape(*h.Value))
		}
	}
	return strings.Join(members, ",")
}
