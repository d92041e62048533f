package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/propagation"
)

// Config is what an App needs to know. The zero value is observed by the globals.
type Config struct {
	Timeout time.Duration // of a call to the users service that is to end; 0: 10 s
	Faults  bool          // hand the header X-Fault on to the users service, and offer it on the page
	Traces  string        // URL of Jaeger's UI, which the page links trace ids to; empty: no links
	Observe observe.By
}

// App is the handler of the web app.
type App struct {
	cfg      Config
	users    usersv1.UserServiceClient
	sessions usersv1.SessionServiceClient
	health   healthpb.HealthClient
	stopped  context.Context
	stop     context.CancelFunc
	handler  http.Handler
}

// New returns an App that calls the users service on conn.
func New(conn grpc.ClientConnInterface, cfg Config) *App {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	a := &App{
		cfg: cfg, users: usersv1.NewUserServiceClient(conn), sessions: usersv1.NewSessionServiceClient(conn), health: healthpb.NewHealthClient(conn),
	}
	a.stopped, a.stop = context.WithCancel(context.Background())

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", exactly(a.page))
	mux.Handle("GET /assets/", assets)
	mux.HandleFunc("GET /users/", exactly(a.list))
	mux.HandleFunc("POST /users/", exactly(a.create))
	mux.HandleFunc("GET /users/events", a.follow)
	mux.HandleFunc("DELETE /users/{id}", a.delete)
	mux.HandleFunc("GET /users/{id}/history", a.history)
	mux.HandleFunc("POST /users/me", a.signUp)
	mux.HandleFunc("GET /session", a.session)
	mux.HandleFunc("POST /session", a.logIn)
	mux.HandleFunc("DELETE /session", a.logOut)
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", a.ready)

	// From the outside in: the request id and the trace context, the span, what is told about them, the routes. What a
	// browser says about users and baggage is not believed.
	boundary := propagation.New()
	a.handler = boundary.Handler(a.observed(boundary)(a.told(http.NewCrossOriginProtection().Handler(mux))))
	return a
}

// ServeHTTP implements http.Handler.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Stop ends the event streams, which would otherwise never end.
func (a *App) Stop() { a.stop() }

// observed makes the HTTP server's span and metrics.
func (a *App) observed(boundary *propagation.Propagator) func(http.Handler) http.Handler {
	options := []otelhttp.Option{
		otelhttp.WithPropagators(boundary),
		otelhttp.WithFilter(func(r *http.Request) bool { return observable(r.URL.Path) }),
	}
	if a.cfg.Observe.TracerProvider != nil {
		options = append(options, otelhttp.WithTracerProvider(a.cfg.Observe.TracerProvider))
	}
	if a.cfg.Observe.MeterProvider != nil {
		options = append(options, otelhttp.WithMeterProvider(a.cfg.Observe.MeterProvider))
	}
	return otelhttp.NewMiddleware("", options...)
}

// observable tells whether requests of path are worth a span and a log record.
func observable(path string) bool {
	return path != "/healthz" && path != "/readyz" && !strings.HasPrefix(path, "/assets/")
}

// told tells the client, the span and the log which request and which trace this is.
func (a *App) told(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !observable(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		span := trace.SpanFromContext(r.Context())
		span.SetAttributes(attribute.String("request.id", propagation.RequestID(r.Context())))
		if sc := span.SpanContext(); sc.IsValid() {
			w.Header().Set("X-Trace-Id", sc.TraceID().String())
			w.Header().Set("Server-Timing", `traceparent;desc="00-`+sc.TraceID().String()+"-"+sc.SpanID().String()+"-"+sc.TraceFlags().String()+`"`)
		}
		start := time.Now()
		status := &statusWriter{ResponseWriter: w}
		completed := false
		defer func() {
			if !completed {
				status.status = http.StatusInternalServerError // the handler panics
			}
			a.log(r, status, time.Since(start))
		}()
		next.ServeHTTP(status, r)
		completed = true
	})
}

func (a *App) log(r *http.Request, w *statusWriter, elapsed time.Duration) {
	a.cfg.Observe.Log().LogAttrs(r.Context(), levelOf(w.code()), "http request",
		slog.String("http.request.method", r.Method),
		slog.String("http.route", route(r)),
		slog.Int("http.response.status_code", w.code()),
		slog.Int64("duration_us", elapsed.Microseconds()))
}

func levelOf(status int) slog.Level {
	switch {
	case status >= 500:
		return slog.LevelError
	case status >= 400:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// statusWriter remembers the status code.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// exactly serves the path of its pattern, not what is beneath it.
func exactly(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != route(r) {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}
}

// route returns the path of the pattern that r matched.
func route(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	return path
}

// outgoing returns the context of a call to the users service on behalf of r.
func (a *App) outgoing(r *http.Request) context.Context {
	ctx := r.Context()
	if wanted := r.Header.Get(fault.Key); a.cfg.Faults && wanted != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, fault.Key, wanted)
	}
	if token := tokenOf(r); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return ctx
}

func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.Timeout)
	defer cancel()
	reply, err := a.health.Check(ctx, &healthpb.HealthCheckRequest{Service: usersv1.UserService_ServiceDesc.ServiceName})
	switch {
	case err != nil:
		fail(w, r, err)
	case reply.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
