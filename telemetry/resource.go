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
	attrs := []attribute.KeyValue{
		semconv.ServiceName("unknown_service:" + executable()),
		semconv.ServiceInstanceID(uuid.NewString()),
	}
	if v := buildVersion(debug.ReadBuildInfo()); v != "" {
		attrs = append(attrs, semconv.ServiceVersion(v))
	}
	attrs = append(attrs, own.Attributes()...)
	attrs = append(attrs, containerAttributes(root, e.lookup)...)
	attrs = append(attrs, e.detect(ctx, o.detectors)...)

	nameSource := "detected"
	attrs = append(attrs, o.attributes...)
	for _, kv := range o.attributes {
		if kv.Key == semconv.ServiceNameKey {
			nameSource = "WithResourceAttributes"
		}
	}
	if o.serviceName != nil && *o.serviceName != "" {
		attrs, nameSource = append(attrs, semconv.ServiceName(*o.serviceName)), "WithServiceName"
	}
	if o.serviceVersion != nil && *o.serviceVersion != "" {
		attrs = append(attrs, semconv.ServiceVersion(*o.serviceVersion))
	}
	if o.environment != nil && *o.environment != "" {
		attrs = append(attrs, semconv.DeploymentEnvironmentNameKey.String(*o.environment))
	}
	for _, kv := range e.resourceAttributes() {
		if kv.Key == semconv.ServiceNameKey {
			nameSource = "OTEL_RESOURCE_ATTRIBUTES"
		}
		attrs = append(attrs, kv)
	}
	if v, name := e.get("OTEL_SERVICE_NAME"); name != "" {
		attrs, nameSource = append(attrs, semconv.ServiceName(v)), name
	}
	// The SDK's own schema URL: it merges its reading of the environment into
	// every resource, and reports a conflict for any other.
	r := resource.NewWithAttributes(own.SchemaURL(), attrs...)
	name, _ := r.Set().Value(semconv.ServiceNameKey)
	e.set("service.name", name.AsString(), nameSource)
	for _, kv := range r.Attributes() {
		if kv.Key == semconv.ServiceVersionKey || kv.Key == semconv.ServiceInstanceIDKey || kv.Key == semconv.DeploymentEnvironmentNameKey {
			e.set(string(kv.Key), kv.Value.String(), "resource")
		}
	}
	return r
}

// resourceAttributes parses OTEL_RESOURCE_ATTRIBUTES: key=value,... with
// percent-encoded values. One malformed member discards the whole value, as
// the specification demands.
func (e *environment) resourceAttributes() []attribute.KeyValue {
	raw, name := e.get("OTEL_RESOURCE_ATTRIBUTES")
	var attrs []attribute.KeyValue
	for member := range strings.SplitSeq(raw, ",") {
		if strings.TrimSpace(member) == "" {
			continue
		}
		k, v, found := strings.Cut(member, "=")
		k = strings.TrimSpace(k)
		v, err := url.PathUnescape(strings.TrimSpace(v))
		if !found || k == "" || err != nil {
			e.warn("", name, raw, "want key=value,key=value with percent-encoded values", "no attribute of it")
			return nil
		}
		attrs = append(attrs, attribute.String(k, v))
	}
	return attrs
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
			res, err := d.Detect(ctx)
			results <- result{i, res, err}
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
