package telemetry

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// metricConsole is the metrics exporter "console": a line per data point, for a look.
type metricConsole struct {
	mu sync.Mutex
	w  io.Writer
}

func newMetricConsole(w io.Writer) *metricConsole { return &metricConsole{w: w} }

func (*metricConsole) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.DefaultTemporalitySelector(k)
}

func (*metricConsole) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

func (c *metricConsole) Export(_ context.Context, rm *metricdata.ResourceMetrics) error {
	var b strings.Builder
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			writeMetric(&b, m)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

func (*metricConsole) ForceFlush(context.Context) error { return nil }
func (*metricConsole) Shutdown(context.Context) error   { return nil }

func writeMetric(b *strings.Builder, m metricdata.Metrics) {
	line := func(attrs attribute.Set, value string) {
		fmt.Fprintf(b, "metric %s%s %s\n", m.Name, labels(attrs), value)
	}
	switch data := m.Data.(type) {
	case metricdata.Gauge[int64]:
		writePoints(data.DataPoints, m.Unit, line)
	case metricdata.Gauge[float64]:
		writePoints(data.DataPoints, m.Unit, line)
	case metricdata.Sum[int64]:
		writePoints(data.DataPoints, m.Unit, line)
	case metricdata.Sum[float64]:
		writePoints(data.DataPoints, m.Unit, line)
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			line(p.Attributes, fmt.Sprintf("count=%d sum=%d%s", p.Count, p.Sum, unit(m.Unit)))
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			line(p.Attributes, fmt.Sprintf("count=%d sum=%.6g%s", p.Count, p.Sum, unit(m.Unit)))
		}
	case metricdata.ExponentialHistogram[int64]: // by a view
		for _, p := range data.DataPoints {
			line(p.Attributes, fmt.Sprintf("count=%d sum=%d%s", p.Count, p.Sum, unit(m.Unit)))
		}
	case metricdata.ExponentialHistogram[float64]:
		for _, p := range data.DataPoints {
			line(p.Attributes, fmt.Sprintf("count=%d sum=%.6g%s", p.Count, p.Sum, unit(m.Unit)))
		}
	}
}

func writePoints[N int64 | float64](points []metricdata.DataPoint[N], u string, line func(attribute.Set, string)) {
	for _, p := range points {
		line(p.Attributes, fmt.Sprint(p.Value)+unit(u))
	}
}

// unit renders a UCUM unit; annotations such as {call} are for people already.
func unit(u string) string {
	if u == "" || u == "1" {
		return ""
	}
	return " " + strings.Trim(u, "{}")
}

func labels(attrs attribute.Set) string {
	if attrs.Len() == 0 {
		return ""
	}
	return "{" + oneLine(attrs.Encoded(attribute.DefaultEncoder())) + "}"
}

// logConsole is the logs exporter "console": a line per record.
type logConsole struct {
	mu sync.Mutex
	w  io.Writer
}

func newLogConsole(w io.Writer) *logConsole { return &logConsole{w: w} }

func (*logConsole) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (c *logConsole) OnEmit(_ context.Context, r *sdklog.Record) error {
	var b strings.Builder
	at := r.Timestamp()
	if at.IsZero() {
		at = r.ObservedTimestamp()
	}
	fmt.Fprintf(&b, "log %s %s %s", at.Format(time.RFC3339Nano), r.SeverityText(), oneLine(r.Body().String()))
	r.WalkAttributes(func(kv attribute.KeyValue) bool {
		fmt.Fprintf(&b, " %s=%s", kv.Key, oneLine(kv.Value.String()))
		return true
	})
	if r.TraceID().IsValid() {
		fmt.Fprintf(&b, " trace_id=%s span_id=%s", r.TraceID(), r.SpanID())
	}
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

func (*logConsole) ForceFlush(context.Context) error { return nil }
func (*logConsole) Shutdown(context.Context) error   { return nil }

// oneLine makes s safe for a terminal's line: white space is collapsed and
// control characters, escape sequences with them, are replaced.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
