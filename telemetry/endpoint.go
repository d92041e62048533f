package telemetry

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// endpoint is where one signal goes, free of every ambiguity.
type endpoint struct {
	scheme string // http, https or unix
	host   string // host:port; the socket's path for unix
	path   string // OTLP/HTTP: the request's path
}

func (e endpoint) plaintext() bool { return e.scheme != "https" }

// url returns the endpoint as a URL, for an exporter.
func (e endpoint) url() string { return e.scheme + "://" + e.host + e.path }

// String returns the endpoint as a URL, for people: without the tokens that
// some back ends want in the path.
func (e endpoint) String() string {
	if e.scheme == "unix" {
		return e.url()
	}
	return e.scheme + "://" + e.host + withoutTokens(e.path)
}

// withoutTokens is a path, or what somebody took for a URL, without its tokens.
func withoutTokens(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if looksSecret(s) {
			segments[i] = redacted
		}
	}
	return strings.Join(segments, "/")
}

// pathSecrets returns what String hides.
func (e endpoint) pathSecrets() []string {
	return slices.DeleteFunc(strings.Split(e.path, "/"), func(s string) bool { return !looksSecret(s) })
}

// looksSecret tells a token in a URL's path: long, of letters, and with digits or
// in one piece. The names of hosts have dots, and those of services hyphens.
func looksSecret(segment string) bool {
	return len(segment) >= 20 && strings.ContainsAny(strings.ToLower(segment), "abcdefghijklmnopqrstuvwxyz") &&
		!strings.ContainsAny(segment, ".:") && (strings.ContainsAny(segment, "0123456789") || !strings.ContainsAny(segment, "-_"))
}

// redacted stands for what is not shown.
const redacted = "[redacted]"

// grpcTarget is the target for [google.golang.org/grpc.NewClient].
func (e endpoint) grpcTarget() string {
	if e.scheme == "unix" {
		return "unix:" + e.host
	}
	return e.host
}

var (
	errUserInfo = errors.New("want no user, password or query in the URL; credentials go into OTEL_EXPORTER_OTLP_HEADERS")
	errScheme   = errors.New("want http://host:port (plaintext) or https://host:port (TLS)")
)

// parseEndpoint applies one set of rules to all signals. secure answers for a
// value without a scheme: nil when nobody said, so that only loopback is
// plaintext. base says that the signal's path is to be added.
func parseEndpoint(raw, signal string, base bool, secure *bool) (endpoint, error) {
	var e endpoint
	if strings.ContainsAny(raw, "@?#") { // first of all: no other message may quote it
		return e, errUserInfo
	}
	scheme, rest, found := strings.Cut(raw, "://")
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		if path = strings.TrimPrefix(path, "//"); path == "" {
			return e, errors.New("want unix:///path/of/socket")
		}
		return endpoint{scheme: "unix", host: path}, nil
	}
	if !found {
		rest = raw
		switch {
		case secure != nil && *secure:
			scheme = "https"
		case secure != nil || isLoopback(raw):
			scheme = "http"
		default:
			return e, fmt.Errorf("want a scheme: http://%s for plaintext or https://%[1]s for TLS", withoutTokens(raw))
		}
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "http", "https":
	default:
		return e, errScheme
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return e, errScheme
	}
	if u.Hostname() == "" {
		return e, errScheme
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return e, fmt.Errorf("want a port from 1 to 65535, not %s", port)
		}
	}
	e = endpoint{scheme: scheme, host: u.Host, path: u.Path}
	if base {
		e.path = strings.TrimSuffix(u.Path, "/") + "/v1/" + signal
	} else if e.path == "" {
		e.path = "/"
	}
	return e, nil
}

// withPort adds the port that the protocol and the scheme imply.
func (e endpoint) withPort(protocol string) endpoint {
	if e.scheme == "unix" {
		return e
	}
	if _, port, err := net.SplitHostPort(e.host); err == nil && port != "" {
		return e
	}
	port := "443"
	if e.plaintext() {
		if port = "80"; protocol == protocolGRPC {
			port = "4317"
		}
	}
	e.host = net.JoinHostPort(strings.Trim(strings.TrimSuffix(e.host, ":"), "[]"), port)
	return e
}

// impliedProtocol is the protocol of an endpoint for which nobody set one.
func (e endpoint) impliedProtocol() string {
	if _, port, err := net.SplitHostPort(e.host); err == nil && port == "4318" {
		return protocolHTTP
	}
	return protocolGRPC
}

// isLoopback reports whether a host:port names this machine.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host, _, _ = strings.Cut(host, "/")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}
