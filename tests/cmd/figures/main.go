//go:build unix

// Figures runs the scenarios of users-load, each on a stack of its own with a real Jaeger and a real Prometheus, and draws what
// panels of the dashboards show of them. With -write it writes docs/picture.md and the pictures that are in it.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/rpcscope/rpcscope/tests/internal/native"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds the default action
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root := flag.String("root", "..", "the repository's `folder`")
	bin := flag.String("bin", "../.bin", "the `folder` with the example programs")
	writes := flag.Bool("write", false, "write docs/picture.md and docs/images")
	only := flag.String("only", "", "run this `scenario` alone; it is not written")
	lasts := flag.Duration("duration", 24*time.Second, "how long each scenario runs")
	rate := flag.Float64("rate", 50, "calls a second")
	out := flag.String("out", filepath.Join(os.TempDir(), "rpcscope-figures"), "`folder` for the pictures that are not written into docs")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("want no arguments, got %q", flag.Args())
	}
	if *lasts < 6*time.Second {
		return fmt.Errorf("-duration %v, want 6s or more: a service that is away now and then is so every 6s", *lasts)
	}
	if *writes && *only != "" {
		return fmt.Errorf("-write and -only %s, want one of them", *only)
	}
	wanted := scenarios
	if *only != "" {
		wanted = slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return s.name != *only })
	}
	if len(wanted) == 0 {
		var names []string
		for _, s := range scenarios {
			names = append(names, s.name)
		}
		return fmt.Errorf("-only %q, want one of %s", *only, strings.Join(names, ", "))
	}
	l := lab{root: *root, bin: *bin, lasts: *lasts, rate: *rate, log: os.Stderr}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	var results []result
	for _, s := range wanted {
		r, err := l.run(ctx, s)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		fmt.Printf("%s\n\n%s\n\n", strings.Join(r.Facts, "\n"), r.Output)
		results = append(results, r)
	}
	images := *out
	if *writes {
		images = filepath.Join(*root, "docs/images")
	}
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	for _, r := range results {
		if err := os.WriteFile(filepath.Join(images, "load-"+r.name+".svg"), r.svg, 0o644); err != nil {
			return err
		}
	}
	if !*writes {
		fmt.Println("the pictures are in", images)
		return nil
	}
	text, err := l.page(results)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*root, "docs/picture.md"), []byte(text), 0o644)
}

// prepare builds the back ends, which it finds built mostly, and reads the dashboards.
func (l *lab) prepare(ctx context.Context) error {
	bin, err := filepath.Abs(l.bin)
	if err != nil {
		return err
	}
	l.bin = bin
	cache, err := native.CacheDir()
	if err != nil {
		return err
	}
	if l.backends, err = native.Build(ctx, l.root, cache, native.Backends, l.log); err != nil {
		return err
	}
	l.panels, err = readPanels(l.root)
	return err
}

//go:embed picture.md.tmpl
var pageText string

var pageTemplate = template.Must(template.New("picture.md").Parse(pageText))

// page is docs/picture.md.
func (l *lab) page(results []result) (string, error) {
	var b strings.Builder
	err := pageTemplate.Execute(&b, map[string]any{
		"Machine": fmt.Sprintf("%s, %s/%s, %d cores", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		"Lasts":   l.lasts, "Rate": l.rate, "Every": every, "RateInterval": rateInterval,
		"Scenarios": results,
	})
	return b.String(), err
}
