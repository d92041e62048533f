package telemetry

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) { // rule 30
	yes, no := true, false
	tests := []struct {
		name   string
		raw    string
		own    bool // a per-signal variable
		secure *bool
		proto  string
		want   string // or a part of the error
	}{
		{name: "plaintext", raw: "http://collector:4317", want: "grpc http://collector:4317"},
		{name: "TLS", raw: "https://collector:4317", want: "grpc https://collector:4317"},
		{name: "port 4318 is HTTP", raw: "http://collector:4318", want: "http/protobuf http://collector:4318/v1/traces"},
		{name: "port 4318 but grpc", raw: "http://collector:4318", proto: "grpc", want: "grpc http://collector:4318"},
		{name: "base path", raw: "http://collector:4318/otlp/", want: "http/protobuf http://collector:4318/otlp/v1/traces"},
		{name: "signal's own path is taken as it is", raw: "http://collector:4318/in", own: true, want: "http/protobuf http://collector:4318/in"},
		{name: "signal's own without path", raw: "http://collector:4318", own: true, want: "http/protobuf http://collector:4318/"},
		{name: "https without port", raw: "https://api.example.com", want: "grpc https://api.example.com:443"},
		{name: "http without port", raw: "http://collector", want: "grpc http://collector:4317"},
		{name: "http without port over HTTP", raw: "http://collector", proto: "http/protobuf", want: "http/protobuf http://collector:80/v1/traces"},
		{name: "no scheme, localhost", raw: "localhost:4317", want: "grpc http://localhost:4317"},
		{name: "no scheme, 127.0.0.2", raw: "127.0.0.2:9999", want: "grpc http://127.0.0.2:9999"},
		{name: "no scheme, IPv6 loopback", raw: "[::1]:4317", want: "grpc http://[::1]:4317"},
		{name: "no scheme, no port", raw: "localhost", want: "grpc http://localhost:4317"},
		{name: "IPv6 without port", raw: "http://[::1]", want: "grpc http://[::1]:4317"},
		{name: "no scheme, elsewhere", raw: "collector:4317", want: "http://collector:4317 for plaintext or https://collector:4317 for TLS"},
		{name: "no scheme, looks like localhost", raw: "localhost.example.com:4317", want: "for plaintext or https://"},
		{name: "no scheme, insecure", raw: "collector:4317", secure: &no, want: "grpc http://collector:4317"},
		{name: "no scheme, secure", raw: "collector:4317", secure: &yes, want: "grpc https://collector:4317"},
		{name: "scheme beats INSECURE", raw: "http://collector:4317", secure: &yes, want: "grpc http://collector:4317"},
		{name: "socket", raw: "unix:///run/otel.sock", want: "grpc unix:///run/otel.sock"},
		{name: "upper-case scheme", raw: "HTTP://collector:4317", want: "grpc http://collector:4317"},
		{name: "other scheme", raw: "grpc://collector:4317", want: "want http://host:port (plaintext) or https://host:port (TLS)"},
		{name: "no host", raw: "http://:4317", want: "want http://host:port"},
		{name: "no URL", raw: "http://coll ector", want: "want http://host:port"},
		{name: "port out of range", raw: "http://collector:70000", want: "want a port from 1 to 65535, not 70000"},
		{name: "password", raw: "https://user:secret@collector:4317", want: "OTEL_EXPORTER_OTLP_HEADERS"},
		{name: "query", raw: "https://collector:4317?key=secret", want: "OTEL_EXPORTER_OTLP_HEADERS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			vars := Env{"OTEL_EXPORTER_OTLP_ENDPOINT": tt.raw, "OTEL_EXPORTER_OTLP_PROTOCOL": tt.proto}
			if tt.own {
				vars = Env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": tt.raw, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:1"}
			}
			if tt.secure != nil {
				vars["OTEL_EXPORTER_OTLP_INSECURE"] = fmt.Sprint(!*tt.secure)
			}
			o := newOptions([]Option{vars.Option()})
			e := &environment{lookup: o.lookupEnv}
			c, err := e.otlp(o, signalTraces)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %q, want %q in it", err, tt.want)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows a secret: %q", err)
				}
				return
			}
			if got := c.protocol + " " + c.endpoint.String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if (c.tls != nil) != strings.Contains(tt.want, "https://") {
				t.Errorf("TLS is %t", c.tls != nil)
			}
		})
	}
}

// Nobody says anything: plaintext gRPC to localhost:4317, for all signals.
func TestDefaultEndpoint(t *testing.T) { // rule 30
	for _, protocol := range []string{"", "http/protobuf"} {
		for _, signal := range []string{signalTraces, signalMetrics, signalLogs} {
			o := newOptions([]Option{Env{"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}.Option()})
			c, err := (&environment{lookup: o.lookupEnv}).otlp(o, signal)
			want := "http://localhost:4317"
			if protocol != "" {
				want = "http://localhost:4318/v1/" + signal
			}
			if err != nil || c.endpoint.String() != want || c.tls != nil || !c.defaulted {
				t.Errorf("%s: got %s (%+v), error %v; want %s", signal, c.endpoint, c, err, want)
			}
		}
	}
}

// A per-signal variable overrides the general one, for that signal only.
func TestPerSignalVariables(t *testing.T) { // rule 30
	o := newOptions([]Option{
		Env{
			"OTEL_EXPORTER_OTLP_ENDPOINT":         "http://a:4317",
			"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://b:4318/m",
			"OTEL_EXPORTER_OTLP_HEADERS":          "k=general,only=general",
			"OTEL_EXPORTER_OTLP_METRICS_HEADERS":  "k=own",
			"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT":  "3000",
		}.Option(),
		WithHeaders(map[string]string{"K": "option", "Other": "option"}),
	})
	for signal, want := range map[string]string{
		signalTraces:  "http://a:4317 grpc 10s map[k:general only:general other:option]",
		signalMetrics: "https://b:4318/m http/protobuf 3s map[k:own other:option]",
	} {
		c, err := (&environment{lookup: o.lookupEnv}).otlp(o, signal)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.endpoint, " ", c.protocol, " ", c.timeout, " ", c.headers); got != want {
			t.Errorf("%s: got %s, want %s", signal, got, want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"http://a:1", "localhost:4317", "unix:///x", "://", "https://[::1", "a@b", "http://a:b@c/d?e#f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint(s, signalTraces, true, nil)
		if (err == errUserInfo) != strings.ContainsAny(s, "@?#") { //nolint:errorlint // as it was made
			t.Errorf("%q, which may hold credentials: error %v", s, err)
		}
		if err != nil {
			return
		}
		e = e.withPort(e.impliedProtocol())
		again, err := parseEndpoint(e.url(), signalTraces, false, nil)
		if err != nil {
			t.Fatalf("%q became %q, which does not parse: %v", s, e, err)
		}
		if e.scheme != "unix" && (again.host != e.host || again.scheme != e.scheme) {
			t.Errorf("%q became %v, then %v", s, e, again)
		}
	})
}
