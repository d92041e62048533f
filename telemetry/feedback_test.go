package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/grpclog"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func init() {
	telemetry.Programs["trouble"] = troubleProgram
	telemetry.Programs["grpc logs"] = grpcLogsProgram
	telemetry.Programs["initial handler"] = initialHandlerProgram
}

// troubleProgram has telemetry in every kind of trouble, and a default logger
// that exports what it is given.
func troubleProgram() {
	ctx := context.Background()
	tel := telemetry.MustSetup(ctx, telemetry.WithSlogDefault(), telemetry.WithServiceName("child"))
	for i := range 5000 { // more than the queue of spans holds
		_, span := otel.Tracer("child").Start(ctx, "work")
		span.End()
		if i%1000 == 0 {
			slog.Info("application", "i", i)
			log.Print("application too")
		}
	}
	otel.Handle(errors.New("trouble of the SDK"))
	_, _ = tel.MeterProvider().Meter("child").Int64Counter("no good name")
	fmt.Println(tel.Close() != nil)
}

// Whatever is in trouble, what is said about it goes to stderr and never
// through slog.Default, from where it would be exported.
func TestDiagnosticsDoNotFeedBack(t *testing.T) { // rule 33
	logs, dead := telemetrytest.NewCollector(t, telemetrytest.OK), telemetrytest.NewCollector(t, telemetrytest.Refuse)
	child := telemetry.StartChild(t, "trouble", "OTEL_EXPORTER_OTLP_ENDPOINT="+dead.Endpoint(), "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="+logs.Endpoint(),
		"OTEL_BSP_SCHEDULE_DELAY=often", "OTEL_BLRP_SCHEDULE_DELAY=10")
	child.ReadLine(t, "true") // data was lost
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	for _, l := range logs.Logs() {
		if !strings.HasPrefix(l.GetBody().GetStringValue(), "application") {
			t.Errorf("exported %q", l.GetBody().GetStringValue())
		}
	}
	if n := len(logs.Logs()); n != 10 {
		t.Errorf("exported %d records, want 10", n)
	}
	for _, want := range []string{
		`level=WARN msg="OTEL_BSP_SCHEDULE_DELAY=`, `level=WARN msg="cannot deliver telemetry to `, `level=WARN msg="the queue of traces is full`,
		`level=WARN msg="OpenTelemetry SDK: trouble of the SDK"`,
	} {
		if n := strings.Count(child.Stderr.String(), "rpcscope telemetry: "+want); n != 1 {
			t.Errorf("stderr has %s %d times:\n%s", want, n, &child.Stderr)
		}
	}
}

// grpcLogger is gRPC's log, at its most talkative, in slog.
type grpcLogger struct{}

func (grpcLogger) log(args ...any) { slog.Info("grpc: " + fmt.Sprint(args...)) }

func (l grpcLogger) Info(args ...any)                    { l.log(args...) }
func (l grpcLogger) Infoln(args ...any)                  { l.log(args...) }
func (l grpcLogger) Infof(format string, args ...any)    { l.log(fmt.Sprintf(format, args...)) }
func (l grpcLogger) Warning(args ...any)                 { l.log(args...) }
func (l grpcLogger) Warningln(args ...any)               { l.log(args...) }
func (l grpcLogger) Warningf(format string, args ...any) { l.log(fmt.Sprintf(format, args...)) }
func (l grpcLogger) Error(args ...any)                   { l.log(args...) }
func (l grpcLogger) Errorln(args ...any)                 { l.log(args...) }
func (l grpcLogger) Errorf(format string, args ...any)   { l.log(fmt.Sprintf(format, args...)) }
func (l grpcLogger) Fatal(args ...any)                   { l.log(args...) }
func (l grpcLogger) Fatalln(args ...any)                 { l.log(args...) }
func (l grpcLogger) Fatalf(format string, args ...any)   { l.log(fmt.Sprintf(format, args...)) }
func (grpcLogger) V(int) bool                            { return true }

// grpcLogsProgram exports, over gRPC, what gRPC says of its connections, the
// exporters' own among them.
func grpcLogsProgram() {
	ctx := context.Background()
	grpclog.SetLoggerV2(grpcLogger{})
	tel := telemetry.MustSetup(ctx, telemetry.WithSlogDefault(), telemetry.WithServiceName("child"))
	for i := range 50 {
		slog.Info("application", "i", i)
		if err := tel.ForceFlush(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	fmt.Println("done")
	_ = tel.Close()
}

// What gRPC says of the exporters' connections may be exported over them: it is
// said when they are made, not whenever they are used.
func TestGRPCLogsDoNotFeedBack(t *testing.T) { // rule 33
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	child := telemetry.StartChild(t, "grpc logs", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint())
	child.ReadLine(t, "done")
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	var first, rest, application int
	for _, l := range c.Logs() {
		switch {
		case l.GetBody().GetStringValue() == "application":
			application++
		case application <= 5:
			first++
		case application < 50:
			rest++
			t.Logf("said after %d exports: %s", application, l.GetBody().GetStringValue())
		}
	}
	if application != 50 || first == 0 || rest > 5 {
		t.Errorf("exported %d records of the application's and of gRPC %d at first, then %d", application, first, rest)
	}
}

// initialHandlerProgram makes a handler upon slog's initial one the default one.
func initialHandlerProgram() {
	tel := telemetry.MustSetup(context.Background(), telemetry.WithServiceName("child"))
	slog.SetDefault(slog.New(tel.SlogHandler(slog.Default().Handler())).With("with", 1))
	slog.Info("through slog", "k", "v")
	log.Print("through log")
	fmt.Println("done")
	_ = tel.Close()
}

// slog's initial handler, wrapped and made the default, waits for itself
// forever in a program without care.
func TestInitialHandlerMayBeWrapped(t *testing.T) {
	c := telemetrytest.NewCollector(t, telemetrytest.OK)
	child := telemetry.StartChild(t, "initial handler", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint())
	child.ReadLine(t, "done")
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	for _, want := range []string{`level=INFO msg="through slog" with=1 k=v`, `level=INFO msg="through log" with=1`} {
		if strings.Count(child.Stderr.String(), want) != 1 {
			t.Errorf("stderr lacks %s:\n%s", want, &child.Stderr)
		}
	}
	if got := c.Logs(); len(got) != 2 || got[0].GetBody().GetStringValue() != "through slog" || got[1].GetBody().GetStringValue() != "through log" {
		t.Errorf("exported %d records", len(got))
	}
}
