package telemetry_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/telemetry"
)

// A whole program: signals end it, what is queued is delivered, a panic is
// recorded first.
func ExampleRun() {
	serve := func(ctx context.Context) error {
		listener, err := net.Listen("tcp", "localhost:50051")
		if err != nil {
			return err
		}
		server := grpc.NewServer()
		context.AfterFunc(ctx, server.GracefulStop)
		return server.Serve(listener)
	}
	if err := telemetry.Run(context.Background(), serve, telemetry.WithServiceName("users")); err != nil {
		log.Fatal(err)
	}
}

// Traces in the terminal, and no collector at all.
func ExampleWithConsole() {
	none := func(name string) (string, bool) {
		switch name {
		case "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER":
			return "none", true
		}
		return "", false
	}
	tel, err := telemetry.Setup(context.Background(), telemetry.WithConsole(os.Stdout), telemetry.WithServiceName("demo"),
		telemetry.WithLookupEnv(none), telemetry.WithoutGlobals())
	if err != nil {
		log.Fatal(err)
	}
	defer tel.Close()
	_, span := tel.TracerProvider().Tracer("demo").Start(context.Background(), "work")
	span.End()
}

// Where each setting came from.
func ExampleTelemetry_Config() {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"OTEL_SERVICE_NAME": "users", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret", "OTEL_METRICS_EXPORTER": "none"}[name]
		return v, ok
	}
	tel, err := telemetry.Setup(context.Background(), telemetry.WithLookupEnv(lookup), telemetry.WithoutGlobals(),
		telemetry.WithEndpoint("https://collector.example.com:4317"))
	if err != nil {
		log.Fatal(err)
	}
	defer tel.Close()
	for _, name := range []string{"service.name", "traces.endpoint", "traces.protocol", "traces.headers"} {
		s, _ := tel.Config().Get(name)
		fmt.Printf("%s: %s (%s)\n", s.Name, s.Value, s.Source)
	}
	// Output:
	// service.name: users (OTEL_SERVICE_NAME)
	// traces.endpoint: https://collector.example.com:4317 (WithEndpoint)
	// traces.protocol: grpc (default)
	// traces.headers: api-key=[redacted] (OTEL_EXPORTER_OTLP_HEADERS)
}
