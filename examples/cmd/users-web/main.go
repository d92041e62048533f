// Users-web is the web app in front of the users service, see package web.
//
// Telemetry goes where the OTEL_* environment says, by default to an OTLP collector on localhost.
package main

import (
	"context"
	"flag"
	"net"
	"time"

	"github.com/rpcscope/rpcscope/examples/internal/command"
	"github.com/rpcscope/rpcscope/examples/internal/env"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/telemetry"
)

func main() { command.Main("users-web", run) }

func run(args []string) error {
	var cfg web.Config
	flags := flag.NewFlagSet("users-web", flag.ContinueOnError)
	listen := flags.String("listen", "localhost:8080", "`address` to serve on")
	users := flags.String("users", "localhost:50051", "`address` of the users service")
	check := flags.Bool("check", false, "ask the web app at the address of -listen whether it is ready, and end")
	flags.DurationVar(&cfg.Timeout, "timeout", 10*time.Second, "how long a call to the users service may take")
	flags.BoolVar(&cfg.Faults, "faults", false, "hand the header X-Fault on to the users service, and offer it on the page")
	flags.BoolVar(&cfg.Observe.Messages, "messages", false, "measure messages too: sizes, how many there are, and the time to the first")
	flags.StringVar(&cfg.Traces, "traces", "", "`URL` of Jaeger's UI, which the page links trace ids to")
	err := env.Parse(flags, args, map[string]string{
		"listen": "WEB_LISTEN", "users": "USERS_ADDR", "timeout": "WEB_TIMEOUT", "faults": "USERS_FAULTS", "traces": "JAEGER_URL", "messages": "WEB_MESSAGES",
	})
	if err != nil {
		return err
	}
	if *check {
		return command.Check(ready, *listen)
	}

	serve := command.Listening(*listen, func(ctx context.Context, l net.Listener) error { return web.Serve(ctx, l, *users, cfg) })
	return telemetry.Run(context.Background(), serve, telemetry.WithServiceName("users-web"), telemetry.WithSlogDefault())
}

// ready returns nil if the web app that listens on address is ready.
func ready(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" {
		host = "localhost"
	}
	return command.Ready(ctx, "http://"+net.JoinHostPort(host, port)+"/readyz")
}
