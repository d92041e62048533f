package telemetry_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
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
	ca := newAuthority(t)
	caFile := writePEM(t, dir, "ca.pem", "CERTIFICATE", ca.cert.Raw)
	clientCert, clientKey := ca.issue(t, dir, "client")
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := telemetrytest.NewCollector(t, telemetrytest.OK)
			server := httptest.NewUnstartedServer(c)
			server.EnableHTTP2 = true
			server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.serverCertificate(t)}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
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

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = sign(t, template, template, &a.key.PublicKey, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) leaf(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newKey(t)
	return sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, &key.PublicKey, a.key), key
}

func (a *authority) serverCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := a.leaf(t, "server")
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// issue writes a certificate and its key to files.
func (a *authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key := a.leaf(t, name)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, name+".pem", "CERTIFICATE", cert.Raw), writePEM(t, dir, name+".key", "PRIVATE KEY", der)
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
