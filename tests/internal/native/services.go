//go:build unix

package native

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config says what a stack is made of.
type Config struct {
	Root     string              // the repository, whose dashboards folder the back ends read
	Dir      string              // where data and logs go; what an earlier stack left there is deleted
	Backends Binaries            // see Build
	Examples string              // the folder of the built example programs
	Ports    Ports               // nil: the usual ones
	Rate     float64             // calls a second of the load generator; 0: it is not started
	Every    time.Duration       // between exports of metrics; 0: 15 s, as in compose
	Args     map[string][]string // more of the command line, by service
	Password string              // of the admin; empty: that of compose
	Log      io.Writer           // is told of each service that has become healthy; nil: nobody is

	inherited *os.File // by all processes; nil: none
}

const (
	admin           = "admin@example.com"
	defaultPassword = "change me please" // as in compose
)

// A service is a program of the stack.
type service struct {
	name, path string
	args, env  []string
	healthy    func(context.Context) error
}

// services returns what is started, each after those that it needs. It is what the compose file has, with addresses of this
// machine; a test holds the two together.
func (c Config) services() []service {
	p := c.Ports
	prometheus := service{
		name: "prometheus", path: c.Backends["prometheus"],
		args: []string{
			"--config.file=" + filepath.Join(c.Root, "dashboards/prometheus/prometheus.yml"),
			"--storage.tsdb.path=" + filepath.Join(c.Dir, "prometheus"),
			"--storage.tsdb.retention.time=2d",
			"--web.enable-otlp-receiver",
			"--enable-feature=exemplar-storage",
			"--web.listen-address=" + p.address(PrometheusHTTP),
		},
		healthy: answers(p.URL(PrometheusHTTP) + "/-/ready"),
	}
	jaeger := service{
		name: "jaeger", path: c.Backends["jaeger"],
		args: []string{
			"--config", "file:" + filepath.Join(c.Root, "dashboards/jaeger/config.yaml"),
			"--set", "extensions.healthcheckv2.http.endpoint=" + p.address(JaegerHealth),
			"--set", "extensions.jaeger_query.http.endpoint=" + p.address(JaegerHTTP),
			"--set", "extensions.jaeger_query.grpc.endpoint=" + p.address(JaegerGRPC),
			"--set", "receivers.otlp.protocols.grpc.endpoint=" + p.address(OTLPGRPC),
			"--set", "receivers.otlp.protocols.http.endpoint=" + p.address(OTLPHTTP),
		},
		env: []string{
			"JAEGER_LISTEN_HOST=" + host,
			"JAEGER_UI_CONFIG=" + filepath.Join(c.Root, "dashboards/jaeger/ui.json"),
			"PROMETHEUS_URL=" + p.URL(PrometheusHTTP),
		},
		healthy: answers(p.URL(JaegerHealth) + "/status"),
	}
	audit := c.example("users-audit", p.address(UsersAudit), "-db", filepath.Join(c.Dir, "audit.db"), "-messages", "-faults")
	api := c.example("users-api", p.address(UsersAPI), "-db", filepath.Join(c.Dir, "users.db"), "-admin", admin,
		"-audit", p.address(UsersAudit), "-resilient", "-messages", "-faults")
	api.env = append(api.env, "USERS_ADMIN_PASSWORD="+c.Password)
	web := c.example("users-web", p.address(UsersWeb), "-users", p.address(UsersAPI), "-traces", p.URL(JaegerHTTP), "-messages", "-faults")
	all := []service{prometheus, jaeger, audit, api, web}
	if c.Rate > 0 {
		load := c.example("users-load", "", "-addr", p.address(UsersAPI), "-rate", strconv.FormatFloat(c.Rate, 'f', -1, 64),
			"-duration", "100000h", "-tolerate", "1", "-status", p.address(UsersLoad), "-messages", "steady")
		load.healthy = answers(p.URL(UsersLoad)) // when a call has ended well
		all = append(all, load)
	}
	for i := range all {
		all[i].args = append(all[i].args, c.Args[all[i].name]...)
	}
	return all
}

// example returns a service that is one of the example programs. It listens on address, unless that is empty.
func (c Config) example(name, address string, args ...string) service {
	s := service{
		name: name, path: filepath.Join(c.Examples, name), args: args,
		env: []string{
			"OTEL_SERVICE_NAME=" + name,
			"OTEL_RESOURCE_ATTRIBUTES=service.namespace=users,deployment.environment.name=native",
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.Ports.URL(OTLPGRPC),
			"OTEL_LOGS_EXPORTER=none",
			"OTEL_METRIC_EXPORT_INTERVAL=" + strconv.FormatInt(c.Every.Milliseconds(), 10),
		},
	}
	if address == "" {
		return s
	}
	s.args = append([]string{"-listen", address}, args...)
	s.healthy = func(ctx context.Context) error { // as compose checks it
		out, err := exec.CommandContext(ctx, s.path, "-listen", address, "-check").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	return s
}

// client keeps no connection.
var client = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// answers is healthy when a GET of url is answered with 200.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s, want 200", url, response.Status)
		}
		return nil
	}
}
