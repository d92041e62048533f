package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// The default diagnostics: a prefix, no time, the level of OTEL_LOG_LEVEL.
func TestStderrDiagnostics(t *testing.T) {
	for level, want := range map[string]string{
		"debug": "rpcscope telemetry: level=DEBUG msg=d\nrpcscope telemetry: level=INFO msg=i\nrpcscope telemetry: level=WARN msg=w k=v\nrpcscope telemetry: level=ERROR msg=e\n",
		"warn":  "rpcscope telemetry: level=WARN msg=w k=v\nrpcscope telemetry: level=ERROR msg=e\n",
		"error": "rpcscope telemetry: level=ERROR msg=e\n",
		"none":  "",
	} {
		var b bytes.Buffer
		d := (&environment{lookup: Env{}.lookup}).newDiagnostics(stderrDiagnostics(&b, level))
		d.Debug("d")
		d.Info("i")
		d.Warn("w", "k", "v")
		d.Error("e")
		if b.String() != want {
			t.Errorf("%s: got\n%swant\n%s", level, &b, want)
		}
	}
}

// Errors of the SDK are said once a minute, whatever their number; those that
// are reported elsewhere, or mean that a shutdown interrupted something, never.
func TestSDKErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log DiagLog
		d := log.diagnostics()
		for range 90 {
			d.Handle(errors.New("bad instrument name"))
			d.Handle(fmt.Errorf("collect: %w", context.Canceled))
			d.Handle(fmt.Errorf("export: %w", errReported))
			d.Handle(nil)
			advance(time.Second)
		}
		if got := log.Lines("bad instrument name"); len(got) != 2 || len(log.Lines("")) != 2 {
			t.Errorf("reported:\n%s", &log)
		}
		for i := range 1000 {
			d.Handle(fmt.Errorf("error %d", i))
		}
		if len(d.seen) > 64 {
			t.Errorf("%d texts are remembered", len(d.seen))
		}
	})
}

// The SDK's log: warnings and errors pass, dumps of batches and quotations of
// the environment do not.
func TestSDKLog(t *testing.T) {
	var log DiagLog
	l := logr.New(&sdkLog{d: log.diagnostics()})
	for range 1000 { // said once a minute, as errors are
		l.WithName("n").WithValues("a", 1).V(1).Info("too many", "b", 2)
	}
	l.V(4).Info("a dump", "data", "secret")
	l.V(8).Info("a dump", "data", "secret")
	l.Error(errors.New("missing '='"), "parse headers", "input", "secret")
	l.Error(errors.New("broken"), "creating instrument")
	want := "level=WARN msg=\"OpenTelemetry SDK: too many\" a=1 b=2\nlevel=WARN msg=\"OpenTelemetry SDK: creating instrument\\nbroken\"\n"
	if log.String() != want {
		t.Errorf("got\n%swant\n%s", &log, want)
	}
}

// What the HTTP server of the Prometheus endpoint logs is diagnostics too.
func TestPrometheusServerLog(t *testing.T) { // rule 33
	var log DiagLog
	p, _, err := newPrometheusExporter("127.0.0.1:0", "WithPrometheus", log.diagnostics())
	if err != nil {
		t.Fatal(err)
	}
	p.server.ErrorLog.Print("http: panic serving")
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if got := log.String(); got != "level=WARN msg=\"http: panic serving\"\n" {
		t.Errorf("reported %q", got)
	}
}
