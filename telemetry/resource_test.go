package telemetry

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

func TestBuildVersion(t *testing.T) { // rule 36
	settings := func(kv ...string) (out []debug.BuildSetting) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return out
	}
	tests := []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"none", nil, ""},
		{"module", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{"devel", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, ""},
		{"revision", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: settings("vcs.revision", "0123456789abcdef", "vcs.modified", "true")}, "0123456789ab-dirty"},
		{"clean", &debug.BuildInfo{Settings: settings("vcs.modified", "false", "vcs.revision", "0123456789abcdef")}, "0123456789ab"},
		{"modified only", &debug.BuildInfo{Settings: settings("vcs.modified", "true")}, ""},
	}
	for _, tt := range tests {
		if got := buildVersion(tt.info, tt.info != nil); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestContainerAttributes(t *testing.T) { // rule 36
	id := strings.Repeat("0123456789abcdef", 4)
	const uid = "11112222-3333-4444-5555-666677778888"
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	tests := []struct {
		name  string
		files fstest.MapFS
		env   Env
		want  string
	}{
		{name: "bare machine", files: fstest.MapFS{"proc/self/cgroup": file("0::/user.slice\n"), "etc/hostname": file("pc\n")}},
		{name: "docker, cgroup v1", files: fstest.MapFS{"proc/self/cgroup": file("12:cpu:/docker/" + id + "\n")}, want: "container.id=" + id},
		{name: "docker, cgroup v2", files: fstest.MapFS{
			"proc/self/cgroup":    file("0::/\n"),
			"proc/self/mountinfo": file("1 2 0:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw - ext4\n"),
		}, want: "container.id=" + id},
		{name: "kubernetes", files: fstest.MapFS{
			"proc/self/cgroup":    file("0::/\n"),
			"proc/self/mountinfo": file("1 2 0:1 /var/lib/kubelet/pods/" + uid + "/etc-hosts /etc/hosts rw\n3 4 0:1 /x/io.containerd/sandboxes/" + id + "/hostname /etc/hostname rw\n"),
			"var/run/secrets/kubernetes.io/serviceaccount/namespace": file("shop\n"),
			"etc/hostname": file("users-5d4f\n"),
		}, want: "container.id=" + id + ",k8s.namespace.name=shop,k8s.pod.name=users-5d4f,k8s.pod.uid=" + uid},
		{name: "kubernetes without service account", files: fstest.MapFS{"etc/hostname": file("users-5d4f")},
			env: Env{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, want: "k8s.pod.name=users-5d4f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attrs := containerAttributes(tt.files, tt.env.lookup)
			set := attribute.NewSet(attrs...)
			if got := set.Encoded(attribute.DefaultEncoder()); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

type detector func(context.Context) (*resource.Resource, error)

func (d detector) Detect(ctx context.Context) (*resource.Resource, error) { return d(ctx) }

// What there is, what wins, and what there never is.
func TestResource(t *testing.T) { // rules 31, 36
	detected := detector(func(context.Context) (*resource.Resource, error) {
		// Another schema than the SDK's: harmless.
		return resource.NewWithAttributes("https://opentelemetry.io/schemas/1.0.0", attribute.String("a", "detected"), attribute.String("b", "detected"), attribute.String("c", "detected")), nil
	})
	tel, err := configure(t, quiet(Env{"OTEL_RESOURCE_ATTRIBUTES": "c=env,d=a%20b, service.version=2"}),
		WithServiceName("users"), WithServiceVersion("1"), WithEnvironment("prod"), WithResourceDetectors(detected),
		WithResourceAttributes(attribute.String("b", "option"), attribute.String("c", "option")))
	if err != nil || len(tel.Warnings()) > 0 {
		t.Fatal(err, tel.Warnings())
	}
	got := map[string]string{}
	for _, kv := range tel.Resource().Attributes() {
		got[string(kv.Key)] = kv.Value.String()
	}
	want := map[string]string{"service.name": "users", "service.version": "2", "deployment.environment.name": "prod", "a": "detected", "b": "option", "c": "env", "d": "a b"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	for _, k := range []string{"service.instance.id", "host.name", "os.type", "process.pid", "process.runtime.version", "telemetry.sdk.version"} {
		if got[k] == "" {
			t.Errorf("no %s", k)
		}
	}
	for k := range got {
		if strings.HasPrefix(k, "process.command") {
			t.Errorf("there is %s: arguments may hold secrets", k)
		}
	}
	other, err := configure(t, quiet(nil))
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := other.Resource().Set().Value("service.instance.id"); id.String() == got["service.instance.id"] {
		t.Error("two handles have the same service.instance.id")
	}
}

// Config says of each attribute that identifies the service who has the last word.
func TestResourceSources(t *testing.T) { // rules 31, 36
	detected := detector(func(context.Context) (*resource.Resource, error) {
		return resource.NewSchemaless(attribute.String("service.name", "d"), attribute.String("service.namespace", "d"), attribute.String("service.instance.id", "d"), attribute.String("service.version", "d")), nil
	})
	tel, err := configure(t, quiet(Env{"OTEL_RESOURCE_ATTRIBUTES": "service.version=e", "OTEL_SERVICE_NAME": "s"}), nil,
		WithResourceDetectors(nil, detected), WithServiceName("o"), WithServiceVersion("o"), WithEnvironment("o"), WithResourceAttributes(attribute.String("service.namespace", "o"), attribute.String("deployment.environment.name", "loses")))
	if err != nil || len(tel.Warnings()) > 0 {
		t.Fatal(err, tel.Warnings())
	}
	want := []Setting{
		{"service.name", "s", "OTEL_SERVICE_NAME"},
		{"service.namespace", "o", "WithResourceAttributes"},
		{"service.version", "e", "OTEL_RESOURCE_ATTRIBUTES"},
		{"service.instance.id", "d", "WithResourceDetectors"},
		{"deployment.environment.name", "o", "WithEnvironment"},
	}
	for _, w := range want {
		got, _ := tel.Config().Get(w.Name)
		if got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
		if v, _ := tel.Resource().Set().Value(attribute.Key(w.Name)); v.String() != w.Value {
			t.Errorf("%s is %s, want %s", w.Name, v.String(), w.Value)
		}
	}
	tel, _ = configure(t, quiet(nil), WithServiceName(""), WithServiceVersion(""), WithEnvironment(""))
	for name, source := range map[string]string{"service.name": "detected", "service.instance.id": "detected", "deployment.environment.name": ""} {
		if got, _ := tel.Config().Get(name); got.Source != source {
			t.Errorf("got %+v, want it of %q", got, source)
		}
	}
}

// A detector that panics is not the end of the service.
func TestDetectorPanics(t *testing.T) { // rule 36
	tel, err := configure(t, quiet(nil), WithResourceDetectors(detector(func(context.Context) (*resource.Resource, error) { panic("no metadata") })))
	want := `WithResourceDetectors="telemetry.detector": panic: no metadata; using what it found`
	if err != nil || len(tel.Warnings()) != 1 || tel.Warnings()[0].Error() != want {
		t.Errorf("error %v, warnings %q, want %s", err, tel.Warnings(), want)
	}
}

// Detectors that fail or hang cost what they would have found, and 2 seconds.
func TestDetectors(t *testing.T) { // rule 36
	synctest.Test(t, func(t *testing.T) {
		e := &environment{lookup: Env{}.lookup}
		start := time.Now()
		release := make(chan struct{})
		got := e.detect(t.Context(), []resource.Detector{
			detector(func(context.Context) (*resource.Resource, error) { <-release; return nil, nil }),
			detector(func(context.Context) (*resource.Resource, error) { return nil, errors.New("no metadata") }),
			detector(func(context.Context) (*resource.Resource, error) {
				return resource.NewSchemaless(attribute.String("a", "1")), nil
			}),
		})
		close(release)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %s, want 2s", took)
		}
		if diff := cmp.Diff([]attribute.KeyValue{attribute.String("a", "1")}, got, cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		var warnings []string
		for _, w := range e.warnings {
			warnings = append(warnings, w.Error())
		}
		want := []string{
			`WithResourceDetectors="telemetry.detector": no metadata; using what it found`,
			`WithResourceDetectors="telemetry.detector": no answer within 2s; using no attribute of it`,
		}
		if diff := cmp.Diff(want, warnings); diff != "" {
			t.Errorf("warnings, -want +got:\n%s", diff)
		}
	})
}

// A service without a name is told so, once.
func TestServiceNameHint(t *testing.T) { // rule 36
	var diag DiagLog
	tel, err := Setup(t.Context(), quiet(nil).Option(), WithDiagnostics(diag.Handler()))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	if got := diag.Lines("the service has no name"); len(got) != 1 || len(diag.Lines("")) != 1 {
		t.Errorf("reported:\n%s", &diag)
	}
}
