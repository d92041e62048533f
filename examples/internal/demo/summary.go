package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// method is what the metrics say of one method.
type method struct {
	name        string
	calls       uint64
	codes       map[string]uint64
	seconds     float64 // of all calls together
	slowest     float64
	bounds      []float64
	buckets     []uint64
	serverFault uint64
}

// methods reads rpc.server.call.duration of the users service.
func (s *system) methods(ctx context.Context) ([]*method, error) {
	var all metricdata.ResourceMetrics
	if err := s.metrics.Collect(ctx, &all); err != nil {
		return nil, err
	}
	found := map[string]*method{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "rpc.server.call.duration" {
				for _, p := range h.DataPoints {
					name := text(p.Attributes, semconv.RPCMethodKey)
					if found[name] == nil {
						found[name] = &method{name: name, codes: map[string]uint64{}, bounds: p.Bounds, buckets: make([]uint64, len(p.BucketCounts))}
					}
					found[name].add(p)
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *method) int { return cmp.Compare(a.name, b.name) }), nil
}

// finishedMethods is methods once there are as many calls as wantCodes has, or after 2 s: the last call is counted a
// little after its caller has the answer.
func (s *system) finishedMethods(ctx context.Context) ([]*method, error) {
	var want uint64
	for _, codes := range wantCodes {
		for _, n := range codes {
			want += n
		}
	}
	for timeout := time.After(2 * time.Second); ; {
		methods, err := s.methods(ctx)
		var calls uint64
		for _, m := range methods {
			calls += m.calls
		}
		if err != nil || calls >= want {
			return methods, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-timeout:
			return methods, nil
		}
	}
}

func text(set attribute.Set, key attribute.Key) string {
	v, _ := set.Value(key)
	return v.AsString()
}

func (m *method) add(p metricdata.HistogramDataPoint[float64]) {
	m.calls += p.Count
	m.codes[text(p.Attributes, semconv.RPCResponseStatusCodeKey)] += p.Count
	if text(p.Attributes, semconv.ErrorTypeKey) != "" {
		m.serverFault += p.Count
	}
	m.seconds += p.Sum
	if slowest, ok := p.Max.Value(); ok {
		m.slowest = max(m.slowest, slowest)
	}
	for i, n := range p.BucketCounts {
		m.buckets[i] += n
	}
}

// outcomes returns codes and how often each came as text.
func outcomes(codes map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(codes)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, codes[name]))
	}
	return strings.Join(parts, ", ")
}

// p95 returns the bound beneath which 95 % of the calls were: all that a histogram knows.
func (m *method) p95() string {
	var beneath uint64
	for i, n := range m.buckets {
		beneath += n
		if float64(beneath) >= 0.95*float64(m.calls) && i < len(m.bounds) {
			return "≤ " + seconds(m.bounds[i])
		}
	}
	return "> " + seconds(m.bounds[len(m.bounds)-1])
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}

// summarize prints the methods as they were called in elapsed.
func summarize(out io.Writer, methods []*method, elapsed time.Duration) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "method\tcalls\trate\tserver errors\tmean\tp95\tslowest\tcodes")
	for _, m := range methods {
		fmt.Fprintf(w, "%s\t%d\t%.1f/s\t%.0f %%\t%s\t%s\t%s\t%s\n", m.name, m.calls, float64(m.calls)/elapsed.Seconds(),
			100*float64(m.serverFault)/float64(m.calls), seconds(m.seconds/float64(m.calls)), m.p95(), seconds(m.slowest), outcomes(m.codes))
	}
	return w.Flush()
}
