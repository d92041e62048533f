// Users-audit is the audit service: it keeps who did what to which user, in SQLite.
//
// Telemetry goes where the OTEL_* environment says, by default to an OTLP collector on localhost.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/command"
	"github.com/rpcscope/rpcscope/examples/internal/env"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/telemetry"
)

func main() { command.Main("users-audit", run) }

func run(args []string) error {
	var cfg audit.Config
	flags := flag.NewFlagSet("users-audit", flag.ContinueOnError)
	listen := flags.String("listen", "localhost:50052", "`address` to serve on")
	check := flags.Bool("check", false, "ask the service at the address of -listen whether it is healthy, and end")
	faults := flags.Bool("faults", false, "obey the metadata key x-fault: panic, error, code=CODE, delay=DURATION")
	always := flags.String("fault", "", "`fault` of each call, such as delay=200ms or error@0.1")
	flags.StringVar(&cfg.Database, "db", "", "`path` of the database file; empty: in memory")
	flags.BoolVar(&cfg.Observe.Messages, "messages", false, "measure messages too: sizes, how many there are, and the time to the first")
	flags.DurationVar(&cfg.Drain, "drain", 10*time.Second, "how long calls may go on after SIGTERM")
	err := env.Parse(flags, args, map[string]string{"listen": "AUDIT_LISTEN", "db": "AUDIT_DB", "faults": "AUDIT_FAULTS", "fault": "AUDIT_FAULT", "drain": "AUDIT_DRAIN", "messages": "AUDIT_MESSAGES"})
	if err != nil {
		return err
	}
	if *check {
		return command.Check(audit.Check, *listen)
	}
	if cfg.Faults, err = fault.Always(*always); err != nil {
		return fmt.Errorf("-fault: %w", err)
	}
	if *faults {
		cfg.Faults = fault.Both(cfg.Faults, fault.FromMetadata)
	}

	serve := command.Listening(*listen, func(ctx context.Context, l net.Listener) error { return audit.Serve(ctx, l, cfg) })
	return telemetry.Run(context.Background(), serve, telemetry.WithServiceName("users-audit"), telemetry.WithSlogDefault())
}
