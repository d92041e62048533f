package telemetry_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

const secret = "hunter2-s3cr3t-token"

// A back end that quotes the credentials it refuses: they appear in no report,
// no error, no setting.
func TestSecretsStayPrivate(t *testing.T) { // rules 29, 32
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			quoting := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				text := "bad token " + r.Header.Get("Authorization") + " / " + r.Header.Get("X-Api-Key")
				if protocol == "grpc" {
					w.Header().Set("Content-Type", "application/grpc")
					w.Header().Set("Grpc-Status", "16")
					w.Header().Set("Grpc-Message", text)
					return
				}
				http.Error(w, text, http.StatusUnauthorized)
			}))
			quoting.Config.Protocols = new(http.Protocols)
			quoting.Config.Protocols.SetHTTP1(true)
			quoting.Config.Protocols.SetUnencryptedHTTP2(true)
			quoting.Start()
			defer quoting.Close()

			var diag telemetry.DiagLog
			tel := setup(t, map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT":     quoting.URL,
				"OTEL_EXPORTER_OTLP_PROTOCOL":     protocol,
				"OTEL_EXPORTER_OTLP_HEADERS":      "authorization=Bearer%20" + secret + ",broken " + secret,
				"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "authorization=Bearer%20" + secret + ",x%00=" + secret,
			}, telemetry.WithHeaders(map[string]string{"x-api-key": secret + "-too", "bad name": secret}), telemetry.WithDiagnostics(diag.Handler()))
			emit(t, tel)
			flushed := tel.ForceFlush(t.Context())
			closed := tel.Close()
			if len(diag.Lines("bad token")) == 0 {
				t.Errorf("the answer is not in the reports:\n%s", &diag)
			}
			outputs := map[string]string{
				"diagnostics": diag.String(),
				"config":      tel.Config().String(),
				"warnings":    fmt.Sprint(tel.Warnings()),
				"errors":      fmt.Sprint(flushed, closed),
				"stats":       fmt.Sprint(tel.Stats()),
				"resource":    tel.Resource().String(),
			}
			for where, text := range outputs {
				if strings.Contains(text, secret) {
					t.Errorf("%s hold the secret:\n%s", where, text)
				}
			}
			if s, _ := tel.Config().Get("traces.headers"); !strings.Contains(s.Value, "authorization=[redacted]") {
				t.Errorf("headers are shown as %q", s.Value)
			}
		})
	}
}

// The exporters read the real environment too, and would quote it on stderr.
func TestSecretsOfTheRealEnvironment(t *testing.T) { // rule 32
	if os.Getenv("TELEMETRY_TEST_SECRETS") != "" {
		tel := telemetry.MustSetup(t.Context(), refused)
		slog.New(tel.SlogHandler(nil)).Info("m")
		_ = tel.Close()
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestSecretsOfTheRealEnvironment$")
	cmd.Env = append(os.Environ(), "TELEMETRY_TEST_SECRETS=1", "OTEL_LOG_LEVEL=debug",
		"OTEL_EXPORTER_OTLP_HEADERS="+secret+",authorization=%zz"+secret+",b ad="+secret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), secret) {
		t.Errorf("the output holds the secret:\n%s", out)
	}
}

// TLS by the scheme, with the certificates that variables name; mutual too.
func TestTLS(t *testing.T) { // rule 30
	dir := t.TempDir()
	ca := telemetry.NewAuthority(t)
	caFile := filepath.Join(dir, "ca.pem")
	ca.WriteTo(t, caFile)
	clientCert, clientKey := ca.Issue(t, dir, "client")
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			server := httptest.NewUnstartedServer(c)
			server.EnableHTTP2 = true
			server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			server.StartTLS()
			defer server.Close()

			var diag telemetry.DiagLog
			env := map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_CERTIFICATE": caFile,
				"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": clientCert, "OTEL_EXPORTER_OTLP_CLIENT_KEY": clientKey,
			}
			tel := setup(t, env, telemetry.WithDiagnostics(diag.Handler()))
			emit(t, tel)
			if err := tel.Close(); err != nil {
				t.Errorf("Close: %v\n%s", err, &diag)
			}
			c.WaitForSpan("work")
			c.WaitForMetric("things")
			c.WaitForLog("done")

			delete(env, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
			delete(env, "OTEL_EXPORTER_OTLP_CLIENT_KEY")
			tel = setup(t, env, telemetry.WithDiagnostics(diag.Handler()), telemetry.WithShutdownTimeout(2*time.Second))
			emit(t, tel)
			if err := tel.Close(); err == nil {
				t.Error("without a client certificate everything was delivered")
			}
		})
	}
}
