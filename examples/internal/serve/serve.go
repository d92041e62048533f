// Package serve runs gRPC servers: with health and reflection, until they are told to stop.
package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/interceptors"
)

// NewServer returns a gRPC server observed by by. This is what a service has to do for its observability: one line.
func NewServer(by observe.By, opts ...interceptors.ServerOption) *grpc.Server {
	options := interceptors.ServerOptions(by.Server(opts...)...)
	// Pings find clients that are gone without a word. Stop waits for the handlers, which still need the database.
	options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}), grpc.WaitForHandlers(true))
	return grpc.NewServer(options...)
}

// Config is what Until needs to know.
type Config struct {
	Name   string        // of the program, for its log
	Health string        // the service whose health is told
	Drain  time.Duration // how long calls may go on once the server stops; 0: 10 s
	Stop   func()        // ends streams that would never end by themselves; nil: there are none
	Log    *slog.Logger
}

// Until serves on l, which it closes, until ctx is done. Then it refuses new calls and waits for those under way, at most
// for cfg.Drain.
func Until(ctx context.Context, l net.Listener, server *grpc.Server, cfg Config) error {
	healthy := health.NewServer()
	healthpb.RegisterHealthServer(server, healthy)
	healthy.SetServingStatus(cfg.Health, healthpb.HealthCheckResponse_SERVING)
	reflection.Register(server)

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	cfg.Log.InfoContext(ctx, cfg.Name+" is serving", "address", l.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	healthy.Shutdown()
	if cfg.Stop != nil {
		cfg.Stop()
	}
	stop(server, cfg.drain())
	return <-served
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

// Check returns nil if the server at address says that service is healthy.
func Check(ctx context.Context, address, service string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s says %v, want SERVING", address, reply.GetStatus())
	}
	return nil
}
