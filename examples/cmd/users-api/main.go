// Users-api is the users service: gRPC in front of SQLite.
//
// Telemetry goes where the OTEL_* environment says, by default to an OTLP collector on localhost.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rpcscope/rpcscope/examples/internal/command"
	"github.com/rpcscope/rpcscope/examples/internal/env"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/telemetry"
)

func main() { command.Main("users-api", run) }

// redisLog is for what the Redis client says.
type redisLog struct{}

// Printf logs at DEBUG.
func (redisLog) Printf(ctx context.Context, format string, args ...any) {
	slog.DebugContext(ctx, "redis: "+fmt.Sprintf(format, args...))
}

func run(args []string) error {
	var cfg service.Config
	flags := flag.NewFlagSet("users-api", flag.ContinueOnError)
	listen := flags.String("listen", "localhost:50051", "`address` to serve on")
	check := flags.Bool("check", false, "ask the service at the address of -listen whether it is healthy, and end")
	flags.StringVar(&cfg.Database, "db", "", "`path` of the database file; empty: in memory")
	flags.BoolVar(&cfg.Open, "open", false, "let everybody do everything: nobody signs up or in, and nothing is limited")
	flags.StringVar(&cfg.Admin, "admin", "", "`address` of a user who is made an admin, with the password of $USERS_ADMIN_PASSWORD")
	flags.DurationVar(&cfg.Sessions.Lifetime, "session", 12*time.Hour, "how long a session lasts")
	flags.Float64Var(&cfg.Limit, "limit", 20, "calls a second that a user may make, and twice as many at once")
	flags.StringVar(&cfg.Redis, "redis", "", "`address` of a Redis in which all servers together count the calls of users; empty: each counts its own")
	flags.StringVar(&cfg.Audit, "audit", "", "`address` of the audit service; empty: nobody is told who did what")
	flags.DurationVar(&cfg.AuditTimeout, "audit-timeout", time.Second, "how long a call to the audit service may take")
	flags.BoolVar(&cfg.Resilient, "resilient", false, "make calls to the audit service again that fail, and none for a while after it failed often")
	flags.BoolVar(&cfg.Faults, "faults", false, "obey the metadata key x-fault: panic, error, code=CODE, delay=DURATION, audit:...")
	flags.Func("fault", "`fault` of each call, such as delay=200ms or error@0.1", func(text string) (err error) {
		cfg.Fault, err = fault.Always(text)
		return err
	})
	flags.BoolVar(&cfg.Observe.Messages, "messages", false, "measure messages too: sizes, how many there are, and the time to the first")
	flags.DurationVar(&cfg.Drain, "drain", 10*time.Second, "how long calls may go on after SIGTERM")
	err := env.Parse(flags, args, map[string]string{
		"listen": "USERS_LISTEN", "db": "USERS_DB", "faults": "USERS_FAULTS", "fault": "USERS_FAULT", "drain": "USERS_DRAIN", "audit": "AUDIT_ADDR",
		"open": "USERS_OPEN", "admin": "USERS_ADMIN", "limit": "USERS_LIMIT", "redis": "REDIS_ADDR",
		"resilient": "USERS_RESILIENT", "messages": "USERS_MESSAGES",
	})
	if err != nil {
		return err
	}
	if *check {
		return command.Check(service.Check, *listen)
	}

	if !(cfg.Limit > 0 && cfg.Limit <= 1e6) {
		return fmt.Errorf("-limit %v, want more than 0 and at most 1000000", cfg.Limit)
	}
	cfg.AdminPassword = os.Getenv("USERS_ADMIN_PASSWORD")

	// That its Redis is away the limiter tells, in metrics and spans: a line for each attempt to connect helps nobody.
	redis.SetLogger(redisLog{})

	serve := command.Listening(*listen, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, cfg) })
	return telemetry.Run(context.Background(), serve, telemetry.WithServiceName("users-api"), telemetry.WithSlogDefault())
}
