package telemetry

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// variableCase is one variable, for one signal.
type variableCase struct {
	variable
	signal  string // "" where there is no {S}
	general string // the variable that holds when this one is not set
}

func (v variable) cases() []variableCase {
	if !strings.Contains(v.name, "{S}") {
		return []variableCase{{variable: v}}
	}
	var cases []variableCase
	for _, signal := range []string{signalTraces, signalMetrics, signalLogs} {
		own, general := v.expand(strings.ToUpper(signal)+"_"), v.expand("")
		cases = append(cases, variableCase{own, signal, general.name}, variableCase{general, signal, ""})
	}
	return cases
}

// expand replaces {S}_.
func (v variable) expand(s string) variable {
	v.name, v.source = strings.Replace(v.name, "{S}_", s, 1), strings.Replace(v.source, "{S}_", s, 1)
	fill := func(vars Env) Env {
		filled := Env{}
		for k, value := range vars {
			filled[strings.Replace(k, "{S}_", s, 1)] = value
		}
		return filled
	}
	v.env, v.beside = fill(v.env), fill(v.beside)
	return v
}

func (c variableCase) fill(s string) string { return strings.ReplaceAll(s, "{s}", c.signal) }

// environment is what the case needs, and kv.
func (c variableCase) environment(kv ...string) Env {
	env := quiet(c.env)
	if strings.HasSuffix(c.name, "_EXPORTER") {
		delete(env, c.name)
	}
	if c.signal != "" {
		env["OTEL_"+strings.ToUpper(c.signal)+"_EXPORTER"] = "otlp"
	}
	for i := 0; i < len(kv); i += 2 {
		env[kv[i]] = kv[i+1]
		if kv[i] == c.name && strings.TrimSpace(kv[i+1]) != "" {
			maps.Copy(env, c.beside)
		}
	}
	return env
}

// set returns the case's setting, and fails the test for an error or a warning.
func (c variableCase) set(t *testing.T, env Env, opts ...Option) Setting {
	t.Helper()
	tel, err := configure(t, env, append(slices.Clone(c.with), opts...)...)
	if err != nil || len(tel.Warnings()) > 0 {
		t.Errorf("with %v: error %v, warnings %q", env, err, tel.Warnings())
	}
	s, _ := tel.Config().Get(c.fill(c.setting)) // an attribute that nobody sets is no setting
	return s
}

// Each variable: a good value, spelt in any way that is allowed; a wrong one;
// an empty one; the documented default; and precedence.
func TestVariables(t *testing.T) { // rules 31, 32
	for _, v := range variables(newTLSFiles(t)) {
		if v.setting == "" {
			continue // OTEL_CONFIG_FILE: see configfile_test.go
		}
		for _, c := range v.cases() {
			t.Run(strings.TrimSuffix(c.name+"/"+c.signal, "/"), func(t *testing.T) {
				unset := c.set(t, c.environment())
				want := Setting{c.fill(c.setting), c.shown, cmp.Or(c.source, c.name)}

				if got := c.set(t, c.environment(c.name, "  "+c.good+"\t")); got != want {
					t.Errorf("%q: got %+v, want %+v", c.good, got, want)
				}
				for _, empty := range []string{"", " \t"} {
					if got := c.set(t, c.environment(c.name, empty)); got != unset {
						t.Errorf("%q: got %+v, want %+v, as unset", empty, got, unset)
					}
				}
				if c.def != "" && !c.elsewhere {
					if got := c.set(t, c.environment(c.name, c.def)); got.Value != unset.Value {
						t.Errorf("default: documented as %s, which is %s; unset is %s", c.def, got.Value, unset.Value)
					}
				} else if strings.Contains(c.defText, "no limit") && unset.Value != "no limit" {
					t.Errorf("default: %s", unset.Value)
				}
				c.testOption(t, unset, want)
				c.testGeneral(t, want)
				c.testWrong(t, unset)
			})
		}
	}
}

// The option beats the default, the variable the option.
func (c variableCase) testOption(t *testing.T, unset, want Setting) {
	t.Helper()
	if c.opt == nil {
		return
	}
	got := c.set(t, c.environment(), c.opt)
	by, _, _ := strings.Cut(got.Source, ", ")
	if named := got == unset || slices.Contains(strings.Split(c.option, ", "), by); got.Value != c.optShown && !strings.HasPrefix(got.Value, c.optShown+"/") || !named {
		t.Errorf("option: got %+v, want %s, of %s", got, c.optShown, c.option)
	}
	if c.both != "" {
		want.Value = c.both
	}
	if got := c.set(t, c.environment(c.name, c.good), c.opt); got != want {
		t.Errorf("with the option: got %+v, want %+v", got, want)
	}
}

// A signal's own variable beats the general one; where its value is wrong, and
// only warned of, the general one holds.
func (c variableCase) testGeneral(t *testing.T, want Setting) {
	t.Helper()
	if c.general == "" || c.source != "" || strings.Contains(c.name, "CLIENT_") {
		return
	}
	other := cmp.Or(c.def, c.good)
	if got := c.set(t, c.environment(c.name, c.good, c.general, other)); got != want {
		t.Errorf("with %s: got %+v, want %+v", c.general, got, want)
	}
	want.Source = c.general
	if got := c.set(t, c.environment(c.general, c.good)); got != want {
		t.Errorf("%s: got %+v, want %+v", c.general, got, want)
	}
	if c.bad != warned {
		return
	}
	tel, err := configure(t, c.environment(c.name, c.wrong, c.general, c.good), c.with...)
	if got, _ := tel.Config().Get(c.fill(c.setting)); err != nil || got != want || len(tel.Warnings()) != 1 {
		t.Errorf("%s wrong: got %+v, want %+v; error %v, warnings %q", c.name, got, want, err, tel.Warnings())
	} else if !strings.HasSuffix(tel.Warnings()[0].Error(), "; using "+want.Value) {
		t.Errorf("warning is %s, want that %s is used", tel.Warnings()[0], want.Value)
	}
}

// A wrong value is reported in one form, and costs nothing but itself.
func (c variableCase) testWrong(t *testing.T, unset Setting) {
	t.Helper()
	if c.wrong == "" {
		return
	}
	reported := c.name + c.fill(c.reported)
	if c.source != "" && strings.HasPrefix(c.bad, "error") {
		reported = c.source + c.fill(c.reported)
	}
	tel, err := configure(t, c.environment(c.name, c.wrong), c.with...)
	if strings.HasPrefix(c.bad, "error") {
		ce, ok := errors.AsType[*ConfigError](err)
		if !ok || !strings.HasPrefix(err.Error(), reported) || len(tel.Warnings()) > 0 {
			t.Errorf("error is %v, warnings %q; want the error %s", err, tel.Warnings(), reported)
		} else if c.signal != "" && ce.Signal != c.signal {
			t.Errorf("it is of the signal %q, want %s", ce.Signal, c.signal)
		}
		return
	}
	if err != nil || len(tel.Warnings()) != 1 || !strings.HasPrefix(tel.Warnings()[0].Error(), reported) {
		t.Errorf("error %v, warnings %q; want %s", err, tel.Warnings(), reported)
	}
	got, _ := tel.Config().Get(c.fill(c.setting))
	if !strings.HasPrefix(c.reported, `="2049"`) && got.Value != unset.Value { // that one is cut, not replaced
		t.Errorf("a wrong value: got %+v, want %+v", got, unset)
	}
	if _, err := configure(t, c.environment(c.name, c.wrong), append(slices.Clone(c.with), WithStrict())...); err == nil || !strings.HasPrefix(err.Error(), reported) {
		t.Errorf("WithStrict: got error %v, want %s", err, reported)
	}
}

func newTLSFiles(t *testing.T) tlsFiles {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, port, _ := net.SplitHostPort(free.Addr().String())
	ca := NewAuthority(t)
	dir := t.TempDir()
	f := tlsFiles{ca: filepath.Join(dir, "ca.pem"), port: port}
	ca.WriteTo(t, f.ca)
	f.cert, f.key = ca.Issue(t, dir, "client")
	return f
}

// Variables with which nothing happens are warned of.
func TestIgnoredVariables(t *testing.T) { // rule 32
	for _, v := range ignored {
		tel, err := configure(t, quiet(Env{v.name: "S3CRET"}))
		want := fmt.Sprintf("%s: %s; using %s", v.name, v.reason, v.instead)
		if err != nil || len(tel.Warnings()) != 1 || tel.Warnings()[0].Error() != want {
			t.Errorf("error %v, warnings %q; want %s", err, tel.Warnings(), want)
		}
	}
}

// A list that holds nothing is unset; what has no effect is said.
func TestOddValues(t *testing.T) { // rules 31, 32
	tests := []struct {
		env     Env
		setting string
		want    string
		warned  string
	}{
		{Env{"OTEL_TRACES_EXPORTER": " , "}, "traces.exporters", "otlp (default)", ""},
		{Env{"OTEL_PROPAGATORS": ","}, "propagators", "tracecontext,baggage (default)", ""},
		{Env{"OTEL_PROPAGATORS": "none,baggage"}, "propagators", "none (OTEL_PROPAGATORS)", `OTEL_PROPAGATORS="none,baggage": none excludes the others; using none`},
		{Env{"OTEL_RESOURCE_ATTRIBUTES": ",service%2Ename=a%3Db,"}, "service.name", "a=b (OTEL_RESOURCE_ATTRIBUTES)", ""},
		{Env{"OTEL_RESOURCE_ATTRIBUTES": "service.name=a%zz"}, "service.name", "a%zz (OTEL_RESOURCE_ATTRIBUTES)", "OTEL_RESOURCE_ATTRIBUTES: want key=value,key=value with percent-encoded values; the value of member 1 (service.name) is not; using it as it stands"},
		{Env{"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, "traces.sampler", "AlwaysOffSampler (OTEL_TRACES_SAMPLER)", `OTEL_TRACES_SAMPLER_ARG="0.5": has no effect on always_off; using AlwaysOffSampler`},
		{Env{"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}, "metrics.prometheus", "localhost:0 (default, OTEL_EXPORTER_PROMETHEUS_PORT)", ""},
	}
	for _, tt := range tests {
		env := quiet(tt.env)
		tel, err := configure(t, env)
		if err != nil {
			t.Errorf("%v: %v", tt.env, err)
		}
		s, _ := tel.Config().Get(tt.setting)
		if got := s.Value + " (" + s.Source + ")"; got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.env, got, tt.want)
		}
		var got []string
		for _, w := range tel.Warnings() {
			got = append(got, w.Error())
		}
		if strings.Join(got, "\n") != tt.warned {
			t.Errorf("%v: warnings are %q, want %q", tt.env, got, tt.warned)
		}
	}
}

// The default address of the exporter "prometheus", without listening there.
func TestPrometheusDefaultAddress(t *testing.T) { // rule 31
	for _, tt := range []struct {
		opt      Option
		exporter bool
		want     string
	}{
		{nil, true, "localhost:9464"},
		{nil, false, ""},
		{WithPrometheus(""), false, ""},
		{WithPrometheus(""), true, "localhost:9464"},
		{WithPrometheus("::1"), false, "[::1]:9464"},
		{WithPrometheus("[::1]:80"), false, "[::1]:80"},
	} {
		e := &environment{lookup: Env{}.lookup}
		if got := e.prometheusAddr(newOptions([]Option{tt.opt}), tt.exporter); got != tt.want {
			t.Errorf("exporter %t: got %q, want %q", tt.exporter, got, tt.want)
		}
	}
}

// A time-out of 0 is none: an export may take for ever, until Shutdown.
func TestNoTimeLimit(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": time.Duration(noLimit), "1": time.Millisecond, "9223372036854": 9223372036854 * time.Millisecond} {
		if got, err := parseTimeLimit(text); err != nil || time.Duration(got) != want {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "1.5", "5s", "", "9223372036855", "0x10"} {
		if got, err := parseTimeLimit(text); err == nil {
			t.Errorf("%q: got %s", text, got)
		}
		if got, err := parseMillis(text); err == nil {
			t.Errorf("%q: got %s", text, got)
		}
	}
}

// The default address names the variable that chooses another.
func TestPrometheusDefaultAddressTaken(t *testing.T) { // rule 32
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, _, err = newPrometheusExporter(taken.Addr().String(), sourceDefault, (&DiagLog{}).diagnostics())
	if ce, ok := errors.AsType[*ConfigError](err); !ok || ce.Source != "OTEL_EXPORTER_PROMETHEUS_PORT" {
		t.Errorf("got %v", err)
	}
}

// A server is checked against the named certificates, and not against the system's too.
func TestCertificateIsTheOnlyOne(t *testing.T) { // rule 30
	ca := NewAuthority(t)
	path := filepath.Join(t.TempDir(), "ca.pem")
	ca.WriteTo(t, path)
	o := newOptions([]Option{Env{"OTEL_EXPORTER_OTLP_ENDPOINT": nowhereTLS, "OTEL_EXPORTER_OTLP_CERTIFICATE": path}.Option()})
	c, err := (&environment{lookup: o.lookupEnv}).otlp(o, signalTraces)
	if err != nil || !c.tls.RootCAs.Equal(ca.Pool()) || c.tls.MinVersion != tls.VersionTLS12 {
		t.Errorf("error %v, TLS is %+v", err, c.tls)
	}
}
