package peers

import (
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	experimental "google.golang.org/grpc/experimental/opentelemetry"
	"google.golang.org/grpc/stats/opentelemetry"

	"github.com/rpcscope/rpcscope/interceptors"
	rpcscope "github.com/rpcscope/rpcscope/propagation"
)

// stack is one way to set up a server and a client, and where it puts what a
// scenario asks for.
type stack struct {
	name   string
	module string // the path of the peer's module; "" for rpcscope's own
	how    string // it is set up, where that needs saying
	server func(*recording) []grpc.ServerOption
	client func(*recording) []grpc.DialOption

	// Of the calls of a side, client or server: how many have ended, by code,
	// and how many are under way.
	calls    func(r *recording, side string) map[string]int
	inFlight func(r *recording, side string) int
	// Likewise of the attempts of a client.
	attempts func(r *recording) map[string]int
	// The name of the duration histogram of a side.
	duration func(side string) string
	// The codes that a server logged.
	logged func(r *recording) []string
	// How it nests interceptors of streams.
	nested nested
}

const otelgrpcModule = "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"

func noServerOptions(*recording) []grpc.ServerOption { return nil }
func noDialOptions(*recording) []grpc.DialOption     { return nil }

// w3c is what OpenTelemetry's documentation sets up.
var w3c = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// ours is rpcscope with opts on both sides, each an [interceptors.ServerOption],
// an [interceptors.ClientOption] or both.
func ours(opts ...any) stack {
	return stack{
		name: "rpcscope",
		server: func(r *recording) []grpc.ServerOption {
			return interceptors.ServerOptions(sided[interceptors.ServerOption](r, opts)...)
		},
		client: func(r *recording) []grpc.DialOption {
			return interceptors.DialOptions(sided[interceptors.ClientOption](r, opts)...)
		},
		calls: func(r *recording, side string) map[string]int {
			return r.tally("rpc."+side+".call.duration", "rpc.response.status_code")
		},
		inFlight: func(r *recording, side string) int {
			n := 0
			for _, active := range r.tally("rpcscope."+side+".active_calls", "rpc.method") {
				n += active
			}
			return n
		},
		attempts: func(r *recording) map[string]int {
			return r.tally("rpcscope.client.attempts", "rpc.response.status_code")
		},
		duration: func(side string) string { return "rpc." + side + ".call.duration" },
		logged:   func(r *recording) []string { return r.logged("server call", "rpc.response.status_code") },
	}
}

// sided returns those of opts that are options of the side O, behind the ones
// that say where to record.
func sided[O any](r *recording, opts []any) []O {
	var side []O
	for _, o := range append([]any{
		interceptors.WithTracerProvider(r.tracer), interceptors.WithMeterProvider(r.meter),
		interceptors.WithPropagator(rpcscope.New()), interceptors.WithLogger(r.logger),
	}, opts...) {
		if o, ok := o.(O); ok {
			side = append(side, o)
		}
	}
	return side
}

// otelgrpcStack is otelgrpc's stats handlers, with opts.
func otelgrpcStack(opts ...otelgrpc.Option) stack {
	all := func(r *recording) []otelgrpc.Option {
		return append([]otelgrpc.Option{otelgrpc.WithTracerProvider(r.tracer), otelgrpc.WithMeterProvider(r.meter), otelgrpc.WithPropagators(w3c)}, opts...)
	}
	return stack{
		name:   "otelgrpc",
		module: otelgrpcModule,
		server: func(r *recording) []grpc.ServerOption {
			return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(all(r)...))}
		},
		client: func(r *recording) []grpc.DialOption {
			return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(all(r)...))}
		},
		calls: func(r *recording, side string) map[string]int {
			return r.tally("rpc."+side+".call.duration", "rpc.response.status_code")
		},
		duration: func(side string) string { return "rpc." + side + ".call.duration" },
	}
}

// grpcOwn is google.golang.org/grpc/stats/opentelemetry with its default metrics
// and with traces.
func grpcOwn() stack {
	const status = attribute.Key("grpc.status")
	options := func(r *recording) opentelemetry.Options {
		return opentelemetry.Options{
			MetricsOptions: opentelemetry.MetricsOptions{MeterProvider: r.meter},
			TraceOptions:   experimental.TraceOptions{TracerProvider: r.tracer, TextMapPropagator: w3c},
		}
	}
	return stack{
		name:   "grpc/stats/opentelemetry",
		module: "google.golang.org/grpc",
		server: func(r *recording) []grpc.ServerOption {
			return []grpc.ServerOption{opentelemetry.ServerOption(options(r))}
		},
		client: func(r *recording) []grpc.DialOption {
			return []grpc.DialOption{opentelemetry.DialOption(options(r))}
		},
		calls: func(r *recording, side string) map[string]int {
			return r.tally("grpc."+side+".call.duration", status)
		},
		attempts: func(r *recording) map[string]int { return r.tally("grpc.client.attempt.duration", status) },
		duration: func(side string) string { return "grpc." + side + ".call.duration" },
	}
}

// middlewarePrometheus is go-grpc-middleware's Prometheus provider, its
// histograms included, where the documentation puts it: outermost.
func middlewarePrometheus() stack {
	sum := func(counts map[string]int) (n int) {
		for _, count := range counts {
			n += count
		}
		return n
	}
	return stack{
		name:   "go-grpc-middleware/providers/prometheus",
		module: "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus",
		server: func(r *recording) []grpc.ServerOption {
			metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
			r.registry.MustRegister(metrics)
			return []grpc.ServerOption{
				grpc.ChainUnaryInterceptor(metrics.UnaryServerInterceptor()),
				grpc.ChainStreamInterceptor(metrics.StreamServerInterceptor()),
			}
		},
		client: func(r *recording) []grpc.DialOption {
			metrics := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram())
			r.registry.MustRegister(metrics)
			return []grpc.DialOption{
				grpc.WithChainUnaryInterceptor(metrics.UnaryClientInterceptor()),
				grpc.WithChainStreamInterceptor(metrics.StreamClientInterceptor()),
			}
		},
		calls: func(r *recording, side string) map[string]int {
			counts := map[string]int{}
			for name, n := range r.counter("grpc_"+side+"_handled_total", "grpc_code") {
				counts[fromGoName(name)] = n
			}
			return counts
		},
		// Its two counters tell: what was started and not yet handled.
		inFlight: func(r *recording, side string) int {
			return sum(r.counter("grpc_"+side+"_started_total", "grpc_method")) - sum(r.counter("grpc_"+side+"_handled_total", "grpc_method"))
		},
	}
}
