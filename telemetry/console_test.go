package telemetry

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s, -want +got:\n%s", path, diff)
	}
}

// traceBuilder makes the spans of one trace, with times in microseconds.
type traceBuilder struct{ spans tracetest.SpanStubs }

var traceStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (b *traceBuilder) add(service, name string, kind trace.SpanKind, parent, from, to int, status sdktrace.Status, attrs ...attribute.KeyValue) int {
	id := len(b.spans) + 1
	sc := func(id int) trace.SpanContext {
		cfg := trace.SpanContextConfig{TraceID: trace.TraceID{0: 0x5b, 15: 1}, TraceFlags: trace.FlagsSampled}
		if id > 0 {
			cfg.SpanID = trace.SpanID{7: byte(id), 6: byte(id >> 8)}
		}
		return trace.NewSpanContext(cfg)
	}
	b.spans = append(b.spans, tracetest.SpanStub{
		Name: name, SpanContext: sc(id), Parent: sc(parent), SpanKind: kind, Status: status, Attributes: attrs,
		StartTime: traceStart.Add(time.Duration(from) * time.Microsecond), EndTime: traceStart.Add(time.Duration(to) * time.Microsecond),
		Resource: resource.NewSchemaless(semconv.ServiceName(service)),
	})
	return id
}

// messages adds the events of a stream's messages.
func (b *traceBuilder) messages(span, sent, received int) {
	event := func(kind string, id int) {
		b.spans[span-1].Events = append(b.spans[span-1].Events, sdktrace.Event{Name: "rpc.message", Attributes: []attribute.KeyValue{
			attribute.String("rpc.message.type", kind), attribute.Int("rpc.message.id", id),
		}})
	}
	for i := max(0, sent-128); i < sent; i++ {
		event("SENT", i+1)
	}
	for i := max(0, received-128); i < received; i++ { // a span keeps the last events only
		event("RECEIVED", i+1)
	}
}

func (b *traceBuilder) trace() *consoleTrace { return &consoleTrace{spans: b.spans.Snapshots()} }

var (
	code    = func(c string) attribute.KeyValue { return semconv.RPCResponseStatusCode(c) }
	failed  = func(text string) sdktrace.Status { return sdktrace.Status{Code: otelcodes.Error, Description: text} }
	fine    = sdktrace.Status{}
	request = attribute.String("request.id", "0192f0c1-req")
)

func TestConsoleGolden(t *testing.T) {
	get := "users.v1.UserService/GetUser"
	tests := map[string]func() *consoleTrace{
		"unary": func() *consoleTrace {
			var b traceBuilder
			web := b.add("web", "GET /users/{id}", trace.SpanKindServer, 0, 0, 12_400, fine, semconv.HTTPResponseStatusCode(200), request)
			client := b.add("web", get, trace.SpanKindClient, web, 700, 11_900, fine, code("OK"))
			server := b.add("users", get, trace.SpanKindServer, client, 2_000, 11_000, fine, code("OK"))
			b.add("users", "SELECT users", trace.SpanKindClient, server, 5_000, 9_000, fine, semconv.DBSystemNameSQLite,
				semconv.DBQueryText("SELECT id, name, email, created_at\n\tFROM users\n\tWHERE id = ? AND deleted_at IS NULL ORDER BY id LIMIT 1"))
			return b.trace()
		},
		"errors": func() *consoleTrace {
			var b traceBuilder
			web := b.add("web", "GET /users/{id}", trace.SpanKindServer, 0, 0, 2_000_000, failed(""), semconv.HTTPResponseStatusCode(500), request)
			c1 := b.add("web", get, trace.SpanKindClient, web, 100, 40_000, failed("no such user"), code("NOT_FOUND"), attribute.String("error.domain", "users.example.com"), attribute.String("error.reason", "USER_NOT_FOUND"))
			b.add("users", get, trace.SpanKindServer, c1, 1_000, 39_000, fine, code("NOT_FOUND"), attribute.String("error.domain", "users.example.com"), attribute.String("error.reason", "USER_NOT_FOUND"))
			c2 := b.add("web", get, trace.SpanKindClient, web, 50_000, 1_999_000, failed("INTERNAL"), code("INTERNAL"))
			b.add("users", get, trace.SpanKindServer, c2, 51_000, 1_998_000, failed("internal error"), code("INTERNAL"))
			b.spans[4].Events = []sdktrace.Event{{Name: "exception", Attributes: []attribute.KeyValue{semconv.ExceptionMessage("panic: runtime error:\n\x1b[31mindex out of range")}}}
			b.add("users", "sql.begin", trace.SpanKindClient, 5, 60_000, 60_900, failed("database is locked"))
			return b.trace()
		},
		"folded": func() *consoleTrace {
			var b traceBuilder
			root := b.add("users", "users.v1.UserService/ImportUsers", trace.SpanKindServer, 0, 0, 61_000_000, fine, code("OK"), request)
			for i := range 100 {
				b.add("users", "INSERT users", trace.SpanKindClient, root, 1000*i, 1000*i+900, fine)
			}
			b.add("users", "INSERT users", trace.SpanKindClient, root, 100_000, 101_000, failed("UNIQUE constraint failed"))
			b.add("users", "INSERT users", trace.SpanKindClient, root, 102_000, 103_000, fine)
			return b.trace()
		},
		"incomplete": func() *consoleTrace {
			var b traceBuilder
			b.add("users", get, trace.SpanKindServer, 999, 10, 700, fine, code("OK"))
			b.add("users", strings.Repeat("very long name ", 10), trace.SpanKindInternal, 1, 20, 21, fine)
			c := b.trace()
			c.open, c.omitted = 2, 7
			return c
		},
		"streams": func() *consoleTrace { // as WithAttempts and WithMessageEvents record them
			var b traceBuilder
			list, chat := "shop.catalogue.v1.CatalogueService/ListProductsOfCategory", "users.v1.UserService/Chat"
			root := b.add("web", "GET /products", trace.SpanKindServer, 0, 0, 90_000, failed(""), semconv.HTTPResponseStatusCode(502), request)
			call := b.add("web", list, trace.SpanKindClient, root, 1_000, 60_000, fine, code("OK"))
			for i, end := range []int{9_000, 59_000} {
				attempt := b.add("web", "Attempt."+list, trace.SpanKindInternal, call, 1_000+10_000*i, end, fine, code("OK"), attribute.Int("previous-rpc-attempts", i))
				server := b.add("shop", list, trace.SpanKindServer, attempt, 2_000+10_000*i, end-1_000, fine, code("OK"))
				if i == 0 {
					b.spans[attempt-1].Status, b.spans[attempt-1].Attributes = failed("try again"), []attribute.KeyValue{code("UNAVAILABLE"), attribute.Int("previous-rpc-attempts", 0)}
					b.spans[server-1].Status, b.spans[server-1].Attributes = failed("rpc error: code = Unavailable desc = try again"), []attribute.KeyValue{code("UNAVAILABLE")}
					continue
				}
				b.messages(attempt, 1, 250)
				b.messages(server, 250, 1)
			}
			client := b.add("web", chat, trace.SpanKindClient, root, 61_000, 89_000, failed("context canceled"), code("CANCELLED"))
			b.messages(client, 3, 2)
			server := b.add("users", chat, trace.SpanKindServer, client, 62_000, 89_500, fine, code("CANCELLED"))
			b.messages(server, 1, 1) // as few as a unary call has
			return b.trace()
		},
		"nested": func() *consoleTrace { // a call and a query for each of many, with one failure among them
			var b traceBuilder
			root := b.add("web", "GET /orders", trace.SpanKindServer, 0, 0, 50_000, fine, semconv.HTTPResponseStatusCode(200), request)
			for i := range 40 {
				status, c := fine, code("OK")
				if i == 20 {
					status, c = failed("Unavailable: no connection"), code("UNAVAILABLE")
				}
				client := b.add("web", get, trace.SpanKindClient, root, 1_000*i, 1_000*i+900, status, c)
				server := b.add("users", get, trace.SpanKindServer, client, 1_000*i+100, 1_000*i+800, status, c)
				for j := range 1 + i%2 { // how many does not make a difference
					b.add("users", "SELECT users", trace.SpanKindClient, server, 1_000*i+200+j, 1_000*i+700+j, fine)
				}
				b.add("web", "render row", trace.SpanKindInternal, root, 1_000*i+900, 1_000*i+950, fine)
			}
			for range 4 { // one more than are shown: no line is saved
				b.add("web", "write", trace.SpanKindInternal, root, 45_000, 45_010, fine)
			}
			return b.trace()
		},
		"deep": func() *consoleTrace {
			var b traceBuilder
			parent := 0
			for i := range 20 {
				parent = b.add("users", fmt.Sprint("level ", i), trace.SpanKindInternal, parent, 10*i, 400-10*i, fine)
			}
			return b.trace()
		},
		"long": func() *consoleTrace { // nothing looks the same; the errors are what matters
			var b traceBuilder
			root := b.add("users", "job", trace.SpanKindInternal, 0, 0, 1_000_000, fine)
			for i := range 150 {
				step := b.add("users", fmt.Sprint("step ", i), trace.SpanKindInternal, root, 1_000*i, 1_000*i+900, fine)
				if i%60 == 59 {
					b.add("users", fmt.Sprint("part of ", i), trace.SpanKindInternal, step, 1_000*i, 1_000*i+100, failed("out of paper"))
				}
			}
			return b.trace()
		},
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			golden(t, "console_"+name+".txt", renderTrace(build(), false))
		})
	}
	t.Run("colour", func(t *testing.T) { golden(t, "console_colour.txt", renderTrace(tests["errors"](), true)) })
}

// writes records each Write by itself.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(b))
	return len(b), nil
}

// Two services of one process share a Console: one tree, in one Write, although
// many traces run at once.
func TestConsoleSharedByHandles(t *testing.T) {
	var w writes
	console := NewConsole(&w)
	service := func(name string) *Telemetry {
		tel, err := Setup(t.Context(), WithoutGlobals(), quiet(nil).Option(), WithServiceName(name), WithSpanProcessor(console), WithRuntimeMetrics(false))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tel.Close() })
		return tel
	}
	web, users := service("web").TracerProvider().Tracer(""), service("users").TracerProvider().Tracer("")
	const traces = 200
	var wg sync.WaitGroup
	for i := range traces {
		wg.Go(func() {
			ctx, root := web.Start(t.Context(), fmt.Sprint("page ", i))
			ctx, call := web.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindClient))
			_, handler := users.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindServer))
			call.End()
			root.End()
			handler.End() // later than its caller, as happens
		})
	}
	wg.Wait()
	if len(w.all) != traces {
		t.Fatalf("got %d writes, want %d", len(w.all), traces)
	}
	for _, text := range w.all {
		if strings.Count(text, "trace ") != 1 || strings.Count(text, "\n") != 5 || !strings.Contains(text, "└─ web  page ") || !strings.Contains(text, "      └─ users  call ") {
			t.Fatalf("got:\n%s", text)
		}
	}
	if len(console.pending) != 0 {
		t.Errorf("%d traces are still kept", len(console.pending))
	}
}

// What is kept of traces that do not end is bounded.
func TestConsoleIsBounded(t *testing.T) {
	var w writes
	console := NewConsole(&w)
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(console))
	tracer := tp.Tracer("")
	for range 3 * consoleTraces {
		ctx, root := tracer.Start(t.Context(), "never ends")
		_, child := tracer.Start(ctx, "child")
		child.End()
		_ = root
	}
	if n := len(console.pending); n != consoleTraces {
		t.Errorf("%d traces are kept, want %d", n, consoleTraces)
	}
	if n := len(console.order); n > 2*consoleTraces+1 {
		t.Errorf("%d trace ids are kept", n)
	}
	if len(w.all) != 2*consoleTraces || !strings.Contains(w.all[0], "1 span still open") {
		t.Errorf("%d traces were printed, the first as:\n%s", len(w.all), w.all[0])
	}
	ctx, root := tracer.Start(t.Context(), "long")
	for range consoleSpans + 10 {
		_, child := tracer.Start(ctx, "child")
		child.End()
	}
	root.End()
	if last := w.all[len(w.all)-1]; !strings.Contains(last, fmt.Sprint(consoleSpans+11, " spans")) || !strings.Contains(last, "11 spans not shown") {
		t.Errorf("printed:\n%s", last)
	}
	before := len(w.all)
	if err := tp.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if got := len(w.all) - before; got != consoleTraces-1 { // all but the one that made room for "long"
		t.Errorf("Shutdown printed %d unfinished traces, want %d", got, consoleTraces-1)
	}
}

// A terminal that is slow, or stopped, holds up the goroutine that prints, and no other.
func TestConsoleSlowTerminal(t *testing.T) {
	printing, release := make(chan struct{}), make(chan struct{})
	console := NewConsole(writerFunc(func(b []byte) (int, error) {
		close(printing)
		<-release
		return len(b), nil
	}))
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(console)).Tracer("")
	_, first := tracer.Start(t.Context(), "first")
	done := make(chan struct{})
	go func() { defer close(done); first.End() }()
	<-printing
	others := make(chan struct{})
	go func() {
		defer close(others)
		ctx, second := tracer.Start(t.Context(), "second")
		_, third := tracer.Start(ctx, "third")
		third.End()
		_ = second // prints nothing yet
	}()
	select {
	case <-others:
	case <-time.After(10 * time.Second):
		t.Error("spans wait for the terminal")
	}
	close(release)
	<-done
	<-others
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// A writer that fails harms nobody.
func TestConsoleWriterFails(t *testing.T) {
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(NewConsole(errWriter{})))
	_, span := tp.Tracer("").Start(t.Context(), "s")
	span.End()
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

type errWriter struct{}

func (errWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// What turns exporters off leaves the trees; what turns traces off takes them, too, and
// says so; and the exporter "console" prints no trace a second time.
func TestConsoleBesideExporters(t *testing.T) { // rule 31
	const warning = "WithConsole: it prints nothing beside WithoutTraces, which turns the traces off; OTEL_TRACES_EXPORTER=none stops their export alone; using no traces"
	nobody := func(*os.File) Option { return nil }
	stdout := func(f *os.File) Option { return WithConsole(f) }
	tests := []struct {
		name    string
		env     Env
		console func(*os.File) Option
		opts    []Option
		traces  int
		warning string
	}{
		{name: "no exporter", console: stdout, traces: 1},
		{name: "no exporter and nobody", console: nobody},
		{name: "exporter", env: Env{"OTEL_TRACES_EXPORTER": "console"}, console: nobody, traces: 1},
		{name: "exporter and option", env: Env{"OTEL_TRACES_EXPORTER": "console"}, console: stdout, traces: 1},
		{name: "exporter and default of option", env: Env{"OTEL_TRACES_EXPORTER": "console"}, console: func(*os.File) Option { return WithConsole(nil) }, traces: 1},
		{name: "exporter and elsewhere", env: Env{"OTEL_TRACES_EXPORTER": "console"}, console: func(*os.File) Option { return WithConsole(io.Discard) }, traces: 1},
		{name: "without traces", env: Env{"OTEL_TRACES_EXPORTER": ""}, console: stdout, opts: []Option{WithoutTraces()}, warning: warning},
		{name: "without traces and console", env: Env{"OTEL_TRACES_EXPORTER": ""}, console: nobody, opts: []Option{WithoutTraces()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			defer func(f *os.File) { os.Stdout = f }(os.Stdout)
			os.Stdout = file
			opts := append(tt.opts, WithoutGlobals(), quiet(tt.env).Option(), WithDiagnostics(slog.DiscardHandler), tt.console(file))
			tel, err := Setup(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			_, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "work")
			span.End()
			if err := tel.Close(); err != nil {
				t.Error(err)
			}
			printed, err := os.ReadFile(file.Name())
			if n := strings.Count(string(printed), "trace "); err != nil || n != tt.traces {
				t.Errorf("printed the trace %d times, want %d (%v):\n%s", n, tt.traces, err, printed)
			}
			var want string
			if tt.warning != "" {
				want = "[" + tt.warning + "]"
			}
			if got := strings.TrimPrefix(fmt.Sprint(tel.Warnings()), "[]"); got != want {
				t.Errorf("warnings %s, want %s", got, want)
			}
		})
	}
}

func TestConsoleColourOnTerminalsOnly(t *testing.T) {
	if NewConsole(&bytes.Buffer{}).colour {
		t.Error("colours in a buffer")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if NewConsole(file).colour {
		t.Error("colours in a file")
	}
	// os.DevNull is a character device, as a terminal is.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !NewConsole(device).colour {
		t.Error("no colours on a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if NewConsole(device).colour {
		t.Error("colours in spite of NO_COLOR")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if NewConsole(device).colour {
		t.Error("colours on a dumb terminal")
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00µs", 1500: "1.50µs", 999_400: "999µs", 12_340_000: "12.3ms", 1_230_000_000: "1.23s", 45_600_000_000: "45.6s", 123 * time.Second: "2m3s",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%d) = %s, want %s", d, got, want)
		}
	}
}
