package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
)

// Who may do everything. The system listens on loopback, and what is in it ends with it.
const (
	admin         = "admin@example.com"
	adminPassword = "correct horse"
)

// system is the users service, the audit service, the web app and a gRPC client, each with telemetry of its own.
type system struct {
	web            string // URL
	address, audit string // where users service and audit service listen
	client         usersv1.UserServiceClient
	last           observe.IDs // of the client
	token          string      // of who makes the requests

	recorder *recorder
	metrics  *sdkmetric.ManualReader // of the users service

	stop  context.CancelFunc
	ended sync.WaitGroup
	mu    sync.Mutex
	err   error
	close []func() error
}

// start starts a system whose traces are printed to out. The services listen on webAddress and usersAddress, or, where
// those are in use, on any free port.
func start(out io.Writer, webAddress, usersAddress string) (_ *system, err error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &system{recorder: newRecorder(), metrics: sdkmetric.NewManualReader(), stop: stop}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.shutdown())
		}
	}()
	console := telemetry.NewConsole(out) // one for all: a trace through several services is one tree
	api, err := s.telemetry("users-api", console, telemetry.WithMetricReader(s.metrics))
	if err != nil {
		return nil, err
	}
	auditing, err := s.telemetry("users-audit", console)
	if err != nil {
		return nil, err
	}
	app, err := s.telemetry("users-web", console)
	if err != nil {
		return nil, err
	}
	cli, err := s.telemetry("users-cli", console)
	if err != nil {
		return nil, err
	}

	users, err := listen(usersAddress)
	if err != nil {
		return nil, err
	}
	s.address = users.Addr().String()
	events, err := listen("localhost:0")
	if err != nil {
		return nil, err
	}
	s.audit = events.Addr().String()
	s.serve(func() error {
		return audit.Serve(ctx, events, audit.Config{Faults: fault.FromMetadata, Observe: auditing})
	})
	s.serve(func() error {
		return service.Serve(ctx, users, service.Config{Admin: admin, AdminPassword: adminPassword, Audit: s.audit, Faults: true, Observe: api})
	})
	pages, err := listen(webAddress)
	if err != nil {
		return nil, err
	}
	s.web = "http://" + pages.Addr().String()
	s.serve(func() error {
		return web.Serve(ctx, pages, s.address, web.Config{Faults: true, Traces: os.Getenv("JAEGER_URL"), Observe: app})
	})

	conn, err := web.Dial(s.address, cli, interceptors.Interceptor(s.last.Look))
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, conn.Close)
	s.client = usersv1.NewUserServiceClient(conn)
	return s, s.ready()
}

// ready waits until the users service serves, which hashes the admin's password before: on a busy machine that takes seconds.
func (s *system) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return service.Check(ctx, s.address)
}

// telemetry sets up the telemetry of one service.
func (s *system) telemetry(name string, console *telemetry.Console, opts ...telemetry.Option) (observe.By, error) {
	opts = append(opts, telemetry.WithServiceName(name), telemetry.WithoutGlobals(), telemetry.WithLookupEnv(lookupEnv),
		telemetry.WithSpanProcessor(console), telemetry.WithSpanProcessor(s.recorder), telemetry.WithLogProcessor(s.recorder.logs()))
	tel, err := telemetry.Setup(context.Background(), opts...)
	s.close = append(s.close, tel.Close)
	return observe.Through(tel, nil), err // the trees say it all
}

// lookupEnv is the environment, in which nothing is exported unless an endpoint is named, and services keep their names.
func lookupEnv(name string) (string, bool) {
	switch name {
	case "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED":
		return "", false
	case "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER":
		signal := strings.TrimSuffix(name, "_EXPORTER")
		signal = strings.TrimPrefix(signal, "OTEL_")
		if cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT")) == "" {
			return "none", true
		}
	}
	return os.LookupEnv(name)
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		l, err = net.Listen("tcp", "localhost:0")
	}
	if err != nil {
		return nil, fmt.Errorf("no port to listen on: %w", err)
	}
	return l, nil
}

func (s *system) serve(serve func() error) {
	s.ended.Go(func() {
		err := serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = errors.Join(s.err, err)
	})
}

// shutdown stops everything and returns what went wrong with it.
func (s *system) shutdown() error {
	s.stop()
	s.ended.Wait()
	err := s.err
	for i := len(s.close) - 1; i >= 0; i-- {
		err = errors.Join(err, s.close[i]())
	}
	return err
}
