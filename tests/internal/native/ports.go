//go:build unix

package native

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// host is where everything listens: nobody else is to reach it.
const host = "127.0.0.1"

// Ports are where the programs listen, by what listens there.
type Ports map[string]int

// What listens, of which each has a port of its own.
const (
	PrometheusHTTP = "Prometheus"
	JaegerHTTP     = "Jaeger"
	JaegerGRPC     = "Jaeger's gRPC API"
	JaegerHealth   = "Jaeger's health check"
	OTLPGRPC       = "OTLP over gRPC"
	OTLPHTTP       = "OTLP over HTTP"
	UsersAPI       = "users-api"
	UsersAudit     = "users-audit"
	UsersWeb       = "users-web"
	UsersLoad      = "users-load" // how the load goes
)

// UsualPorts are those that docker compose publishes, which are everybody's defaults.
func UsualPorts() Ports {
	return Ports{
		PrometheusHTTP: 9090, JaegerHTTP: 16686, JaegerGRPC: 16685, JaegerHealth: 13133, OTLPGRPC: 4317, OTLPHTTP: 4318,
		UsersAPI: 50051, UsersAudit: 50052, UsersWeb: 8080, UsersLoad: 8090,
	}
}

// FreePorts are ports on which nobody listens now.
func FreePorts() (Ports, error) {
	free := Ports{}
	for name := range UsualPorts() {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all, so that no port is given twice
		free[name] = l.Addr().(*net.TCPAddr).Port
	}
	return free, nil
}

// Check returns an error that names each port on which somebody listens already.
func (p Ports) Check() error {
	var taken []error
	for _, name := range p.names() {
		l, err := net.Listen("tcp", p.address(name))
		if err != nil {
			taken = append(taken, fmt.Errorf("port %d, for %s, is not to be had: %w", p[name], name, err))
			continue
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return errors.Join(taken...)
}

// names are sorted by their ports.
func (p Ports) names() []string {
	var names []string
	for name := range p {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(p[a], p[b]), cmp.Compare(a, b)) })
	return names
}

func (p Ports) address(name string) string { return net.JoinHostPort(host, strconv.Itoa(p[name])) }

// URL is where what listens at a port is reached by HTTP.
func (p Ports) URL(name string) string { return "http://" + p.address(name) }
