package otelconf

import (
	"regexp"
	"strings"

	"go.opentelemetry.io/contrib/otelconf"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rpcscope/rpcscope/telemetry"
)

var instrumentKinds = map[otelconf.InstrumentType]sdkmetric.InstrumentKind{
	otelconf.InstrumentTypeCounter:                 sdkmetric.InstrumentKindCounter,
	otelconf.InstrumentTypeUpDownCounter:           sdkmetric.InstrumentKindUpDownCounter,
	otelconf.InstrumentTypeHistogram:               sdkmetric.InstrumentKindHistogram,
	otelconf.InstrumentTypeGauge:                   sdkmetric.InstrumentKindGauge,
	otelconf.InstrumentTypeObservableCounter:       sdkmetric.InstrumentKindObservableCounter,
	otelconf.InstrumentTypeObservableUpDownCounter: sdkmetric.InstrumentKindObservableUpDownCounter,
	otelconf.InstrumentTypeObservableGauge:         sdkmetric.InstrumentKindObservableGauge,
}

func (f *converter) view(v otelconf.View, path string) {
	s := v.Selector
	criteria := sdkmetric.Instrument{
		Name:  text(s.InstrumentName),
		Unit:  text(s.Unit),
		Scope: instrumentation.Scope{Name: text(s.MeterName), Version: text(s.MeterVersion), SchemaURL: text(s.MeterSchemaUrl)},
	}
	if s.InstrumentType != nil {
		criteria.Kind = instrumentKinds[*s.InstrumentType]
	}
	if criteria.Name == "" && criteria.Unit == "" && criteria.Kind == 0 && criteria.Scope.Name == "" && criteria.Scope.Version == "" && criteria.Scope.SchemaURL == "" {
		f.problem(path+".selector", `want at least one key; instrument_name: "*" selects every instrument`)
		return
	}
	if v.Stream.AggregationCardinalityLimit != nil {
		f.warn(path+".stream.aggregation_cardinality_limit", "is not supported; a reader has cardinality_limits", "those of the reader")
	}
	if criteria.Name != "" && text(v.Stream.Name) != "" && strings.ContainsAny(criteria.Name, "*?") {
		f.problem(path+".stream.name", "several instruments cannot have one name; want an instrument_name without * and ?")
		return
	}
	f.file.Options = append(f.file.Options, telemetry.WithView(sdkmetric.NewView(criteria, sdkmetric.Stream{
		Name:            text(v.Stream.Name),
		Description:     text(v.Stream.Description),
		Aggregation:     f.aggregation(v.Stream.Aggregation, path+".stream.aggregation"),
		AttributeFilter: attributeFilter(v.Stream.AttributeKeys),
	})))
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// aggregation returns nil for the instrument's own.
func (f *converter) aggregation(a *otelconf.Aggregation, path string) sdkmetric.Aggregation {
	if a == nil {
		return nil
	}
	switch f.only(path, []string{"base2_exponential_bucket_histogram", "default", "drop", "explicit_bucket_histogram", "last_value", "sum"},
		[]bool{a.Base2ExponentialBucketHistogram != nil, a.Default != nil, a.Drop != nil, a.ExplicitBucketHistogram != nil, a.LastValue != nil, a.Sum != nil}) {
	case "base2_exponential_bucket_histogram":
		h := a.Base2ExponentialBucketHistogram
		return sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: int32(or(h.MaxSize, 160)), MaxScale: int32(or(h.MaxScale, 20)), NoMinMax: !or(h.RecordMinMax, true)}
	case "drop":
		return sdkmetric.AggregationDrop{}
	case "explicit_bucket_histogram":
		h := a.ExplicitBucketHistogram
		if h.Boundaries == nil {
			h.Boundaries = []float64{0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000}
		}
		return sdkmetric.AggregationExplicitBucketHistogram{Boundaries: h.Boundaries, NoMinMax: !or(h.RecordMinMax, true)}
	case "last_value":
		return sdkmetric.AggregationLastValue{}
	case "sum":
		return sdkmetric.AggregationSum{}
	}
	return nil
}

func or[T any](v *T, def T) T {
	if v == nil {
		return def
	}
	return *v
}

// attributeFilter keeps the included keys, all when none are named, less the excluded ones.
func attributeFilter(keys *otelconf.IncludeExclude) attribute.Filter {
	if keys == nil {
		return nil
	}
	included, excluded := patterns(keys.Included), patterns(keys.Excluded)
	return func(kv attribute.KeyValue) bool {
		k := string(kv.Key)
		return (included == nil || included.MatchString(k)) && (excluded == nil || !excluded.MatchString(k))
	}
}

// patterns matches any of list, with * for any text and ? for one character;
// nil for an empty list.
func patterns(list []string) *regexp.Regexp {
	if len(list) == 0 {
		return nil
	}
	quoted := make([]string, len(list))
	for i, p := range list {
		quoted[i] = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(p))
	}
	return regexp.MustCompile(`(?s)^(?:` + strings.Join(quoted, "|") + `)$`)
}
