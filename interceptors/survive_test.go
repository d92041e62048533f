package interceptors_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// reports makes what is given to otel.Handle readable, until the test ends. The
// function returns what came since the last time.
func reports(t *testing.T) (since func() string) {
	var mu sync.Mutex
	var said strings.Builder
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said.WriteString(err.Error() + "\n")
	}))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		defer said.Reset()
		return said.String()
	}
}

// So it is where an attempt has a span, and where otelgrpc makes the spans.
func TestPanicInTelemetryOfAttempts(t *testing.T) {
	since := reports(t)
	quiet := tracetest.NewSpanRecorder()
	both := func(o interceptors.Option) func(*harness) {
		return func(h *harness) { h.servers, h.clients = append(h.servers, o), append(h.clients, o) }
	}
	for _, test := range []struct {
		name      string
		configure func(*harness)
		want      string
	}{
		{"WithAttempts", func(h *harness) { h.clients = append(h.clients, interceptors.WithAttempts()) }, "an attempt"},
		{"Retry", on(interceptors.ClientSide, interceptors.Retry(interceptors.RetryPolicy{})), "an attempt"},
		{"WithOTelGRPC", both(interceptors.WithOTelGRPC()), "WithOTelGRPC: its handler"},
	} {
		for name, broken := range map[string]sdktrace.SpanProcessor{"OnStart": brokenOnStart{quiet}, "OnEnd": brokenOnEnd{quiet}} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				everyKind(t, func(t *testing.T, kind interceptors.Kind) {
					h := start(t, &stub{}, func(h *harness) {
						both(interceptors.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(broken))))(h)
						test.configure(h)
					})
					if err := h.call(h.ctx(), kind); err != nil {
						t.Fatal(err)
					}
					h.idle()
					if got, want := since(), map[string]string{"OnStart": "panicked for", "OnEnd": test.want}[name]; !strings.Contains(got, want) {
						t.Errorf("reported %q, want %q in it", got, want)
					}
				})
			})
		}
	}
}

// A report that panics as well has nowhere to go.
func TestPanicInTheErrorHandler(t *testing.T) {
	reports(t)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { panic("mine too") }))
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, func(h *harness) {
			if o := interceptors.WithLogger(slog.New(brokenHandler{slog.DiscardHandler})); side == interceptors.ServerSide {
				h.servers = append(h.servers, o)
			} else {
				h.clients = append(h.clients, o)
			}
		})
		if err := h.call(h.ctx(), kind); err != nil {
			t.Fatal(err)
		}
		h.ended(2)
		h.idle()
	})
}

// What is given in an option and panics, with what it says of it.
type (
	brokenHandler    struct{ slog.Handler }
	brokenEnabled    struct{ slog.Handler }
	brokenWithAttrs  struct{ slog.Handler }
	brokenOnStart    struct{ sdktrace.SpanProcessor }
	brokenOnEnd      struct{ sdktrace.SpanProcessor }
	brokenSampler    struct{ sdktrace.Sampler }
	brokenPropagator struct {
		otelpropagation.TextMapPropagator
	}
)

func (brokenHandler) Handle(context.Context, slog.Record) error       { panic("mine") }
func (h brokenHandler) WithAttrs([]slog.Attr) slog.Handler            { return h }
func (brokenEnabled) Enabled(context.Context, slog.Level) bool        { panic("mine") }
func (brokenWithAttrs) WithAttrs([]slog.Attr) slog.Handler            { panic("mine") }
func (brokenOnStart) OnStart(context.Context, sdktrace.ReadWriteSpan) { panic("mine") }
func (brokenOnEnd) OnEnd(sdktrace.ReadOnlySpan)                       { panic("mine") }
func (brokenSampler) ShouldSample(sdktrace.SamplingParameters) (r sdktrace.SamplingResult) {
	panic("mine")
}
func (brokenPropagator) Inject(context.Context, otelpropagation.TextMapCarrier) { panic("mine") }
func (brokenPropagator) Extract(context.Context, otelpropagation.TextMapCarrier) context.Context {
	panic("mine")
}

// Rule 33: what observes a call and panics is reported, and the call, its counts and
// what else observes it are none the worse.
func TestPanicInTelemetry(t *testing.T) {
	since := reports(t)
	json := func(r *logBuffer) slog.Handler {
		return slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	replacing := func(key string) func(*harness) interceptors.Option {
		return func(h *harness) interceptors.Option {
			return interceptors.WithLogger(slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug,
				ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if a.Key == key {
						panic("mine")
					}
					return a
				}})))
		}
	}
	logging := func(wrap func(slog.Handler) slog.Handler) func(*harness) interceptors.Option {
		return func(h *harness) interceptors.Option { return interceptors.WithLogger(slog.New(wrap(json(h.logs)))) }
	}
	tracing := func(options ...sdktrace.TracerProviderOption) func(*harness) interceptors.Option {
		return func(*harness) interceptors.Option {
			return interceptors.WithTracerProvider(sdktrace.NewTracerProvider(options...))
		}
	}
	quiet := tracetest.NewSpanRecorder()
	for _, test := range []struct {
		name       string
		option     func(*harness) interceptors.Option
		want       string // of what is reported
		span, logs bool   // what there is in spite of it
	}{
		{"Handle", logging(func(h slog.Handler) slog.Handler { return brokenHandler{h} }), "WithLogger: the handler", true, false},
		{"Enabled", logging(func(h slog.Handler) slog.Handler { return brokenEnabled{h} }), "WithLogger: the handler", true, false},
		{"WithAttrs", logging(func(h slog.Handler) slog.Handler { return brokenWithAttrs{h} }), "WithLogger: the handler", true, false},
		{"ReplaceAttr", replacing("duration_us"), "WithLogger: the handler", true, false},
		{"ReplaceAttr of what all calls have", replacing("rpc.method"), "WithLogger: the handler", true, false},
		{"OnStart", tracing(sdktrace.WithSpanProcessor(brokenOnStart{quiet})), "WithTracerProvider: the tracer", false, true},
		{"ShouldSample", tracing(sdktrace.WithSampler(brokenSampler{sdktrace.AlwaysSample()})), "WithTracerProvider: the tracer", false, true},
		{"OnEnd", tracing(sdktrace.WithSpanProcessor(brokenOnEnd{quiet})), "WithTracerProvider: the span", false, true},
		{"propagator", func(*harness) interceptors.Option {
			return interceptors.WithPropagator(brokenPropagator{otelpropagation.TraceContext{}})
		}, "WithPropagator: the propagator", true, true},
		{"meter", func(h *harness) interceptors.Option {
			return interceptors.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()), sdkmetric.WithView(
				sdkmetric.NewView(sdkmetric.Instrument{Name: "*"}, sdkmetric.Stream{AttributeFilter: func(attribute.KeyValue) bool { panic("mine") }}))))
		}, "WithMeterProvider: an instrument", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
				for _, want := range []codes.Code{codes.OK, codes.NotFound} {
					service := &stub{}
					if want != codes.OK {
						service = failing(func(context.Context) error { return errors.NotFound("no such thing") })
					}
					h := start(t, service, func(h *harness) {
						if o := test.option(h); side == interceptors.ServerSide {
							h.servers = append(h.servers, o)
						} else {
							h.clients = append(h.clients, o)
						}
					})
					if err := h.call(h.ctx(), kind); status.Code(err) != want {
						t.Errorf("the caller got %v, want %v", err, want)
					}
					h.ended(map[bool]int{true: 2, false: 1}[test.span])
					h.idle()
					if test.name != "meter" {
						if got := h.counts("rpc."+side.String()+".call.duration", "rpc.response.status_code"); len(got) != 1 {
							t.Errorf("%s calls by code: %v, want one", side, got)
						}
					}
					records := map[bool]int{true: 2, false: 1}[test.logs]
					h.eventually("the records", func() bool { return len(h.logs.records(t)) >= records })
					if got := len(h.logs.records(t)); got != records {
						t.Errorf("%d records, want %d", got, records)
					}
					if got := since(); !strings.Contains(got, "interceptors: "+test.want) || !strings.Contains(got, "panicked for /grpc.testing.TestService/") || !strings.Contains(got, ": mine") {
						t.Errorf("reported %q, want what panicked, %q", got, test.want)
					}
				}
			})
		})
	}
}
