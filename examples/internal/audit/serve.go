package audit

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/errors"
	auditv1 "github.com/rpcscope/rpcscope/examples/gen/audit/v1"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/serve"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Config is what the server of a Service needs to know. The zero value is a database in memory, observed by the globals.
type Config struct {
	Database string         // path of the file; empty: in memory
	Faults   fault.Injector // nil: none
	Drain    time.Duration  // how long calls may go on once the server stops; 0: 10 s
	Observe  observe.By
}

// NewServer returns a gRPC server of the service s.
func NewServer(s *Service, by observe.By, opts ...interceptors.ServerOption) *grpc.Server {
	server := serve.NewServer(by, opts...)
	auditv1.RegisterAuditServiceServer(server, s)
	return server
}

// Serve serves on l, which it closes, until ctx is done, and waits for the calls under way, at most for cfg.Drain.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	events, err := Open(ctx, database.Config{Path: cfg.Database, TracerProvider: cfg.Observe.TracerProvider, MeterProvider: cfg.Observe.MeterProvider})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	err = serve.Until(ctx, l, NewServer(New(events, cfg.Faults), cfg.Observe), serve.Config{
		Name: "audit service", Health: auditv1.AuditService_ServiceDesc.ServiceName, Drain: cfg.Drain, Log: cfg.Observe.Log(),
	})
	return errors.Join(err, events.Close())
}

// Check returns nil if the service at address says that it is healthy.
func Check(ctx context.Context, address string) error {
	return serve.Check(ctx, address, auditv1.AuditService_ServiceDesc.ServiceName)
}
