package main

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rpcscope/rpcscope/telemetry"
)

// meters is telemetry whose metrics can be asked for at any moment.
type meters struct {
	*telemetry.Telemetry
	reader *sdkmetric.ManualReader
}

func newMeters() (*meters, error) {
	reader := sdkmetric.NewManualReader()
	tel, err := telemetry.Setup(context.Background(),
		telemetry.WithoutGlobals(), telemetry.WithoutTraces(), telemetry.WithoutLogs(), telemetry.WithRuntimeMetrics(false),
		telemetry.WithServiceName("outage"), telemetry.WithMetricReader(reader),
		telemetry.WithLookupEnv(func(name string) (string, bool) { return "none", name == "OTEL_METRICS_EXPORTER" }))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return &meters{tel, reader}, nil
}

// read returns what the instruments say by now.
func (m *meters) read() (readings, error) {
	var all metricdata.ResourceMetrics
	if err := m.reader.Collect(context.Background(), &all); err != nil {
		return nil, fmt.Errorf("collecting metrics: %w", err)
	}
	found := readings{}
	for _, scope := range all.ScopeMetrics {
		for _, instrument := range scope.Metrics {
			found[instrument.Name] = instrument.Data
		}
	}
	return found, nil
}

// readings are by the instrument's name.
type readings map[string]metricdata.Aggregation

// by adds up what an instrument says, a histogram's number of points, for each value of an
// attribute; those without it are "".
func (r readings) by(name string, key attribute.Key) map[string]int64 {
	sums := map[string]int64{}
	add := func(attrs attribute.Set, n int64) {
		value, _ := attrs.Value(key)
		sums[value.AsString()] += n
	}
	switch data := r[name].(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			add(point.Attributes, point.Value)
		}
	case metricdata.Gauge[int64]:
		for _, point := range data.DataPoints {
			add(point.Attributes, point.Value)
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			add(point.Attributes, int64(point.Count))
		}
	}
	return sums
}

func (r readings) total(name string) (sum int64) {
	for _, n := range r.by(name, "") {
		sum += n
	}
	return sum
}
