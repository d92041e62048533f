//go:build unix

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every panel that is drawn is on a dashboard, and so stays the panel that a user sees.
func TestPanelsExist(t *testing.T) {
	all, err := readPanels("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		for _, g := range s.graphs {
			if _, err := all.find(g.panel); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
	}
	if _, err := all.find("gRPC server: Weather"); err == nil {
		t.Error("got no error for a panel that no dashboard has")
	}
}

func TestExpand(t *testing.T) {
	const expr = `rate(m{job=~"$service", instance=~"${instance}", rpc_method=~"$method"}[$__rate_interval])`
	const want = `rate(m{job=~"users/users-api", instance=~".*", rpc_method=~"` + methods + `"}[2s])`
	if got := expand(expr, "users-api"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0.00256, "s", "2.56 ms"}, {0.25, "s", "250 ms"}, {1.5, "s", "1.5 s"}, {0, "s", "0 s"}, {0.333333, "percentunit", "33.3 %"},
		{2090, "", "2090"}, {12.345, "", "12.3"}, {183.4, "reqps", "183/s"}, {0.5, "ops", "0.5/s"},
	} {
		if got := format(tt.value, tt.unit); got != tt.want {
			t.Errorf("%v in %q: got %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

// The picture is XML with a line and a name for each series that was more than nothing.
func TestPicture(t *testing.T) {
	at := func(values ...float64) (points []point) {
		for i, v := range values {
			points = append(points, point{time.Duration(i) * time.Second, v})
		}
		return points
	}
	rates := graph{title: "Calls, by code", unit: "reqps", series: []series{{"NOT_FOUND", at(0, 1, 2)}, {"OK", at(50, 60, 50)}, {"INTERNAL", at(0, 0, 0)}}}
	states := graph{title: "Circuit breakers", states: true, series: []series{{"users.v1.UserService", at(0, 0, 0)}}}
	for _, g := range []*graph{&rates, &states} {
		g.series = g.worth()
	}
	svg, err := picture([]graph{rates, states}, 12*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for decoder := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts = append(texts, strings.TrimSpace(string(text)))
		}
	}
	all := "\n" + strings.Join(texts, "\n") + "\n"
	for _, want := range []string{"Calls, by code", "OK\nNOT_FOUND", "60/s", "12 s", "Circuit breakers", "users.v1.UserService", "closed", "half-open", "open"} {
		if !strings.Contains(all, "\n"+want+"\n") {
			t.Errorf("the picture has the texts %q, want %q among them", texts, want)
		}
	}
	if strings.Contains(all, "INTERNAL") {
		t.Errorf("the picture has the texts %q, want none of what never was", texts)
	}
	if !strings.Contains(string(svg), "sans-serif") {
		t.Error("the picture needs a font that not every machine has")
	}
}

// The page that is committed tells of every scenario, shows pictures that are there and are not large, and all of them.
func TestCommittedPage(t *testing.T) {
	const docs = "../../../docs"
	page, err := os.ReadFile(filepath.Join(docs, "picture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if !strings.Contains(string(page), "\n### "+s.name+"\n\n"+s.about+"\n") {
			t.Errorf("docs/picture.md does not tell of %s as it is; run make figures", s.name)
		}
	}
	shown := map[string]bool{}
	for _, link := range regexp.MustCompile(`\]\((images/[^)]+)\)`).FindAllStringSubmatch(string(page), -1) {
		shown[link[1]] = true
	}
	files, err := filepath.Glob(filepath.Join(docs, "images/*"))
	if err != nil || len(files) < len(scenarios) {
		t.Fatalf("got pictures %q and %v, want one for each scenario at least", files, err)
	}
	for _, file := range files {
		name := "images/" + filepath.Base(file)
		if !shown[name] {
			t.Errorf("docs/picture.md does not show %s", name)
		}
		delete(shown, name)
		if info, err := os.Stat(file); err != nil || info.Size() == 0 || info.Size() > 200<<10 {
			t.Errorf("%s: got %v and %v, want a file of at most 200 KB", name, info, err)
		}
	}
	for name := range shown {
		t.Errorf("docs/picture.md shows %s, which is not there", name)
	}
}
