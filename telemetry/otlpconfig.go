package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	signalTraces  = "traces"
	signalMetrics = "metrics"
	signalLogs    = "logs"
)

const otlpPrefix = "OTEL_EXPORTER_OTLP_"

// otlpConfig says how one signal is sent over OTLP.
type otlpConfig struct {
	endpoint  endpoint
	defaulted bool // nobody named an endpoint
	protocol  string
	headers   map[string]string
	gzip      bool
	timeout   time.Duration
	tls       *tls.Config // nil for plaintext
	certs     string      // the files tls was made of: part of the connection's identity
}

// otlp resolves the OTLP settings of one signal. A per-signal variable
// overrides the general one, for that signal only.
func (e *environment) otlp(o *options, signal string) (otlpConfig, error) {
	own := otlpPrefix + strings.ToUpper(signal) + "_"
	vars := func(name string) []string { return []string{own + name, otlpPrefix + name} }

	var c otlpConfig
	secure := e.secure(o, vars)
	if err := e.otlpEndpoint(o, signal, own, secure, &c); err != nil {
		return c, err
	}
	c.protocol = e.otlpProtocol(o, signal, vars("PROTOCOL"), c)
	if c.defaulted && c.protocol == protocolHTTP {
		c.endpoint.host = "localhost:4318"
	}
	if c.protocol == protocolHTTP && c.endpoint.scheme == "unix" {
		return c, &ConfigError{Signal: signal, Source: e.sourceOf(signal + ".endpoint"), Value: c.endpoint.String(), Reason: "want http:// or https:// with protocol http/protobuf; sockets need grpc"}
	}
	c.endpoint = c.endpoint.withPort(c.protocol)
	if c.protocol == protocolGRPC {
		c.endpoint.path = ""
	}
	e.replace(signal+".endpoint", c.endpoint.String())

	c.headers = e.headers(o, signal, own+"HEADERS", otlpPrefix+"HEADERS")
	c.gzip = resolve(e, signal+".compression", parseEnum("gzip", "none"), nil, "", "none", vars("COMPRESSION")...) == "gzip"
	c.timeout = e.timeLimit(signal+".timeout", 10*time.Second, vars("TIMEOUT")...)
	return c, e.otlpTLS(o, signal, vars, &c)
}

// secure answers whether an endpoint without a scheme means TLS; nil when nobody said.
func (e *environment) secure(o *options, vars func(string) []string) *bool {
	for _, name := range vars("INSECURE") {
		v, name := e.get(name)
		if name == "" {
			continue
		}
		insecure, err := parseBool(v)
		if err == nil {
			secure := !insecure
			return &secure
		}
		e.warn("", name, v, err.Error(), "the endpoint's scheme")
	}
	if _, name := e.get(vars("CERTIFICATE")...); name != "" || o.tlsConfig != nil {
		secure := true
		return &secure
	}
	return nil
}

func (e *environment) otlpEndpoint(o *options, signal, own string, secure *bool, c *otlpConfig) error {
	raw, source := e.get(own+"ENDPOINT", otlpPrefix+"ENDPOINT")
	switch {
	case source != "":
	case o.endpoint != nil && strings.TrimSpace(*o.endpoint) != "":
		raw, source = strings.TrimSpace(*o.endpoint), "WithEndpoint"
	default:
		raw, source, c.defaulted = "http://localhost:4317", sourceDefault, true
	}
	base := source != own+"ENDPOINT"
	var err error
	c.endpoint, err = parseEndpoint(raw, signal, base, secure)
	if err != nil {
		shown := withoutTokens(raw)
		if errors.Is(err, errUserInfo) {
			shown = redacted
		}
		return &ConfigError{Signal: signal, Source: source, Value: shown, Reason: err.Error()}
	}
	e.set(signal+".endpoint", c.endpoint.String(), source)
	return nil
}

func (e *environment) otlpProtocol(o *options, signal string, vars []string, c otlpConfig) string {
	protocol, source := c.endpoint.impliedProtocol(), "the endpoint's port"
	if protocol == protocolGRPC {
		source = sourceDefault
	}
	const want = "want grpc or http/protobuf"
	type given struct{ value, name string }
	var list, refused []given
	for _, name := range vars {
		if v, name := e.get(name); name != "" {
			list = append(list, given{v, name})
		}
	}
	if o.protocol != nil {
		list = append(list, given{strings.TrimSpace(*o.protocol), "WithProtocol"})
	}
choose:
	for _, g := range list {
		switch p := strings.ToLower(g.value); p {
		case protocolGRPC, protocolHTTP:
			protocol, source = p, g.name
			break choose
		case "http/json": // HTTP was meant
			e.warn("", g.name, g.value, want, protocolHTTP)
			protocol, source = protocolHTTP, g.name
			break choose
		case "": // unset
		default:
			refused = append(refused, g)
		}
	}
	for _, g := range refused {
		e.warn("", g.name, g.value, want, protocol)
	}
	e.set(signal+".protocol", protocol, source)
	return protocol
}

// headers merges the options' headers with the environment's, which win. No
// value is ever part of a message.
func (e *environment) headers(o *options, signal string, vars ...string) map[string]string {
	headers, source := map[string]string{}, sourceDefault
	for k, v := range o.headers {
		if !validHeader(k, v) {
			if !validHeader(k, "") {
				k = "" // a value that went astray, perhaps
			}
			e.warn("", "WithHeaders", k, "want a name of letters, digits, - _ and ., and a value of printable ASCII", "the other headers")
			continue
		}
		headers[strings.ToLower(k)], source = v, "WithHeaders"
	}
	raw, name := e.get(vars...)
	for i, member := range strings.Split(raw, ",") {
		if strings.TrimSpace(member) == "" {
			continue
		}
		k, v, found := strings.Cut(member, "=")
		k = strings.TrimSpace(k)
		v, err := url.PathUnescape(strings.TrimSpace(v))
		if !found || err != nil || !validHeader(k, v) {
			e.warn("", name, "", fmt.Sprintf("want key=value,key=value with percent-encoded values; member %d is not", i+1), "the other headers")
			continue
		}
		headers[strings.ToLower(k)], source = v, name
	}
	shown := slices.Sorted(maps.Keys(headers))
	for i, k := range shown {
		shown[i] = k + "=" + redacted
	}
	e.set(signal+".headers", orNone(shown), source)
	return headers
}

// validHeader accepts what both HTTP and gRPC can carry.
func validHeader(k, v string) bool {
	for _, c := range []byte(strings.ToLower(k)) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	for _, c := range []byte(v) {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return k != ""
}

// secrets are the values of c that no message may hold, by where they stand.
func (c *otlpConfig) secrets() map[string]string {
	secrets := maps.Clone(c.headers)
	for k, v := range c.headers { // a back end may quote the credentials it has decoded
		if kind, encoded, _ := strings.Cut(v, " "); strings.EqualFold(kind, "basic") {
			if plain, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				secrets[k+" decoded"] = string(plain)
				_, secrets[k+" password"], _ = strings.Cut(string(plain), ":")
			}
		}
	}
	for i, s := range c.endpoint.pathSecrets() {
		secrets[fmt.Sprint("path ", i)] = s
	}
	return secrets
}

// otlpTLS builds the TLS configuration of an https endpoint.
func (e *environment) otlpTLS(o *options, signal string, vars func(string) []string, c *otlpConfig) error {
	ca, caVar := e.get(vars("CERTIFICATE")...)
	cert, certVar := e.get(vars("CLIENT_CERTIFICATE")...)
	key, keyVar := e.get(vars("CLIENT_KEY")...)
	if c.endpoint.plaintext() {
		for _, f := range [][2]string{{caVar, ca}, {certVar, cert}, {keyVar, key}} {
			if f[0] != "" {
				e.warn("", f[0], shownFile(f[1]), "has no effect on a plaintext endpoint ("+c.endpoint.String()+")", "no TLS")
			}
		}
		return nil
	}
	c.tls = o.tlsConfig.Clone()
	if c.tls == nil {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c.certs = ca + "\x00" + cert + "\x00" + key
	e.setFile(signal+".certificate", "the system's", ca, caVar, o.tlsConfig != nil)
	e.setFile(signal+".client_certificate", exporterNone, cert, certVar, o.tlsConfig != nil)
	e.setFile(signal+".client_key", exporterNone, key, keyVar, o.tlsConfig != nil)
	if caVar != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fileError(signal, caVar, ca, "want a readable file of PEM certificates", err)
		}
		c.tls.RootCAs = x509.NewCertPool()
		if !c.tls.RootCAs.AppendCertsFromPEM(pem) {
			return &ConfigError{Signal: signal, Source: caVar, Value: ca, Reason: "want a file of PEM certificates; it holds none"}
		}
	}
	switch {
	case certVar == "" && keyVar == "":
		return nil
	case certVar == "":
		return &ConfigError{Signal: signal, Source: keyVar, Value: shownFile(key), Reason: "want " + strings.TrimSuffix(keyVar, "KEY") + "CERTIFICATE beside it"}
	case keyVar == "":
		return &ConfigError{Signal: signal, Source: certVar, Value: shownFile(cert), Reason: "want " + strings.TrimSuffix(certVar, "CERTIFICATE") + "KEY beside it"}
	}
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return fileError(signal, certVar, cert, "want a readable file of a PEM certificate", err)
	}
	keyPEM, err := os.ReadFile(key)
	if err != nil {
		return fileError(signal, keyVar, key, "want a readable file of a PEM key", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil { // not said: it may quote what the files hold
		return &ConfigError{Signal: signal, Source: certVar, Value: cert, Reason: "want a PEM certificate and, in " + keyVar + ", the PEM key that belongs to it"}
	}
	c.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// setFile records which file, if any, a part of the TLS configuration is from.
func (e *environment) setFile(name, def, file, variable string, option bool) {
	switch {
	case variable != "":
		e.set(name, shownFile(file), variable)
	case option:
		e.set(name, "as given", "WithTLSConfig")
	default:
		e.set(name, def, sourceDefault)
	}
}

// fileError says why a file cannot be read, and never what is in it.
func fileError(signal, variable, name, want string, err error) error {
	if shown := shownFile(name); shown != name {
		return &ConfigError{Signal: signal, Source: variable, Value: shown, Reason: want + ": its name, not what is in it"}
	}
	return &ConfigError{Signal: signal, Source: variable, Value: name, Reason: want + ": " + reason(err)}
}

// shownFile hides what is no file's name but, by mistake, its content.
func shownFile(name string) string {
	const base64PEM = "LS0tLS1CRUdJTi" // "-----BEGIN "
	if strings.Contains(name, "-----BEGIN") || strings.HasPrefix(name, base64PEM) || strings.Contains(name, "\n") {
		return redacted
	}
	return name
}

// reason strips the path that a file error repeats.
func reason(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// sourceOf returns the source of a setting recorded so far.
func (e *environment) sourceOf(name string) string {
	s, _ := Config{Settings: e.settings}.Get(name)
	return s.Source
}

// replace corrects the value of a setting recorded so far.
func (e *environment) replace(name, value string) {
	for i := range e.settings {
		if e.settings[i].Name == name {
			e.settings[i].Value = value
		}
	}
}
