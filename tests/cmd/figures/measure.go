//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/rpcscope/rpcscope/tests/internal/native"
)

const (
	namespace    = "users" // of the services, and part of the label job
	methods      = `(users\\.v1\\.UserService|audit\\.v1\\.AuditService)/.+|_OTHER`
	every        = 500 * time.Millisecond // between exports of metrics, and between the points of a graph
	rateInterval = "2s"                   // over which rates are, instead of the minute that the usual exports want
)

// lab is where scenarios run: each on a stack of its own, whose Jaeger and Prometheus are real.
type lab struct {
	root     string
	bin      string // the example programs
	backends native.Binaries
	panels   panels
	lasts    time.Duration
	rate     float64
	log      io.Writer
}

// result is what came of a scenario.
type result struct {
	scenario
	Facts  []string
	Output string // of users-load
	svg    []byte
}

// Name and About are for the template.
func (r result) Name() string  { return r.name }
func (r result) About() string { return r.about }

// run runs a scenario, draws its panels, and tells its facts.
func (l lab) run(ctx context.Context, s scenario) (r result, err error) {
	dir, err := os.MkdirTemp("", "rpcscope-figures-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ports, err := native.FreePorts()
	if err != nil {
		return r, err
	}
	stack, err := native.Start(ctx, native.Config{Root: l.root, Dir: dir, Backends: l.backends, Examples: l.bin, Ports: ports, Every: every})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	client, err := api.NewClient(api.Config{Address: ports.URL(native.PrometheusHTTP)})
	if err != nil {
		return r, err
	}
	defer client.(api.CloseIdler).CloseIdleConnections()
	from := time.Now()
	r.scenario = s
	if r.Output, err = l.load(ctx, ports, s.name); err != nil {
		return r, err
	}
	run := &recording{api: prometheus.NewAPI(client), lasts: l.lasts}
	if run.end, err = run.arrived(ctx, time.Now()); err != nil {
		return r, err
	}
	if run.begin, err = run.firstCall(ctx, from); err != nil {
		return r, err
	}
	var graphs []graph
	for _, g := range s.graphs {
		drawn, err := run.graph(ctx, l.panels, g)
		if err != nil {
			return r, err
		}
		graphs = append(graphs, drawn)
	}
	if r.svg, err = picture(graphs, l.lasts); err != nil {
		return r, err
	}
	for _, f := range s.facts {
		text, err := run.tell(ctx, f)
		if err != nil {
			return r, err
		}
		r.Facts = append(r.Facts, text)
	}
	return r, nil
}

// load makes the calls of a scenario, and returns what users-load says of them.
func (l lab) load(ctx context.Context, ports native.Ports, scenario string) (string, error) {
	args := []string{"-addr", strings.TrimPrefix(ports.URL(native.UsersAPI), "http://"), "-duration", l.lasts.String(),
		"-rate", strconv.FormatFloat(l.rate, 'f', -1, 64), "-tolerate", "1", scenario}
	load := exec.CommandContext(ctx, filepath.Join(l.bin, "users-load"), args...)
	load.Env = []string{
		"OTEL_RESOURCE_ATTRIBUTES=service.namespace=" + namespace, "OTEL_EXPORTER_OTLP_ENDPOINT=" + ports.URL(native.OTLPGRPC),
		"OTEL_LOGS_EXPORTER=none", "OTEL_METRIC_EXPORT_INTERVAL=" + strconv.FormatInt(every.Milliseconds(), 10),
	}
	var out bytes.Buffer
	load.Stdout, load.Stderr = &out, l.log
	err := load.Run()
	if err != nil {
		err = fmt.Errorf("users-load %s: %w", scenario, err)
	}
	return strings.TrimSpace(out.String()), err
}

// recording is what Prometheus has of a run.
type recording struct {
	api   prometheus.API
	begin time.Time
	lasts time.Duration
	end   time.Time // when all of it had arrived
}

// arrived waits until the users service has reported what it did until ended, and users-load with it, which it did before.
func (r *recording) arrived(ctx context.Context, ended time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		got, _, _, err := r.api.Query(ctx, "max(timestamp("+served+"}))", time.Now())
		if err != nil {
			return ended, err
		}
		if v, ok := got.(model.Vector); ok && len(v) == 1 && float64(v[0].Value) > float64(ended.UnixMilli())/1e3 {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return ended, fmt.Errorf("the users service reports no more: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// firstCall returns when the first call of the run was begun: users sign up before it.
func (r *recording) firstCall(ctx context.Context, from time.Time) (time.Time, error) {
	got, err := r.between(ctx, "sum("+called+"})", from, time.Now())
	if err != nil || len(got) == 0 || len(got[0].Values) == 0 {
		return time.Time{}, fmt.Errorf("prometheus knows of no call of users-load: %v, %w", got, err)
	}
	return got[0].Values[0].Timestamp.Time().Add(-every), nil
}

func (r *recording) between(ctx context.Context, expr string, from, to time.Time) (model.Matrix, error) {
	got, warnings, _, err := r.api.QueryRange(ctx, expr, prometheus.Range{Start: from, End: to, Step: every})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("%s: warnings %q", expr, warnings)
	}
	return got.(model.Matrix), nil
}

// graph is what a panel shows of the run.
func (r *recording) graph(ctx context.Context, all panels, wanted graphed) (graph, error) {
	p, err := all.find(wanted.panel)
	if err != nil {
		return graph{}, err
	}
	g := graph{title: wanted.panel + " — " + wanted.service, unit: p.FieldConfig.Defaults.Unit, states: p.Type == "state-timeline"}
	for _, t := range p.Targets {
		got, err := r.between(ctx, expand(t.Expr, wanted.service), r.begin, r.begin.Add(r.lasts))
		if err != nil {
			return graph{}, fmt.Errorf("panel %q: %w", wanted.panel, err)
		}
		for _, stream := range got {
			s := series{name: nameOf(t.LegendFormat, stream.Metric)}
			for _, v := range stream.Values {
				s.points = append(s.points, point{v.Timestamp.Time().Sub(r.begin), float64(v.Value)})
			}
			g.series = append(g.series, s)
		}
	}
	if g.series = g.worth(); len(g.series) == 0 {
		return graph{}, fmt.Errorf("panel %q shows nothing of %s", wanted.panel, wanted.service)
	}
	return g, nil
}

// nameOf is the name of a series: the panel's, without what the title of the graph says.
func nameOf(format string, metric model.Metric) string {
	name := label.ReplaceAllStringFunc(format, func(ref string) string {
		switch name := label.FindStringSubmatch(ref)[1]; name {
		case "service_name", "instance", "server_address":
			return ""
		case "rpc_method":
			_, method, _ := strings.Cut(string(metric["rpc_method"]), "/")
			if method == "" {
				return string(metric["rpc_method"])
			}
			return method
		default:
			return string(metric[model.LabelName(name)])
		}
	})
	return strings.Trim(strings.Join(strings.Fields(name), " "), "→ ")
}

// tell is a fact of the run; an error if it is none.
func (r *recording) tell(ctx context.Context, f fact) (string, error) {
	var texts []any
	for _, v := range f.values {
		expr := strings.ReplaceAll(v.expr, "@run", r.lasts.String())
		got, _, _, err := r.api.Query(ctx, expr, r.end)
		if err != nil {
			return "", fmt.Errorf("%s: %w", expr, err)
		}
		vector, ok := got.(model.Vector)
		if !ok || len(vector) != 1 {
			return "", fmt.Errorf("%q: %s is %v, want one number", f.text, expr, got)
		}
		n := float64(vector[0].Value)
		if !(n >= v.least && n <= v.most) {
			return "", fmt.Errorf("%q: %s is %v, want %v to %v", f.text, expr, n, v.least, v.most)
		}
		texts = append(texts, format(n, v.unit))
	}
	return fmt.Sprintf(f.text, texts...), nil
}
