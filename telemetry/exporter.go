package telemetry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
)

// The exporters are given every option there is, so that nothing is left for
// them to read from the environment, and connections of our own, so that these
// can be closed when a shutdown has run out of time.

// connections holds what the exporters send through. Signals that go to the
// same place share one.
type connections struct {
	dialOptions []grpc.DialOption
	grpc        map[connKey]*grpc.ClientConn
	http        map[connKey]*http.Transport
	raw         *rawConns // below grpc
}

type connKey struct {
	target, certs string
	tls, gzip     bool
}

func newConnections(dialOptions []grpc.DialOption) *connections {
	return &connections{dialOptions: dialOptions, grpc: map[connKey]*grpc.ClientConn{}, http: map[connKey]*http.Transport{}, raw: newRawConns()}
}

// close closes them all; exports under way fail.
func (c *connections) close() error {
	var errs []error
	for _, conn := range c.grpc {
		errs = append(errs, conn.Close())
	}
	for _, t := range c.http {
		t.CloseIdleConnections()
	}
	return errors.Join(errs...)
}

func (c *connections) grpcConn(cfg otlpConfig) (*grpc.ClientConn, error) {
	key := connKey{cfg.endpoint.grpcTarget(), cfg.certs, cfg.tls != nil, cfg.gzip}
	if conn := c.grpc[key]; conn != nil {
		return conn, nil
	}
	creds := insecure.NewCredentials()
	if cfg.tls != nil {
		creds = credentials.NewTLS(cfg.tls)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(c.raw.credentials(creds)),
		grpc.WithUserAgent("rpcscope OTel OTLP Exporter Go/" + otlptrace.Version()),
		// No query of DNS for a configuration of ours: where DNS is slow it holds
		// up the first export, and the last one, for seconds.
		grpc.WithDisableServiceConfig(),
		// A collector that comes late is found within 10 s, not 2 minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Not for the pings, which no server is bothered with: the timeout also
		// sets TCP_USER_TIMEOUT, so that a peer that vanished is noticed.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 20 * time.Second}),
	}
	if cfg.gzip {
		opts = append(opts, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	conn, err := grpc.NewClient(cfg.endpoint.grpcTarget(), append(opts, c.dialOptions...)...)
	if err != nil {
		return nil, err
	}
	c.grpc[key] = conn
	return conn, nil
}

func (c *connections) httpClient(cfg otlpConfig) *http.Client {
	key := connKey{cfg.endpoint.host, cfg.certs, cfg.tls != nil, false}
	t := c.http[key]
	if t == nil {
		t = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       cfg.tls,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   3, // one per signal
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   5 * time.Second,
			ExpectContinueTimeout: time.Second,
		}
		c.http[key] = t
	}
	return &http.Client{Transport: replyRecorder{t}}
}

// noTLS clears what an exporter may have read from the environment: the
// connection is ours.
var noTLS *tls.Config

func (c *connections) spanExporter(ctx context.Context, cfg otlpConfig) (sdktrace.SpanExporter, error) {
	if cfg.protocol == protocolHTTP {
		compression := otlptracehttp.NoCompression
		if cfg.gzip {
			compression = otlptracehttp.GzipCompression
		}
		return otlptrace.New(ctx, otlptracehttp.NewClient(
			otlptracehttp.WithEndpointURL(cfg.endpoint.url()), otlptracehttp.WithURLPath(cfg.endpoint.path),
			otlptracehttp.WithHTTPClient(c.httpClient(cfg)), otlptracehttp.WithTLSClientConfig(noTLS),
			otlptracehttp.WithHeaders(cfg.headers), otlptracehttp.WithCompression(compression),
			otlptracehttp.WithTimeout(cfg.timeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{})))
	}
	conn, err := c.grpcConn(cfg)
	if err != nil {
		return nil, err
	}
	return otlptrace.New(ctx, otlptracegrpc.NewClient(
		otlptracegrpc.WithGRPCConn(conn), otlptracegrpc.WithHeaders(cfg.headers),
		otlptracegrpc.WithTimeout(cfg.timeout), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{})))
}

func (c *connections) metricExporter(ctx context.Context, cfg otlpConfig, m metricConfig) (sdkmetric.Exporter, error) {
	if cfg.protocol == protocolHTTP {
		compression := otlpmetrichttp.NoCompression
		if cfg.gzip {
			compression = otlpmetrichttp.GzipCompression
		}
		return otlpmetrichttp.New(ctx,
			otlpmetrichttp.WithEndpointURL(cfg.endpoint.url()), otlpmetrichttp.WithURLPath(cfg.endpoint.path),
			otlpmetrichttp.WithHTTPClient(c.httpClient(cfg)), otlpmetrichttp.WithTLSClientConfig(noTLS),
			otlpmetrichttp.WithHeaders(cfg.headers), otlpmetrichttp.WithCompression(compression),
			otlpmetrichttp.WithTimeout(cfg.timeout), otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}),
			otlpmetrichttp.WithTemporalitySelector(m.temporality), otlpmetrichttp.WithAggregationSelector(m.aggregation))
	}
	conn, err := c.grpcConn(cfg)
	if err != nil {
		return nil, err
	}
	return otlpmetricgrpc.New(ctx,
		otlpmetricgrpc.WithGRPCConn(conn), otlpmetricgrpc.WithHeaders(cfg.headers),
		otlpmetricgrpc.WithTimeout(cfg.timeout), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}),
		otlpmetricgrpc.WithTemporalitySelector(m.temporality), otlpmetricgrpc.WithAggregationSelector(m.aggregation))
}

func (c *connections) logExporter(ctx context.Context, cfg otlpConfig) (sdklog.Exporter, error) {
	if cfg.protocol == protocolHTTP {
		compression := otlploghttp.NoCompression
		if cfg.gzip {
			compression = otlploghttp.GzipCompression
		}
		return otlploghttp.New(ctx,
			otlploghttp.WithEndpointURL(cfg.endpoint.url()), otlploghttp.WithURLPath(cfg.endpoint.path),
			otlploghttp.WithHTTPClient(c.httpClient(cfg)), otlploghttp.WithTLSClientConfig(noTLS),
			otlploghttp.WithHeaders(cfg.headers), otlploghttp.WithCompression(compression),
			otlploghttp.WithTimeout(cfg.timeout), otlploghttp.WithRetry(otlploghttp.RetryConfig{}))
	}
	conn, err := c.grpcConn(cfg)
	if err != nil {
		return nil, err
	}
	return otlploggrpc.New(ctx,
		otlploggrpc.WithGRPCConn(conn), otlploggrpc.WithHeaders(cfg.headers),
		otlploggrpc.WithTimeout(cfg.timeout), otlploggrpc.WithRetry(otlploggrpc.RetryConfig{}))
}
