package interop_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// caseVariable tells the test binary that it is the process of a case.
const caseVariable = "RPCSCOPE_INTEROP"

// engines are what makes spans and durations.
var engines = map[string]interceptors.Option{"own": nil, "otelgrpc": interceptors.WithOTelGRPC()}

func TestInterop(t *testing.T) {
	for engine, option := range engines {
		for name, c := range cases {
			if c.run == nil || engine == "otelgrpc" && name == "DoUnimplementedService" {
				continue // otelgrpc never ends the span of an unknown method
			}
			t.Run(engine+"/"+name, func(t *testing.T) {
				if os.Getenv(caseVariable) != "" {
					run(t, option, c.run)
					return
				}
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
				cmd.Env = append(os.Environ(), caseVariable+"=1", "GRPC_GO_LOG_SEVERITY_LEVEL=error")
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
					t.Fatalf("%v; the process wrote:\n%s", err, out)
				}
			})
		}
	}
}

// run is a case in its process: both sides with everything that there is, and
// nothing left of its calls when it is over.
func run(t *testing.T, engine interceptors.Option, do func(context.Context, peer)) {
	rec := telemetrytest.New(t) // fails the test for spans and goroutines that do not end
	everything := []interceptors.Option{
		interceptors.WithMessageMetrics(), interceptors.WithMessageEvents(), interceptors.WithFilter(interceptors.Methods("*")),
		interceptors.WithAttributes(func(_ context.Context, c *interceptors.Call) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("kind", c.Kind.String())}
		}),
		noop, hooks, interceptors.Chain(noop, nil, interceptors.For(interceptors.Methods("/grpc.testing.TestService/*"), noop)), engine,
		interceptors.WithErrorConverter(errors.NewConverter(errors.WithDomain("interop"))),
		interceptors.Timeout(time.Hour), interceptors.MaxTimeout(time.Hour), interceptors.LogPayloads(), interceptors.Validate(),
		interceptors.ConcurrencyLimit(1000), interceptors.AdaptiveLimit(interceptors.AdaptivePolicy{Min: 100, Initial: 100}),
	}
	bucket := interceptors.NewTokenBucket(1e6, 1e6)
	servers := []interceptors.ServerOption{
		interceptors.WithPublicEndpoint(),
		interceptors.Authenticate(interceptors.BearerToken(verify), interceptors.Recheck(time.Second), interceptors.AllowAnonymous(interceptors.Methods(reports))),
		interceptors.RateLimit(bucket, interceptors.ByUser, interceptors.QuotaHeaders()), interceptors.RateLimit(bucket, interceptors.ByMethod, interceptors.PerMessage()),
		interceptors.Authorize(interceptors.Anyone(reports), interceptors.Allow("*", interceptors.Role("tester"))),
	}
	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }
	clients := []interceptors.ClientOption{
		interceptors.WithAttempts(),
		interceptors.For(unary, interceptors.Hedge(interceptors.HedgePolicy{})),
		interceptors.For(interceptors.Not(unary), interceptors.Retry(interceptors.RetryPolicy{PerAttemptTimeout: time.Minute})),
		interceptors.CircuitBreaker(interceptors.BreakerPolicy{}),
		interceptors.Token(interceptors.CachedToken(issue), interceptors.AllowPlaintext()),
	}
	for _, o := range everything {
		if o != nil {
			servers, clients = append(servers, o), append(clients, o)
		}
	}
	server := newServer(rec.ServerOptions(servers...))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	dial := func() *grpc.ClientConn {
		// The policy under which a call learns what load its server reports.
		conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), append(rec.DialOptions(clients...),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))...)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn := dial()
	do(ctx, peer{conn, dial})
	_ = conn.Close()
	server.GracefulStop() // waits for the handlers
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, side := range []string{"server", "client"} {
		inFlight := func() int64 { return rec.Metric("rpcscope." + side + ".active_calls").Counter() }
		for inFlight() != 0 && ctx.Err() == nil { // a case leaves a stream that it has cancelled
			runtime.Gosched()
		}
		if n := inFlight(); n != 0 {
			t.Errorf("%v calls are in flight on the %s", n, side)
		}
	}
	if n := rec.Metric("rpcscope.client.requests_per_call").HistogramCount(); n == 0 {
		t.Error("no call was recorded")
	}
}

// reports of load are asked for by gRPC itself, and by no interceptor of the
// connection: they come without a token.
const reports = "/xds.service.orca.v3.OpenRcaService/*"

func issue(context.Context) (token string, expires time.Time, err error) {
	return "a-token", time.Now().Add(time.Hour), nil
}

func verify(_ context.Context, token string) (propagation.Identity, error) {
	if token != "a-token" {
		return propagation.Identity{}, errors.Unauthenticated("a token that nobody issued")
	}
	return propagation.Identity{UserID: "ada", Roles: []string{"tester"}, ExpiresAt: time.Now().Add(time.Hour)}, nil
}

var noop interceptors.Interceptor = func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error { return next(ctx) }

var hooks interceptors.Interceptor = func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
	call.OnSend(func(any) error { return nil })
	call.OnReceive(func(any) error { return nil })
	return next(ctx)
}

// The table has every case that the package has, and no other.
func TestCasesAreAll(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "google.golang.org/grpc/interop").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source: %v", err)
	}
	var want []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Do") {
				want = append(want, f.Name.Name)
			}
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(cases))); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
	for name, c := range cases {
		if (c.run == nil) == (c.reason == "") {
			t.Errorf("%s must either run or say why it does not", name)
		}
	}
}
