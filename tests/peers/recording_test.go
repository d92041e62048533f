package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recording is where a stack records: a bare SDK, as the peers' own examples
// have it. telemetrytest would fail the tests for the spans that peers never end.
type recording struct {
	recorder *tracetest.SpanRecorder
	tracer   *sdktrace.TracerProvider
	reader   *sdkmetric.ManualReader
	meter    *sdkmetric.MeterProvider
	registry *prometheus.Registry
	logger   *slog.Logger
	logs     lines
}

func newRecording() *recording {
	r := &recording{recorder: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader(), registry: prometheus.NewPedanticRegistry()}
	r.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.recorder))
	r.meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	r.logger = slog.New(slog.NewJSONHandler(&r.logs, nil))
	return r
}

const none = "none"

// spans tells how the spans of a kind came out, in the order of their start.
func (r *recording) spans(kind trace.SpanKind) string {
	var states []string
	for _, span := range r.recorder.Started() {
		switch {
		case span.SpanKind() != kind:
		case span.EndTime().IsZero():
			states = append(states, "never ended")
		case span.Status().Code == otelcodes.Error:
			states = append(states, "error")
		default:
			states = append(states, "OK")
		}
	}
	return list(states)
}

// traces counts the traces of all spans.
func (r *recording) traces() int {
	ids := map[trace.TraceID]bool{}
	for _, span := range r.recorder.Started() {
		ids[span.SpanContext().TraceID()] = true
	}
	return len(ids)
}

// events counts the events on all spans of a kind.
func (r *recording) events(kind trace.SpanKind) int {
	n := 0
	for _, span := range r.recorder.Ended() {
		if span.SpanKind() == kind {
			n += len(span.Events())
		}
	}
	return n
}

// metric returns the data of an OpenTelemetry instrument, nil if it has none.
func (r *recording) metric(name string) metricdata.Aggregation {
	var collected metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &collected); err != nil {
		panic(err) // a reader without callbacks does not fail
	}
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m.Data
			}
		}
	}
	return nil
}

// tally counts what an OpenTelemetry instrument counted, or how often it
// measured, by the value of one of its attributes.
func (r *recording) tally(name string, by attribute.Key) map[string]int {
	counts := map[string]int{}
	value := func(set attribute.Set) string {
		v, _ := set.Value(by)
		return v.AsString()
	}
	switch data := r.metric(name).(type) {
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			counts[value(p.Attributes)] += int(p.Count)
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			counts[value(p.Attributes)] += int(p.Value)
		}
	}
	return counts
}

// series counts the series of a histogram.
func (r *recording) series(name string) int {
	data, _ := r.metric(name).(metricdata.Histogram[float64])
	return len(data.DataPoints)
}

// exemplars counts those of a histogram that lead to a span.
func (r *recording) exemplars(name string) int {
	data, _ := r.metric(name).(metricdata.Histogram[float64])
	n := 0
	for _, p := range data.DataPoints {
		for _, e := range p.Exemplars {
			if len(e.SpanID) > 0 {
				n++
			}
		}
	}
	return n
}

// counter sums up a counter of the Prometheus client by the value of a label.
func (r *recording) counter(name, by string) map[string]int {
	families, err := r.registry.Gather()
	if err != nil {
		panic(err) // collectors that contradict themselves
	}
	counts := map[string]int{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == by {
					counts[label.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return counts
}

// logged returns the values of key in the records with the message msg.
func (r *recording) logged(msg, key string) []string {
	var values []string
	decoder := json.NewDecoder(bytes.NewReader(r.logs.bytes()))
	for {
		var record map[string]any
		switch err := decoder.Decode(&record); {
		case errors.Is(err, io.EOF):
			return values
		case err != nil:
			panic(err) // slog writes JSON
		}
		if record["msg"] == msg {
			values = append(values, fmt.Sprint(record[key]))
		}
	}
}

// lines is a buffer for concurrent use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

// codeName is a code as the wire and the semantic conventions spell it.
func codeName(c codes.Code) string { return codepb.Code(c).String() }

// codeOf is the code that the caller sees.
func codeOf(err error) string { return codeName(status.Code(err)) }

// fromGoName makes PERMISSION_DENIED of PermissionDenied.
func fromGoName(name string) string {
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if c.String() == name {
			return codeName(c)
		}
	}
	return name
}

// byCode is "1 × OK, 2 × UNAVAILABLE".
func byCode(counts map[string]int) string {
	var parts []string
	for name, n := range counts {
		parts = append(parts, fmt.Sprintf("%d × %s", n, name))
	}
	slices.SortFunc(parts, func(a, b string) int {
		_, a, _ = strings.Cut(a, "×")
		_, b, _ = strings.Cut(b, "×")
		return strings.Compare(a, b)
	})
	return list(parts)
}

func list(parts []string) string {
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, ", ")
}
