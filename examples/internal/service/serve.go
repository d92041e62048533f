package service

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/serve"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/interceptors"
)

// Config is what the server of a Service needs to know. The zero value is a database in memory, observed by the globals,
// without an admin.
type Config struct {
	Database      string               // path of the file; empty: in memory
	Open          bool                 // let everybody do everything: nobody signs up or in, and nothing is limited
	Sessions      sessions.Config      //
	Admin         string               // e-mail address of a user who is made an admin; empty: there is none
	AdminPassword string               //
	Limiter       interceptors.Limiter // of the calls of each user; nil: 20 a second, 40 at once, in this process
	Audit         string               // address of the audit service; empty: there is none
	AuditTimeout  time.Duration        // how long a call to it may take; 0: 1 s
	Faults        bool                 // obey fault.Key, and pass on to the audit service what it is to obey
	Fault         fault.Injector       // at the start of each handler; nil: none
	Drain         time.Duration        // how long calls may go on once the server stops; 0: 10 s
	Observe       observe.By
}

// NewServer returns a gRPC server of the service s. Behind opts it has what s needs itself.
func NewServer(s *Service, by observe.By, opts ...interceptors.ServerOption) *grpc.Server {
	opts = append(opts[:len(opts):len(opts)], interceptors.Validate(interceptors.ValidatorFunc(valid)))
	server := serve.NewServer(by, opts...)
	usersv1.RegisterUserServiceServer(server, s)
	if s.sessions != nil {
		usersv1.RegisterSessionServiceServer(server, &SessionService{users: s})
	}
	return server
}

// Serve serves on l, which it closes, until ctx is done. Then it refuses new calls and waits for those under way, at most
// for cfg.Drain.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	needs, err := cfg.needs(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	service := New(needs)
	var guarded interceptors.Interceptor
	if !cfg.Open {
		guarded = guard(needs.Sessions, cfg.limiter())
	}
	err = serve.Until(ctx, l, NewServer(service, cfg.Observe, guarded), serve.Config{
		Name: "users service", Health: usersv1.UserService_ServiceDesc.ServiceName,
		Drain: cfg.Drain, Stop: service.Stop, Log: cfg.Observe.Log(),
	})
	return errors.Join(err, needs.Audit.Close(), needs.Users.Close())
}

// needs opens what a service of this configuration needs.
func (c Config) needs(ctx context.Context) (n Needs, err error) {
	if c.Audit != "" {
		if n.Audit, err = audit.Dial(c.Audit, c.AuditTimeout, c.Faults, c.Observe); err != nil {
			return n, err
		}
	}
	n.Faults = c.Fault
	if c.Faults {
		n.Faults = fault.Both(c.Fault, fault.FromMetadata)
	}
	n.Users, err = store.Open(ctx, database.Config{Path: c.Database, TracerProvider: c.Observe.TracerProvider, MeterProvider: c.Observe.MeterProvider})
	if err != nil {
		return n, errors.Join(err, n.Audit.Close())
	}
	if !c.Open {
		n.Sessions, err = c.sessions(ctx, n.Users)
	}
	if err != nil {
		return n, errors.Join(err, n.Users.Close(), n.Audit.Close())
	}
	return n, nil
}

func (c Config) sessions(ctx context.Context, s *store.Store) (*sessions.Sessions, error) {
	all, err := sessions.New(s, c.Sessions)
	if err == nil && c.Admin != "" {
		err = all.EnsureAdmin(ctx, c.Admin, c.AdminPassword)
	}
	return all, err
}

func (c Config) limiter() interceptors.Limiter {
	if c.Limiter == nil {
		return interceptors.NewTokenBucket(20, 40)
	}
	return c.Limiter
}

// Check returns nil if the service at address says that it is healthy.
func Check(ctx context.Context, address string) error {
	return serve.Check(ctx, address, usersv1.UserService_ServiceDesc.ServiceName)
}
