package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"github.com/rpcscope/rpcscope/tests/internal/compose"
)

// pinned is an image that is the same tomorrow: a tag for people, a digest for machines.
var pinned = regexp.MustCompile(`^[^@:]+(:\d+/[^@:]+)?:[^@:]+@sha256:[0-9a-f]{64}$`)

// checkCompose returns what is wrong with a compose file: not what the schema
// allows, which compose-go says itself, but what this repository promises.
func checkCompose(ctx context.Context, content []byte) error {
	project, err := compose.Parse(ctx, root, content)
	if err != nil {
		return err
	}
	var problems []error
	for name, s := range project.Services {
		for _, err := range checkService(s) {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		for dependency := range s.DependsOn {
			if d, ok := project.Services[dependency]; ok && d.HealthCheck == nil {
				problems = append(problems, fmt.Errorf("%s: waits for %s, which has no health check", name, dependency))
			}
		}
	}
	return errors.Join(problems...)
}

func checkService(s types.ServiceConfig) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case s.Build != nil:
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			problem("build: %w", err)
		}
		if !s.ReadOnly {
			problem("its root file system is writable")
		}
	case !pinned.MatchString(s.Image):
		problem("got image %q, want one with a tag and a digest", s.Image)
	}
	for _, p := range s.Ports {
		if addr, err := netip.ParseAddr(p.HostIP); err != nil || !addr.IsLoopback() {
			problem("got port %s on %q, want it on a loopback address", p.Published, p.HostIP)
		}
	}
	for _, v := range s.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			problem("mount: %w", err)
		}
		if !v.ReadOnly {
			problem("got a writable mount of %s, want it read-only", v.Source)
		}
	}
	if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 {
		problem("has no health check")
	}
	return problems
}

// TestCompose checks the compose file, then spoils it.
func TestCompose(t *testing.T) {
	raw := string(read(t, compose.File))
	if err := checkCompose(t.Context(), []byte(raw)); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown key", "healthcheck:", "healthchecks:", "healthchecks"},
		{"port to the world", "127.0.0.1:9090:9090", "9090:9090", `prometheus: got port 9090 on ""`},
		{"mount moved", "./dashboards/jaeger/config.yaml", "./dashboards/jaeger/configuration.yaml", "jaeger: mount: stat"},
		{"mount writable", "/etc/prometheus:ro", "/etc/prometheus", "prometheus: got a writable mount"},
		{"image unpinned", "@sha256:", "#sha256:", "want one with a tag and a digest"},
		{"Dockerfile moved", "dockerfile: examples/Dockerfile", "dockerfile: examples/Containerfile", "build: stat"},
		{"root writable", "read_only: true", "read_only: false", "root file system is writable"},
		{"dependency misspelt", "jaeger: { condition", "jeager: { condition", "jeager"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := strings.ReplaceAll(raw, tt.old, tt.new)
			if spoilt == raw {
				t.Fatalf("%q is not in %s", tt.old, compose.File)
			}
			err := checkCompose(t.Context(), []byte(spoilt))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestDataSources looks for what Grafana would only find at run time: a data
// source's host is a service that compose starts, its links lead to data sources that
// exist, and the dashboards are mounted where the provider looks.
func TestDataSources(t *testing.T) {
	project, err := compose.Load(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var provisioned struct {
		Datasources []struct {
			UID, URL string
			JSONData struct {
				ExemplarTraceIDDestinations []struct {
					DatasourceUID string `yaml:"datasourceUid"`
				} `yaml:"exemplarTraceIdDestinations"`
				TracesToMetrics struct {
					DatasourceUID string `yaml:"datasourceUid"`
				} `yaml:"tracesToMetrics"`
			} `yaml:"jsonData"`
		}
	}
	decode(t, &provisioned, "dashboards/grafana/provisioning/datasources/datasources.yaml")
	uids := map[string]bool{}
	var links []string
	for _, d := range provisioned.Datasources {
		uids[d.UID] = true
		for _, e := range d.JSONData.ExemplarTraceIDDestinations {
			links = append(links, e.DatasourceUID)
		}
		if uid := d.JSONData.TracesToMetrics.DatasourceUID; uid != "" {
			links = append(links, uid)
		}
		u, err := url.Parse(d.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := project.Services[u.Hostname()]; !ok {
			t.Errorf("data source %s: compose starts no %s", d.UID, u.Hostname())
		}
	}
	if len(links) < 2 {
		t.Errorf("got links %v, want one from metrics to traces and one back", links)
	}
	for _, uid := range links {
		if !uids[uid] {
			t.Errorf("link to %s, which is no data source", uid)
		}
	}

	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	decode(t, &provider, "dashboards/grafana/provisioning/dashboards/dashboards.yaml")
	for _, p := range provider.Providers {
		if source := mounted(project.Services["grafana"], p.Options.Path); source == "" {
			t.Errorf("nothing is mounted at %s", p.Options.Path)
		} else if found, err := filepath.Glob(filepath.Join(source, "*.json")); err != nil || len(found) == 0 {
			t.Errorf("got dashboards %v in %s, error %v, want some", found, source, err)
		}
	}
}

func decode(t *testing.T, into any, path string) {
	t.Helper()
	if err := yaml.Unmarshal(read(t, path), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// mounted returns what is mounted at a path of a container.
func mounted(s types.ServiceConfig, path string) string {
	for _, v := range s.Volumes {
		if v.Target == path {
			return v.Source
		}
	}
	return ""
}
