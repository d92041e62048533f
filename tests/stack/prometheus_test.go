package stack

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// lookback is how far back an instant query looks for a sample: the server's default.
const lookback = 5 * time.Minute

// A backend is Prometheus without its process: the OTLP receiver configured by
// the file that compose mounts, the storage, and the query engine.
type backend struct {
	URL string // of the OTLP endpoint, as OTEL_EXPORTER_OTLP_ENDPOINT takes it

	db     *tsdb.DB
	engine *promql.Engine
	parser parser.Parser
	now    atomic.Int64 // nanoseconds; see at

	created instruments // by what feeds it
}

// instruments are the names of instruments that were created, whether or not something was ever recorded with them.
type instruments struct {
	mu    sync.Mutex
	names map[string]bool
}

// view is a View that sees them and changes nothing.
func (i *instruments) view(created sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.names == nil {
		i.names = map[string]bool{}
	}
	i.names[created.Name] = true
	return sdkmetric.Stream{}, false
}

// missing returns those of ours that none of the families of series is of.
func (i *instruments) missing(families map[string]bool) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var missing []string
	for name := range i.names {
		series := strings.ReplaceAll(name, ".", "_") // then come unit and type
		isIts := func(family string) bool { return family == series || strings.HasPrefix(family, series+"_") }
		if (strings.HasPrefix(name, "rpc") || strings.HasPrefix(name, "otel.sdk.")) && !slices.ContainsFunc(slices.Collect(maps.Keys(families)), isIts) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg, err := config.LoadFile(filepath.Join(root, "dashboards/prometheus/prometheus.yml"), false, log)
	if err != nil {
		t.Fatal(err)
	}
	o := tsdb.DefaultOptions()
	o.EnableExemplarStorage = true
	o.MaxExemplars = cfg.StorageConfig.ExemplarsConfig.MaxExemplars
	db, err := tsdb.Open(t.TempDir(), log, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{
		db:     db,
		parser: parser.NewParser(parser.Options{}),
		engine: promql.NewEngine(promql.EngineOpts{Logger: log, MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: lookback}),
	}
	otlp := remote.NewOTLPWriteHandler(log, prometheus.NewRegistry(), db,
		func() config.Config { return *cfg }, remote.OTLPOptions{LookbackDelta: lookback})
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/otlp/v1/metrics", b.shift(otlp))
	// The spans that exemplars point to have somewhere to go, and so have the logs.
	mux.HandleFunc("POST /api/v1/otlp/v1/traces", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/otlp/v1/logs", func(http.ResponseWriter, *http.Request) {})
	srv := httptest.NewServer(mux)
	b.URL = srv.URL + "/api/v1/otlp"
	t.Cleanup(func() {
		srv.Close()
		if err := b.engine.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// at sets the time at which points that arrive from now on are stored: rates
// are then exact, and nobody waits for two scrapes to pass.
func (b *backend) at(now time.Time) { b.now.Store(now.UnixNano()) }

// shift moves the points of each request to the time that at set, their exemplars with them. Before at was called they
// stay where they are.
func (b *backend) shift(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.now.Load() == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
			body, err = gunzip(body)
		}
		var req collector.ExportMetricsServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		now := uint64(b.now.Load())
		for _, rm := range req.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				for _, m := range sm.Metrics {
					shiftMetric(m, now)
				}
			}
		}
		body, err = proto.Marshal(&req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Encoding")
		next.ServeHTTP(w, r)
	})
}

func gunzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func shiftMetric(m *metrics.Metric, now uint64) {
	for _, p := range m.GetGauge().GetDataPoints() {
		shiftPoint(&p.TimeUnixNano, p.Exemplars, now)
	}
	for _, p := range m.GetSum().GetDataPoints() {
		shiftPoint(&p.TimeUnixNano, p.Exemplars, now)
	}
	for _, p := range m.GetHistogram().GetDataPoints() {
		shiftPoint(&p.TimeUnixNano, p.Exemplars, now)
	}
}

func shiftPoint(t *uint64, exemplars []*metrics.Exemplar, now uint64) {
	by := now - *t // modulo 2^64, whichever is the later
	*t = now
	for _, e := range exemplars {
		e.TimeUnixNano += by
	}
}

// ruler evaluates the rules on what b has, and stores in b what they record.
func (b *backend) ruler(t *testing.T) *ruler {
	t.Helper()
	return newRuler(t, b.db, rules.EngineQueryFunc(b.engine, b.db), "grpc-server-sli", "grpc-server-sli-long")
}

// query evaluates an expression at a time and returns the samples that are numbers.
func (b *backend) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := b.engine.NewInstantQuery(ctx, b.db, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if len(result.Warnings) > 0 {
		return nil, fmt.Errorf("warnings: %v", result.Warnings)
	}
	v, err := result.Vector()
	if err != nil {
		return nil, err
	}
	var numbers promql.Vector
	for _, s := range v {
		if s.H != nil || !math.IsNaN(s.F) {
			// The engine takes its slices back when the query is closed.
			numbers = append(numbers, promql.Sample{T: s.T, F: s.F, H: s.H, Metric: s.Metric.Copy()})
		}
	}
	return numbers, nil
}

// exemplars counts the exemplars with a trace id that Prometheus' API returns for an expression.
func (b *backend) exemplars(ctx context.Context, expr string, from, to time.Time) (int, error) {
	e, err := b.parser.ParseExpr(expr)
	if err != nil {
		return 0, err
	}
	q, err := b.db.ExemplarQuerier(ctx)
	if err != nil {
		return 0, err
	}
	found, err := q.Select(from.UnixMilli(), to.UnixMilli(), parser.ExtractSelectors(e)...)
	n := 0
	for _, series := range found {
		for _, exemplar := range series.Exemplars {
			if len(exemplar.Labels.Get("trace_id")) == 32 {
				n++
			}
		}
	}
	return n, err
}

// labelValues is Grafana's label_values(selector, label).
func (b *backend) labelValues(ctx context.Context, selector, label string, at time.Time) ([]string, error) {
	v, err := b.query(ctx, fmt.Sprintf("group by (%s) (%s)", label, selector), at)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, s := range v {
		if value := s.Metric.Get(label); value != "" {
			values = append(values, value)
		}
	}
	return values, nil
}

// ours are the names of the metrics of gRPC calls and of telemetry itself that have arrived, without
// what makes a histogram three series.
func (b *backend) ours(ctx context.Context, at time.Time) (map[string]bool, error) {
	v, err := b.query(ctx, `group by (__name__) ({__name__=~"(rpc|rpcscope|otel_sdk)_.+"})`, at)
	names := map[string]bool{}
	for _, s := range v {
		names[family(s.Metric.Get(model.MetricNameLabel))] = true
	}
	return names, err
}

func family(series string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if name, ok := strings.CutSuffix(series, suffix); ok {
			return name
		}
	}
	return series
}
