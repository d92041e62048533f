package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// detectTimeout bounds the detectors of WithResourceDetectors.
const detectTimeout = 2 * time.Second

// resource builds the resource. Later sources override earlier ones: what was
// detected, options, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME. root is the
// file system that is looked at for containers.
func (e *environment) resource(ctx context.Context, o *options, root fs.FS) *resource.Resource {
	own, _ := resource.New(ctx, // a part that cannot be detected is left out
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithOS(),
		resource.WithProcessPID(),
		resource.WithProcessExecutableName(),
		resource.WithProcessRuntimeName(),
		resource.WithProcessRuntimeVersion(),
	)
	b := resourceBuilder{source: map[attribute.Key]string{}}
	b.add(sourceDetected,
		semconv.ServiceName("unknown_service:"+executable()),
		semconv.ServiceInstanceID(uuid.NewString()))
	b.text(sourceDetected, semconv.ServiceVersionKey, buildVersion(debug.ReadBuildInfo()))
	b.add(sourceDetected, own.Attributes()...)
	b.add(sourceDetected, containerAttributes(root, e.lookup)...)
	b.add("WithResourceDetectors", e.detect(ctx, o.detectors)...)
	b.add("WithResourceAttributes", o.attributes...)
	b.option("WithServiceName", semconv.ServiceNameKey, o.serviceName)
	b.option("WithServiceVersion", semconv.ServiceVersionKey, o.serviceVersion)
	b.option("WithEnvironment", semconv.DeploymentEnvironmentNameKey, o.environment)
	b.add("OTEL_RESOURCE_ATTRIBUTES", e.resourceAttributes()...)
	name, variable := e.get("OTEL_SERVICE_NAME")
	b.text(variable, semconv.ServiceNameKey, name)

	// The SDK's own schema URL: it merges its reading of the environment into
	// every resource, and reports a conflict for any other.
	r := resource.NewWithAttributes(own.SchemaURL(), b.attrs...)
	for _, key := range []attribute.Key{
		semconv.ServiceNameKey, semconv.ServiceNamespaceKey, semconv.ServiceVersionKey, semconv.ServiceInstanceIDKey, semconv.DeploymentEnvironmentNameKey,
	} {
		if v, ok := r.Set().Value(key); ok {
			e.set(string(key), v.String(), b.source[key])
		}
	}
	return r
}

const sourceDetected = "detected"

// resourceBuilder collects attributes, of which the last of each key counts,
// and where each came from.
type resourceBuilder struct {
	attrs  []attribute.KeyValue
	source map[attribute.Key]string
}

func (b *resourceBuilder) add(source string, attrs ...attribute.KeyValue) {
	for _, kv := range attrs {
		b.attrs = append(b.attrs, kv)
		b.source[kv.Key] = source
	}
}

func (b *resourceBuilder) text(source string, key attribute.Key, value string) {
	if value != "" {
		b.add(source, key.String(value))
	}
}

func (b *resourceBuilder) option(source string, key attribute.Key, value *string) {
	if value != nil {
		b.text(source, key, *value)
	}
}

// resourceAttributes parses OTEL_RESOURCE_ATTRIBUTES: key=value,... both
// percent-encoded. The specification would discard the whole value for one
// malformed member; but the SDK, which reads the variable too, does not, and
// what is said here should be what is sent.
func (e *environment) resourceAttributes() []attribute.KeyValue {
	raw, name := e.get("OTEL_RESOURCE_ATTRIBUTES")
	var attrs []attribute.KeyValue
	for i, member := range strings.Split(raw, ",") {
		if strings.TrimSpace(member) == "" {
			continue
		}
		const want = "want key=value,key=value with percent-encoded values; "
		k, v, found := strings.Cut(member, "=")
		if k = unescaped(strings.TrimSpace(k)); !found || k == "" {
			e.warn("", name, "", fmt.Sprintf(want+"member %d is not", i+1), "the other attributes")
			continue
		}
		v = strings.TrimSpace(v)
		if _, err := url.PathUnescape(v); err != nil {
			e.warn("", name, "", fmt.Sprintf(want+"the value of member %d (%s) is not", i+1, k), "it as it stands")
		}
		attrs = append(attrs, attribute.String(k, unescaped(v)))
	}
	return attrs
}

// unescaped decodes percent-encoding, if s is that.
func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// detect runs the user's detectors side by side, for at most detectTimeout.
func (e *environment) detect(ctx context.Context, detectors []resource.Detector) []attribute.KeyValue {
	if len(detectors) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	type result struct {
		i   int
		res *resource.Resource
		err error
	}
	results := make(chan result, len(detectors))
	for i, d := range detectors {
		go func() {
			r := result{i: i}
			defer func() {
				if p := recover(); p != nil { // would end the process
					r.err = fmt.Errorf("panic: %v", p)
				}
				results <- r
			}()
			r.res, r.err = d.Detect(ctx)
		}()
	}
	found := make([]*resource.Resource, len(detectors))
	late := make([]bool, len(detectors))
	for i := range late {
		late[i] = true
	}
collect:
	for range detectors {
		select {
		case r := <-results:
			found[r.i], late[r.i] = r.res, false
			if r.err != nil && !errors.Is(r.err, resource.ErrSchemaURLConflict) {
				e.warn("", "WithResourceDetectors", fmt.Sprintf("%T", detectors[r.i]), r.err.Error(), "what it found")
			}
		case <-ctx.Done():
			break collect
		}
	}
	var attrs []attribute.KeyValue
	for i, res := range found { // in the order given, whoever was first
		if late[i] {
			e.warn("", "WithResourceDetectors", fmt.Sprintf("%T", detectors[i]), "no answer within "+detectTimeout.String(), "no attribute of it")
		}
		attrs = append(attrs, res.Attributes()...)
	}
	return attrs
}

// buildVersion returns the main module's version, else its VCS revision, never "(devel)".
func buildVersion(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return ""
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

var (
	containerID = regexp.MustCompile(`(?:/containers/|/docker/|docker-|cri-containerd-|crio-|/sandboxes/|libpod-)([0-9a-f]{64})`)
	podUID      = regexp.MustCompile(`/kubelet/pods/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/`)
)

// containerAttributes reads, from files only, which container and pod this is.
func containerAttributes(root fs.FS, lookup func(string) (string, bool)) []attribute.KeyValue {
	var attrs []attribute.KeyValue
	read := func(name string) string {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			return ""
		}
		return string(b)
	}
	mounts := read("proc/self/mountinfo")
	for _, text := range []string{read("proc/self/cgroup"), mounts} {
		if m := containerID.FindStringSubmatch(text); m != nil {
			attrs = append(attrs, semconv.ContainerID(m[1]))
			break
		}
	}
	namespace := strings.TrimSpace(read("var/run/secrets/kubernetes.io/serviceaccount/namespace"))
	_, inCluster := lookup("KUBERNETES_SERVICE_HOST")
	if namespace == "" && !inCluster {
		return attrs
	}
	if namespace != "" {
		attrs = append(attrs, semconv.K8SNamespaceName(namespace))
	}
	if m := podUID.FindStringSubmatch(mounts); m != nil {
		attrs = append(attrs, semconv.K8SPodUID(m[1]))
	}
	if host := strings.TrimSpace(read("etc/hostname")); host != "" {
		attrs = append(attrs, semconv.K8SPodName(host))
	}
	return attrs
}
