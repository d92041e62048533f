package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/rpcscope/rpcscope/tests/internal/compose"
)

// stacks are the compose files that are started together.
var stacks = map[string][]string{"base": nil, "with collectors": {compose.Overlay}}

var (
	// pinned is an image that is the same tomorrow: a tag for people, a digest for machines.
	pinned = regexp.MustCompile(`^[^@:]+(:\d+/[^@:]+)?:[^@:]+@sha256:[0-9a-f]{64}$`)
	// nobody is a user who is not root whatever a file in the image says.
	nobody = regexp.MustCompile(`^[1-9]\d*(:\d+)?$`)
)

// checkCompose returns what is wrong with compose files: not what the schema allows, which compose-go says itself, but what
// this repository promises.
func checkCompose(ctx context.Context, contents map[string][]byte, overlays ...string) error {
	project, err := compose.Parse(ctx, root, contents, overlays...)
	if err != nil {
		return err
	}
	var problems []error
	published := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		s := project.Services[name]
		for _, err := range append(checkService(s), checkPrivileges(s)...) {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		for dependency := range s.DependsOn {
			if d, ok := project.Services[dependency]; ok && d.HealthCheck == nil {
				problems = append(problems, fmt.Errorf("%s: waits for %s, which has no health check", name, dependency))
			}
		}
		for _, p := range s.Ports {
			if other, ok := published[p.Published]; ok {
				problems = append(problems, fmt.Errorf("%s: publishes port %s, as %s does", name, p.Published, other))
			}
			published[p.Published] = name
		}
	}
	return errors.Join(problems...)
}

func checkService(s types.ServiceConfig) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
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
	switch {
	case s.HealthCheck == nil || len(s.HealthCheck.Test) == 0:
		problem("has no health check")
	case s.HealthCheck.Test[0] != "CMD":
		problem("got health check %q, want one that needs no shell", s.HealthCheck.Test)
	}
	if s.Restart != types.RestartPolicyUnlessStopped {
		problem("got restart policy %q, want %q", s.Restart, types.RestartPolicyUnlessStopped)
	}
	return problems
}

// checkPrivileges returns what a service could do and need not.
func checkPrivileges(s types.ServiceConfig) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	user := s.User
	if s.Build == nil {
		if !pinned.MatchString(s.Image) {
			problem("got image %q, want one with a tag and a digest", s.Image)
		}
	} else if stage, err := stageOf(s.Build); err != nil {
		problem("build: %w", err)
	} else {
		user = stage.user
		for _, words := range [][]string{s.HealthCheck.Test[1:], s.Command} {
			if program := words[0]; !strings.HasPrefix(program, "-") && !stage.has(program) {
				problem("runs %s, which its image does not have", program)
			}
		}
	}
	if !nobody.MatchString(user) {
		problem("got user %q, want a number that is not root's", user)
	}
	if !s.ReadOnly {
		problem("its root file system is writable")
	}
	if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) != 0 || s.Privileged {
		problem("got capabilities dropped %v and added %v, want ALL and none", s.CapDrop, s.CapAdd)
	}
	if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		problem("got security options %v, want no-new-privileges", s.SecurityOpt)
	}
	return problems
}

// A stage is what this repository's Dockerfile makes of an image.
type stage struct {
	image, user string
	copies      []string // what it copies from the stage that builds
}

// stageOf returns the stage that a service is built from.
func stageOf(b *types.BuildConfig) (stage, error) {
	content, err := os.ReadFile(filepath.Join(b.Context, b.Dockerfile))
	if err != nil {
		return stage{}, err
	}
	stages, err := stagesOf(string(content))
	if err != nil {
		return stage{}, err
	}
	s, ok := stages[b.Target]
	if !ok {
		return stage{}, fmt.Errorf("%s has no stage %q", b.Dockerfile, b.Target)
	}
	return s, nil
}

// stagesOf returns the stages of a Dockerfile by their names.
func stagesOf(dockerfile string) (map[string]stage, error) {
	stages := map[string]stage{}
	var name string
	for line := range strings.Lines(dockerfile) {
		words := slices.DeleteFunc(strings.Fields(line), func(w string) bool { return strings.HasPrefix(w, "--platform=") })
		if len(words) == 0 {
			continue
		}
		s := stages[name]
		switch words[0] {
		case "FROM":
			if len(words) != 4 || words[2] != "AS" {
				return nil, fmt.Errorf("got %q, want FROM image AS name", line)
			}
			if name = words[3]; words[1] != "scratch" && !pinned.MatchString(words[1]) {
				return nil, fmt.Errorf("got image %q, want one with a tag and a digest", words[1])
			}
			s = stage{image: words[1]}
		case "USER":
			s.user = words[1]
		case "COPY":
			if from, ok := strings.CutPrefix(words[1], "--from="); ok {
				if _, ok := stages[from]; !ok {
					return nil, fmt.Errorf("copies from %s, which is no stage before", from)
				}
				s.copies = append(s.copies, words[2:]...)
			}
		}
		stages[name] = s
	}
	return stages, nil
}

// has tells whether an image has a program of the examples.
func (s stage) has(program string) bool {
	if _, err := os.Stat(filepath.Join(root, "examples/cmd", program)); err != nil {
		return false
	}
	return slices.Contains(s.copies, "/out/bin/") || slices.Contains(s.copies, "/out/bin/"+program)
}

func composeFiles(t *testing.T) map[string][]byte {
	t.Helper()
	return map[string][]byte{compose.File: read(t, compose.File), compose.Overlay: read(t, compose.Overlay)}
}

// TestCompose checks the compose files, then spoils them.
func TestCompose(t *testing.T) {
	for name, overlays := range stacks {
		if err := checkCompose(t.Context(), composeFiles(t), overlays...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tt := range []struct{ name, file, old, new, want string }{
		{"unknown key", compose.File, "healthcheck:", "healthchecks:", "healthchecks"},
		{"port to the world", compose.File, "127.0.0.1:9090:9090", "9090:9090", `prometheus: got port 9090 on ""`},
		{"port taken", compose.File, "127.0.0.1:9090:9090", "127.0.0.1:8080:9090", `users-web: publishes port 8080, as prometheus does`},
		{"port taken by the overlay", compose.Overlay, "ports: !override", "ports:", `jaeger: publishes port 4317, as agent does`},
		{"mount moved", compose.File, "./dashboards/jaeger/config.yaml", "./dashboards/jaeger/configuration.yaml", "jaeger: mount: stat"},
		{"mount writable", compose.File, "/etc/prometheus:ro", "/etc/prometheus", "prometheus: got a writable mount"},
		{"image unpinned", compose.File, "@sha256:", "#sha256:", "want one with a tag and a digest"},
		{"Dockerfile moved", compose.File, "dockerfile: examples/Dockerfile", "dockerfile: examples/Containerfile", "build: open"},
		{"stage misspelt", compose.Overlay, "target: collector", "target: colector", `sampler: build: examples/Dockerfile has no stage "colector"`},
		{"root file system writable", compose.File, "read_only: true", "read_only: false", "grafana: its root file system is writable"},
		{"root", compose.File, `user: "472:0"`, `user: "0:0"`, `grafana: got user "0:0"`},
		{"root of the image", compose.File, `user: "999:1000"`, `user: ""`, `redis: got user ""`},
		{"capabilities", compose.File, "cap_drop: [ALL]", "cap_drop: []", "grafana: got capabilities dropped []"},
		{"privileges", compose.File, "no-new-privileges:true", "no-new-privileges:false", "grafana: got security options"},
		{"health check with a shell", compose.File, "[CMD, redis-cli, -e, ping]", "redis-cli ping", "redis: got health check"},
		{"health check removed", compose.File, "test: [CMD, redis-cli, -e, ping]", "disable: true", "redis: has no health check"},
		{"program not in the image", compose.Overlay, "[CMD, ready,", "[CMD, wget,", "agent: runs wget, which its image does not have"},
		{"not started again", compose.File, "restart: unless-stopped", "restart: always", `redis: got restart policy "always"`},
		{"dependency misspelt", compose.File, "jaeger: { condition", "jeager: { condition", "jeager"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := composeFiles(t)
			spoilt := strings.ReplaceAll(string(files[tt.file]), tt.old, tt.new)
			if spoilt == string(files[tt.file]) {
				t.Fatalf("%q is not in %s", tt.old, tt.file)
			}
			files[tt.file] = []byte(spoilt)
			err := checkCompose(t.Context(), files, compose.Overlay)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestDockerfile spoils the Dockerfile, which TestCompose finds in order.
func TestDockerfile(t *testing.T) {
	raw := string(read(t, "examples/Dockerfile"))
	if stages, err := stagesOf(raw); err != nil || len(stages) != 4 { // and what is before the first
		t.Errorf("got stages %v, error %v", stages, err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"image unpinned", "golang:1.26.9@sha256:", "golang:1.26.9#sha256:", "want one with a tag and a digest"},
		{"stage without a name", "FROM scratch AS examples", "FROM scratch", "want FROM image AS name"},
		{"copies from nowhere", "--from=build", "--from=biuld", "copies from biuld, which is no stage before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := strings.ReplaceAll(raw, tt.old, tt.new)
			if _, err := stagesOf(spoilt); spoilt == raw || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestDataSources looks for what Grafana would only find at run time: a data source's host is a service that compose starts,
// its links lead to data sources that exist, and the dashboards, that of the first page among them, are mounted where Grafana
// looks.
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
	grafana := project.Services["grafana"]
	for _, p := range provider.Providers {
		if source := mounted(grafana, p.Options.Path); source == "" {
			t.Errorf("nothing is mounted at %s", p.Options.Path)
		} else if found, err := filepath.Glob(filepath.Join(source, "*.json")); err != nil || len(found) == 0 {
			t.Errorf("got dashboards %v in %s, error %v, want some", found, source, err)
		}
	}
	first := *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if _, err := os.Stat(filepath.Join(mounted(grafana, path.Dir(first)), path.Base(first))); err != nil {
		t.Errorf("the dashboard of the first page: %v", err)
	}
}

// TestCollectors holds the overlay together: who delivers to whom, that the collector is the one whose code tools/otelcol
// tests, and that it counts spans as Jaeger does without it.
func TestCollectors(t *testing.T) {
	project, err := compose.Load(t.Context(), root, compose.Overlay)
	if err != nil {
		t.Fatal(err)
	}
	env := func(service, name string) string {
		if v := project.Services[service].Environment[name]; v != nil {
			return *v
		}
		return ""
	}
	for _, name := range []string{"users-api", "users-audit", "users-web", "users-load"} {
		if got, want := env(name, "OTEL_EXPORTER_OTLP_ENDPOINT"), "http://agent:4317"; got != want {
			t.Errorf("%s delivers to %q, want %q", name, got, want)
		}
		if _, ok := project.Services[name].DependsOn["agent"]; !ok {
			t.Errorf("%s does not wait for the agent", name)
		}
	}
	got := env("agent", "SAMPLER_HOST") + ":" + env("agent", "SAMPLER_PORT") + " " + env("sampler", "JAEGER_ENDPOINT")
	if want := "sampler:4317 jaeger:4317"; got != want {
		t.Errorf("got %q, want the agent to deliver to the sampler, and it to Jaeger: %q", got, want)
	}
	for _, name := range []string{"agent", "sampler"} {
		if got := env(name, "COLLECTOR_LISTEN_HOST"); got != "0.0.0.0" {
			t.Errorf("%s listens on %q, where nobody reaches it", name, got)
		}
	}
	// A default of a file is for a machine without containers: what a file asks the environment for, compose says.
	asked := regexp.MustCompile(`\$\{env:(\w+)`)
	for service, file := range map[string]string{"agent": "collector/agent.yaml", "sampler": "collector/sampler.yaml", "jaeger": "jaeger/config.yaml"} {
		var want, got []string
		for _, m := range asked.FindAllStringSubmatch(string(read(t, "dashboards/"+file)), -1) {
			want = append(want, m[1])
		}
		for name := range project.Services[service].Environment {
			got = append(got, name)
		}
		want = slices.DeleteFunc(want, func(name string) bool { return name == "JAEGER_UI_CONFIG" }) // its default is where compose mounts it
		got = slices.DeleteFunc(got, func(name string) bool { return name == "GOMEMLIMIT" })         // is for Go
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
			t.Errorf("the environment of %s (-asked for by %s +set by compose):\n%s", service, file, diff)
		}
	}

	stages, err := stagesOf(string(read(t, "examples/Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`go\.opentelemetry\.io/collector/otelcol v(\S+)`).FindStringSubmatch(string(read(t, "tools/otelcol/go.mod")))
	if version == nil || !strings.Contains(stages["collector"].image, ":"+version[1]+"@") {
		t.Errorf("the image is %s, and tools/otelcol has version %q, want the same", stages["collector"].image, version)
	}

	var agent, jaeger struct{ Connectors map[string]any }
	decode(t, &agent, "dashboards/collector/agent.yaml")
	decode(t, &jaeger, "dashboards/jaeger/config.yaml")
	if diff := cmp.Diff(jaeger.Connectors["spanmetrics"], agent.Connectors["span_metrics"]); diff != "" || agent.Connectors["span_metrics"] == nil {
		t.Errorf("span metrics (-Jaeger's +the agent's):\n%s", diff)
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
