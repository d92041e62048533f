package service

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Config is what the server of a Service needs to know. The zero value is a database in memory, observed by the globals.
type Config struct {
	Database string        // path of the file; empty: in memory
	Faults   bool          // obey fault.Key
	Drain    time.Duration // how long calls may go on once the server stops; 0: 10 s
	Observe  observe.By
}

// NewServer returns a gRPC server of the service s. This is what a service has to do for its observability: one line.
func NewServer(s *Service, by observe.By, opts ...interceptors.ServerOption) *grpc.Server {
	options := interceptors.ServerOptions(by.Server(opts...)...)
	// Pings find watchers that are gone without a word. Stop waits for the handlers, which still need the database.
	options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}), grpc.WaitForHandlers(true))
	server := grpc.NewServer(options...)
	usersv1.RegisterUserServiceServer(server, s)
	return server
}

// Serve serves on l, which it closes, until ctx is done. Then it refuses new calls and waits for those under way, at most
// for cfg.Drain.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	users, err := store.Open(ctx, store.Config{Path: cfg.Database, TracerProvider: cfg.Observe.TracerProvider, MeterProvider: cfg.Observe.MeterProvider})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	var faults fault.Injector
	if cfg.Faults {
		faults = fault.FromMetadata
	}
	service := New(users, faults)
	server := NewServer(service, cfg.Observe)
	healthy := health.NewServer()
	healthpb.RegisterHealthServer(server, healthy)
	healthy.SetServingStatus(usersv1.UserService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	reflection.Register(server)

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	cfg.Observe.Log().InfoContext(ctx, "users service is serving", "address", l.Addr().String())
	select {
	case err = <-served:
	case <-ctx.Done():
		healthy.Shutdown()
		service.Stop()
		stop(server, cfg.drain())
		err = <-served
	}
	return errors.Join(err, users.Close())
}

func (c Config) drain() time.Duration {
	if c.Drain == 0 {
		return 10 * time.Second
	}
	return c.Drain
}

// stop stops the server when its calls have ended, or after d.
func stop(server *grpc.Server, d time.Duration) {
	timer := time.AfterFunc(d, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}

// Check returns nil if the service at address says that it is healthy.
func Check(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: usersv1.UserService_ServiceDesc.ServiceName})
	if err != nil {
		return err
	}
	if reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s says %v, want SERVING", address, reply.GetStatus())
	}
	return nil
}
