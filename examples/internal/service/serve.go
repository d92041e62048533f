package service

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
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
	"github.com/rpcscope/rpcscope/interceptors/redislimit"
)

// Config is what the server of a Service needs to know. The zero value is a database in memory, observed by the globals,
// without an admin.
type Config struct {
	Database      string               // path of the file; empty: in memory
	Open          bool                 // let everybody do everything: nobody signs up or in, and nothing is limited
	Sessions      sessions.Config      //
	Admin         string               // e-mail address of a user who is made an admin; empty: there is none
	AdminPassword string               //
	Limit         float64              // calls a second of each user, and twice as many at once; 0: 20
	Redis         string               // address of a Redis that the servers count those calls in together; empty: each counts its own
	Limiter       interceptors.Limiter // of those calls, in place of Limit and Redis; nil: made of them
	Audit         string               // address of the audit service; empty: there is none
	AuditTimeout  time.Duration        // how long a call to it may take; 0: 1 s
	Resilient     bool                 // make calls to it again that fail, and none for a while after it failed often
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
	limiter, closeLimiter := cfg.limiter()
	if !cfg.Open {
		guarded = guard(needs.Sessions, limiter)
	}
	err = serve.Until(ctx, l, NewServer(service, cfg.Observe, guarded), serve.Config{
		Name: "users service", Health: usersv1.UserService_ServiceDesc.ServiceName,
		Drain: cfg.Drain, Stop: service.Stop, Log: cfg.Observe.Log(),
	})
	return errors.Join(err, needs.Audit.Close(), needs.Users.Close(), closeLimiter())
}

// needs opens what a service of this configuration needs.
func (c Config) needs(ctx context.Context) (n Needs, err error) {
	n.Faults = c.Fault
	var faults *fault.Switch
	if c.Faults {
		faults = new(fault.Switch)
		n.Faults = fault.Both(c.Fault, faults.Inject)
	}
	if c.Audit != "" {
		if n.Audit, err = audit.Dial(c.Audit, c.AuditTimeout, faults, c.Observe, c.resilience()); err != nil {
			return n, err
		}
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

// resilience is what calls to the audit service have around them. To record something twice does no harm.
func (c Config) resilience() interceptors.Interceptor {
	if !c.Resilient {
		return nil
	}
	return interceptors.Chain(
		interceptors.Retry(interceptors.RetryPolicy{}),
		interceptors.CircuitBreaker(interceptors.BreakerPolicy{FailureThreshold: 10, OpenFor: 2 * time.Second}),
	)
}

func (c Config) sessions(ctx context.Context, s *store.Store) (*sessions.Sessions, error) {
	all, err := sessions.New(s, c.Sessions)
	if err == nil && c.Admin != "" {
		err = all.EnsureAdmin(ctx, c.Admin, c.AdminPassword)
	}
	return all, err
}

// limiter returns what limits the calls of each user, and what closes it.
func (c Config) limiter() (interceptors.Limiter, func() error) {
	perSecond := cmp.Or(c.Limit, 20)
	burst := max(1, int(2*perSecond))
	switch {
	case c.Limiter != nil:
		return c.Limiter, func() error { return nil }
	case c.Redis != "":
		client := redis.NewClient(&redis.Options{Addr: c.Redis, ContextTimeoutEnabled: true})
		return redislimit.New(client, perSecond, burst), client.Close
	}
	return interceptors.NewTokenBucket(perSecond, burst), func() error { return nil }
}

// Check returns nil if the service at address says that it is healthy.
func Check(ctx context.Context, address string) error {
	return serve.Check(ctx, address, usersv1.UserService_ServiceDesc.ServiceName)
}
