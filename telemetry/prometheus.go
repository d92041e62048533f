package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// prometheusExporter serves metrics for scraping; nil serves none.
type prometheusExporter struct {
	http   http.Handler
	server *http.Server
	done   chan struct{}
}

// newPrometheusExporter registers a reader and listens on addr, if it is not
// empty. When it cannot listen the reader still serves MetricsHandler.
func newPrometheusExporter(addr, source string, diag *diagnostics) (*prometheusExporter, sdkmetric.Reader, error) {
	registry := prom.NewRegistry()
	reader, err := prometheus.New(
		prometheus.WithRegisterer(registry),
		prometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		prometheus.WithoutScopeInfo(),
		prometheus.WithResourceAsConstantLabels(attribute.NewAllowKeysFilter(
			semconv.ServiceNameKey, semconv.ServiceNamespaceKey, semconv.DeploymentEnvironmentNameKey)),
	)
	if err != nil {
		return nil, nil, &ConfigError{Signal: signalMetrics, Source: "WithPrometheus", Reason: err.Error()}
	}
	p := &prometheusExporter{http: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          scrapeErrors{diag},
	})}
	if addr == "" {
		return p, reader, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		if source == sourceDefault {
			source = "OTEL_EXPORTER_PROMETHEUS_PORT"
		}
		return p, reader, &ConfigError{Signal: signalMetrics, Source: source, Value: addr, Reason: "cannot listen: " + listenReason(err) + "; want a free host:port", Fallback: "Telemetry.MetricsHandler alone"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.http)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(diag.Handler(), slog.LevelWarn)} // package log may lead to slog.Default
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			diag.Warn("the Prometheus endpoint stopped", "addr", addr, "error", err)
		}
	}()
	return p, reader, nil
}

func listenReason(err error) string {
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		return oe.Err.Error()
	}
	return err.Error()
}

// scrapeErrors reports what goes wrong while serving a scrape.
type scrapeErrors struct{ diag *diagnostics }

func (s scrapeErrors) Println(v ...any) {
	for _, x := range v {
		if err, ok := x.(error); ok {
			s.diag.Handle(err)
		}
	}
}

func (p *prometheusExporter) handler() http.Handler {
	if p == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "metrics are not exposed: use telemetry.WithPrometheus or OTEL_METRICS_EXPORTER=prometheus", http.StatusServiceUnavailable)
		})
	}
	return p.http
}

func (p *prometheusExporter) close() error {
	if p == nil || p.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortGrace)
	defer cancel()
	err := p.server.Shutdown(ctx) // a scrape under way may finish
	if err != nil {
		err = p.server.Close()
	}
	<-p.done
	return err
}

func splitAddr(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return strings.Trim(addr, "[]"), "9464"
	}
	return host, port
}

func joinAddr(host, port string) string { return net.JoinHostPort(strings.Trim(host, "[]"), port) }
