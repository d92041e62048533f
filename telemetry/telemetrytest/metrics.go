package telemetrytest

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Metric is what one instrument has recorded so far, over all scopes.
type Metric struct {
	tb     testing.TB
	name   string
	points []point
	all    []string // names of everything recorded
}

// point is a data point of any kind.
type point struct {
	kind      string // counter, gauge, histogram
	attrs     attribute.Set
	value     float64 // or a histogram's sum
	count     uint64
	exemplars []Exemplar
}

// Exemplar is a measurement that was kept with its trace.
type Exemplar struct {
	TraceID, SpanID string // hexadecimal
	Value           float64
}

// Metric collects, once no span is open, and returns what the instrument with
// this name has recorded. One that has recorded nothing counts 0.
func (r *Recorder) Metric(name string) Metric {
	r.tb.Helper()
	r.settled()
	m := Metric{tb: r.tb, name: name}
	for _, sm := range r.Collect().ScopeMetrics {
		for _, metric := range sm.Metrics {
			m.all = append(m.all, metric.Name)
			if metric.Name == name {
				m.points = append(m.points, points(metric.Data)...)
			}
		}
	}
	return m
}

// Collect returns everything that is measured by now, as the SDK has it: for
// comparisons of whole values, with metricdatatest. It does not wait for open
// spans.
func (r *Recorder) Collect() metricdata.ResourceMetrics {
	r.tb.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &rm); err != nil {
		r.tb.Fatalf("telemetrytest: collecting metrics: %v", err)
	}
	return rm
}

func points(data metricdata.Aggregation) []point {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		return numbers(data.DataPoints, "counter")
	case metricdata.Sum[float64]:
		return numbers(data.DataPoints, "counter")
	case metricdata.Gauge[int64]:
		return numbers(data.DataPoints, "gauge")
	case metricdata.Gauge[float64]:
		return numbers(data.DataPoints, "gauge")
	case metricdata.Histogram[int64]:
		return histograms(data.DataPoints)
	case metricdata.Histogram[float64]:
		return histograms(data.DataPoints)
	case metricdata.ExponentialHistogram[int64]:
		return exponentials(data.DataPoints)
	case metricdata.ExponentialHistogram[float64]:
		return exponentials(data.DataPoints)
	}
	return nil
}

func numbers[N int64 | float64](in []metricdata.DataPoint[N], kind string) []point {
	var out []point
	for _, p := range in {
		out = append(out, point{kind: kind, attrs: p.Attributes, value: float64(p.Value), exemplars: exemplars(p.Exemplars)})
	}
	return out
}

func histograms[N int64 | float64](in []metricdata.HistogramDataPoint[N]) []point {
	var out []point
	for _, p := range in {
		out = append(out, point{kind: "histogram", attrs: p.Attributes, value: float64(p.Sum), count: p.Count, exemplars: exemplars(p.Exemplars)})
	}
	return out
}

func exponentials[N int64 | float64](in []metricdata.ExponentialHistogramDataPoint[N]) []point {
	var out []point
	for _, p := range in {
		out = append(out, point{kind: "histogram", attrs: p.Attributes, value: float64(p.Sum), count: p.Count, exemplars: exemplars(p.Exemplars)})
	}
	return out
}

func exemplars[N int64 | float64](in []metricdata.Exemplar[N]) []Exemplar {
	var out []Exemplar
	for _, e := range in {
		out = append(out, Exemplar{TraceID: hex(e.TraceID), SpanID: hex(e.SpanID), Value: float64(e.Value)})
	}
	return out
}

// with returns the points of a kind that have these attributes; the test fails
// if the metric is of another kind.
func (m Metric) with(kind string, attrs []attribute.KeyValue) []point {
	m.tb.Helper()
	var out []point
	for _, p := range m.points {
		if p.kind != kind {
			m.tb.Fatalf("metric %s is a %s, not a %s; %s", m.name, p.kind, kind, m)
		}
		if len(missing(p.attrs.ToSlice(), attrs)) == 0 {
			out = append(out, p)
		}
	}
	return out
}

// Exists fails the test if the instrument has recorded nothing; it lists those that have.
func (m Metric) Exists() Metric {
	m.tb.Helper()
	if len(m.points) == 0 {
		m.tb.Fatalf("%s", m)
	}
	return m
}

// Counter returns the sum of the counter's (or up-down counter's) data points
// that have these attributes.
func (m Metric) Counter(attrs ...attribute.KeyValue) int64 {
	m.tb.Helper()
	sum := 0.0
	for _, p := range m.with("counter", attrs) {
		sum += p.value
	}
	return int64(sum)
}

// Gauge returns the value of the gauge's only data point that has these
// attributes; the test fails if there is another number of them.
func (m Metric) Gauge(attrs ...attribute.KeyValue) float64 {
	m.tb.Helper()
	found := m.with("gauge", attrs)
	if len(found) != 1 {
		m.tb.Fatalf("metric %s has %d data points with %s, want 1; %s", m.name, len(found), describe(attrs), m)
	}
	return found[0].value
}

// HistogramCount returns the number of measurements in the histogram's data
// points that have these attributes.
func (m Metric) HistogramCount(attrs ...attribute.KeyValue) uint64 {
	m.tb.Helper()
	var n uint64
	for _, p := range m.with("histogram", attrs) {
		n += p.count
	}
	return n
}

// HistogramSum returns the sum of the measurements in the histogram's data
// points that have these attributes.
func (m Metric) HistogramSum(attrs ...attribute.KeyValue) float64 {
	m.tb.Helper()
	sum := 0.0
	for _, p := range m.with("histogram", attrs) {
		sum += p.value
	}
	return sum
}

// Exemplars returns the exemplars of the data points that have these attributes.
func (m Metric) Exemplars(attrs ...attribute.KeyValue) []Exemplar {
	var out []Exemplar
	for _, p := range m.points {
		if len(missing(p.attrs.ToSlice(), attrs)) == 0 {
			out = append(out, p.exemplars...)
		}
	}
	return out
}

// Attributes returns the attribute sets of all data points, sorted by their text.
func (m Metric) Attributes() []attribute.Set {
	var out []attribute.Set
	for _, p := range m.points {
		out = append(out, p.attrs)
	}
	slices.SortFunc(out, func(a, b attribute.Set) int {
		return cmp.Compare(describe(a.ToSlice()), describe(b.ToSlice()))
	})
	return out
}

// String lists what was recorded, a data point a line, for failures of
// assertions of one's own: t.Errorf("counted %d, want 1; %s", n, m).
func (m Metric) String() string {
	var points []string
	for _, p := range m.points {
		text := "\t" + m.name + " " + p.kind + " " + describe(p.attrs.ToSlice()) + " "
		if p.kind == "histogram" {
			text += strconv.FormatUint(p.count, 10) + " of sum "
		}
		points = append(points, text+strconv.FormatFloat(p.value, 'g', -1, 64)+"\n")
	}
	if len(points) == 0 {
		names := slices.Sorted(slices.Values(m.all))
		return "nothing was recorded for metric " + m.name + "; recorded: " + cmp.Or(strings.Join(slices.Compact(names), ", "), "no metrics")
	}
	slices.Sort(points)
	return "recorded:\n" + strings.Join(points, "")
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
