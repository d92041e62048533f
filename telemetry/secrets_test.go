package telemetry_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/telemetry"
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
			holdNoSecret(t, everything(tel, &diag, flushed, closed))
			if s, _ := tel.Config().Get("traces.headers"); !strings.Contains(s.Value, "authorization=[redacted]") {
				t.Errorf("headers are shown as %q", s.Value)
			}
		})
	}
}

// everything is all that a handle says of itself.
func everything(tel *telemetry.Telemetry, diag *telemetry.DiagLog, errs ...error) map[string]string {
	page := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return map[string]string{
		"diagnostics": diag.String(), "config": tel.Config().String(), "settings": fmt.Sprintf("%#v", tel.Config()), "warnings": fmt.Sprint(tel.Warnings()),
		"errors": fmt.Sprintf("%v %#v", errs, errs), "stats": fmt.Sprintf("%+v", tel.Stats()), "resource": tel.Resource().String(), "Prometheus page": page.Body.String(),
	}
}

func holdNoSecret(t *testing.T, outputs map[string]string) {
	t.Helper()
	for where, text := range outputs {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in: %s\n%s", where, text)
		}
	}
}

// Credentials in a URL, wherever they stand and however wrong it is otherwise;
// keys and passwords where the name of a file belongs; files that hold something else.
func TestSecretsOfSettings(t *testing.T) { // rules 29, 32
	dir := t.TempDir()
	ca := telemetry.NewAuthority(t)
	caFile := filepath.Join(dir, "ca.pem")
	ca.WriteTo(t, caFile)
	cert, key := ca.Issue(t, dir, "client")
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("-----BEGIN "+secret+"-----\n"+secret+"\n-----END "+secret+"-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pem := "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----"
	const own, general = "OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"
	tests := []map[string]string{
		{general + "ENDPOINT": "http://127.0.0.1:1/receiver/" + secret + "/in", general + "PROTOCOL": "http/protobuf"},
		{general + "ENDPOINT": "http://127.0.0.1:1/" + secret, general + "CERTIFICATE": caFile},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CERTIFICATE": junk},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CERTIFICATE": pem},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CLIENT_CERTIFICATE": junk, general + "CLIENT_KEY": key},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CLIENT_CERTIFICATE": cert, general + "CLIENT_KEY": junk},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CLIENT_CERTIFICATE": cert, general + "CLIENT_KEY": pem},
		{general + "ENDPOINT": "https://127.0.0.1:1", general + "CLIENT_KEY": pem},
		{general + "ENDPOINT": "http://127.0.0.1:1", general + "CLIENT_KEY": pem},
		{general + "ENDPOINT": "http://127.0.0.1:1", own + "CLIENT_KEY": base64.StdEncoding.EncodeToString([]byte(pem)), general + "CLIENT_CERTIFICATE": pem},
		{"OTEL_RESOURCE_ATTRIBUTES": "a=1," + secret + ",b=%zz"},
		{"OTEL_ENTITIES": secret},
	}
	for _, url := range []string{
		"https://user:" + secret + "@127.0.0.1:1", "user:" + secret + "@collector:4317", secret + "@collector:4317", "grpc://u:" + secret + "@collector",
		"https://collector?api_key=" + secret, "collector:4317?key=" + secret, "localhost:1/?key=" + secret, "grpc://collector?key=" + secret, "http://bad host?key=" + secret,
		"http://collector:99999/?k=" + secret, "http://user:" + secret + "%zz@collector", "http://user:p@ss?" + secret + "@collector", "https://collector#" + secret, "unix://u:" + secret + "@/x?y",
		"collector.example.com/v1/" + secret, "collector.example.com:4317/" + secret, "htps://collector/v1/" + secret, "https://collector:99999/v1/" + secret,
		"https://collector/v1/%zz" + secret, "https://collector/%zz/" + secret + "/v1/traces", "grpc://collector/" + secret,
	} {
		tests = append(tests, map[string]string{general + "ENDPOINT": url}, map[string]string{own + "ENDPOINT": url}, map[string]string{"": url})
	}
	for i, env := range tests {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			var diag telemetry.DiagLog
			opts := []telemetry.Option{telemetry.WithoutGlobals(), telemetry.WithDiagnostics(diag.Handler()), telemetry.WithPrometheus(""), telemetry.WithoutLogs(),
				telemetry.WithLookupEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok && name != "" }), telemetry.WithShutdownTimeout(time.Second)}
			if url := env[""]; url != "" {
				opts = append(opts, telemetry.WithEndpoint(url))
			}
			tel, err := telemetry.Setup(t.Context(), opts...)
			_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "work")
			span.End()
			closed := tel.Close()
			if err == nil && len(tel.Warnings()) == 0 && closed == nil {
				t.Errorf("nothing is wrong: the case tests nothing: %v", env)
			}
			holdNoSecret(t, everything(tel, &diag, err, closed))
		})
	}
}

// A back end may decode what it quotes.
func TestSecretsDecoded(t *testing.T) { // rule 29
	quoting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		http.Error(w, "bad password "+password+" of "+user, http.StatusUnauthorized)
	}))
	defer quoting.Close()
	var diag telemetry.DiagLog
	tel := setup(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": quoting.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
		"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20" + base64.StdEncoding.EncodeToString([]byte("me:"+secret)),
	}, telemetry.WithDiagnostics(diag.Handler()))
	emit(t, tel)
	closed := tel.Close()
	if len(diag.Lines("bad password [redacted] of me")) == 0 {
		t.Errorf("reported:\n%s", &diag)
	}
	holdNoSecret(t, everything(tel, &diag, closed))
}

// The SDK and the exporters read the real environment too, and would quote it
// on stderr; so would the transports, of a proxy.
func TestSecretsOfTheRealEnvironment(t *testing.T) { // rule 32
	if os.Getenv("TELEMETRY_TEST_SECRETS") != "" {
		tel, err := telemetry.Setup(t.Context(), telemetry.WithShutdownTimeout(time.Second))
		emit(t, tel)
		fmt.Println(err, tel.Close(), tel.Config(), tel.Warnings(), tel.Stats())
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrong := []string{ // each is one that the SDK or an exporter reads
		"OTEL_TRACES_SAMPLER", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_QUEUE_SIZE", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_METRICS_EXEMPLAR_FILTER",
		"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
		"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_PROPAGATORS",
	}
	faulty := []string{}
	for _, name := range wrong {
		faulty = append(faulty, name+"=wrong")
	}
	tests := map[string][]string{
		"headers":    {"OTEL_EXPORTER_OTLP_HEADERS=" + secret + ",authorization=%zz" + secret + ",b ad=" + secret},
		"endpoint":   {"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:" + secret + "@h?" + secret},
		"key":        {"OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CLIENT_KEY=-----BEGIN " + secret, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=-----BEGIN " + secret},
		"attributes": {"OTEL_RESOURCE_ATTRIBUTES=a=1," + secret + ",b=%zz"},
		"proxy":      {"HTTPS_PROXY=http://user:" + secret + "@127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT=https://192.0.2.1:4317"},
		"proxy/http": {"HTTPS_PROXY=http://user:" + secret + "@proxy:x", "OTEL_EXPORTER_OTLP_ENDPOINT=https://192.0.2.1:4318"},
		"wrong":      append(faulty, "OTEL_SERVICE_NAME=s"),
	}
	for name, vars := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.run=^TestSecretsOfTheRealEnvironment$")
			cmd.Env = append(append(os.Environ(), "TELEMETRY_TEST_SECRETS=1", "OTEL_LOG_LEVEL=debug"), vars...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), secret) {
				t.Errorf("the output holds the secret:\n%s", out)
			}
			if name != "wrong" {
				return
			}
			for _, v := range wrong { // by one line, ours
				if n := strings.Count(string(out), `level=WARN msg="`+v+`=\"wrong\": want`); n != 1 {
					t.Errorf("%d warnings of %s", n, v)
				}
			}
			if n := strings.Count(string(out), "level=WARN"); n != len(wrong) {
				t.Errorf("%d warnings, want %d:\n%s", n, len(wrong), out)
			}
		})
	}
}

// What is hidden of a path: tokens, with digits or without, and no word that names a
// service or a host.
func TestTokensInPaths(t *testing.T) { // rule 29
	for path, want := range map[string]string{
		"/v1/abcdefghijklmnopqrstuvwx":                 "/v1/[redacted]",
		"/v1/abcdef-0123456789-abcdef/in":              "/v1/[redacted]/in",
		"/opentelemetry-collector-gateway/v1":          "/opentelemetry-collector-gateway/v1",
		"/otel.observability-1.svc.cluster.local/otlp": "/otel.observability-1.svc.cluster.local/otlp",
		"/00000000000000000000":                        "/00000000000000000000",
	} {
		tel, err := telemetry.Setup(t.Context(), telemetry.WithoutGlobals(), telemetry.WithLookupEnv(func(string) (string, bool) { return "", false }),
			telemetry.WithDiagnostics((&telemetry.DiagLog{}).Handler()), telemetry.WithEndpoint("http://127.0.0.1:1"+path), telemetry.WithProtocol("http/protobuf"))
		if err != nil {
			t.Fatal(err)
		}
		if got := tel.Config().String(); !strings.Contains(got, "http://127.0.0.1:1"+want) {
			t.Errorf("%s: want http://127.0.0.1:1%s in\n%s", path, want, got)
		}
		_ = tel.Close() // there is nobody to deliver to
	}
}
