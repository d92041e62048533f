package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// colours of the set-ups, which can be told apart with any eyes (Okabe and Ito).
var colours = []string{"#000000", "#d55e00", "#cc79a7", "#e69f00", "#0072b2", "#009e73"}

const (
	plotWidth, panelHeight = 860, 150
	marginLeft, marginTop  = 70, 62
	panelGap               = 40
	bucket                 = 500 * time.Millisecond
)

// panel is a graph over the time of the run.
type panel struct {
	title string
	log   bool // of the values, from least
	least float64
	value func(r *result, from, to time.Duration) (float64, bool)
}

var panels = []panel{
	{"p99 of the caller's calls, in ms, by when they were begun", true, 1, func(r *result, from, to time.Duration) (float64, bool) {
		s := r.summarize(from, to)
		return float64(s.p99.Microseconds()) / 1e3, s.p99 > 0
	}},
	{"calls that reached the server, per second", false, 0, func(r *result, from, to time.Duration) (float64, bool) {
		return float64(r.askedBy(to)-r.askedBy(from)) / (to - from).Seconds(), true
	}},
	{"goroutines of the caller", true, 1, func(r *result, from, to time.Duration) (float64, bool) {
		s := r.summarize(from, to)
		return float64(s.goroutines), s.goroutines > 0
	}},
}

// plot is the run as an SVG picture.
func plot(p plan, results []*result) string {
	var b strings.Builder
	total := marginTop + len(panels)*(panelHeight+panelGap) + 70
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", marginLeft+plotWidth+20, total)
	fmt.Fprintf(&b, `<title>What an outage does to callers and to the server</title>`+"\n"+`<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	for i := range results {
		x := marginLeft + i*148
		fmt.Fprintf(&b, `<line x1="%d" y1="18" x2="%d" y2="18" stroke="%s" stroke-width="3"/><text x="%d" y="22">%s</text>`+"\n", x, x+24, colours[i], x+30, setups()[i].name)
	}
	top := marginTop
	for _, panel := range panels {
		panel.draw(&b, p, results, top)
		top += panelHeight + panelGap
	}
	strip(&b, p, results, top)
	b.WriteString("</svg>\n")
	return b.String()
}

// across is where a time of the run is.
func (p plan) across(at time.Duration) float64 {
	return marginLeft + plotWidth*float64(at)/float64(p.lasts())
}

// background shows the phases.
func (p plan) background(b *strings.Builder, top, height int) {
	for n, phase := range p {
		from, to := p.window(n)
		fill := "#f4f4f4"
		if phase.State != good {
			fill = "#fbe3dd"
		}
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", p.across(from), top, p.across(to)-p.across(from)-1, height, fill)
	}
}

func (g *panel) draw(b *strings.Builder, p plan, results []*result, top int) {
	p.background(b, top, panelHeight)
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", marginLeft, top-8, g.title)
	lines := make([][][2]float64, len(results))
	most := 10.0
	for i, r := range results {
		for from := time.Duration(0); from < p.lasts(); from += bucket {
			if v, ok := g.value(r, from, from+bucket); ok {
				lines[i] = append(lines[i], [2]float64{p.across(from + bucket/2), v})
				most = max(most, v)
			}
		}
	}
	high := func(v float64) float64 { return v / (most * 1.05) }
	marks := []float64{0, math.Round(most/200) * 100, math.Round(most/100) * 100}
	if g.log {
		decades := math.Ceil(math.Log10(most))
		high = func(v float64) float64 { return math.Log10(max(v, g.least)) / decades }
		marks = nil
		for d := range int(decades) + 1 {
			marks = append(marks, math.Pow10(d))
		}
	}
	y := func(v float64) float64 { return float64(top+panelHeight) - panelHeight*high(v) }
	for _, mark := range slices.Compact(marks) {
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#cccccc"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n",
			marginLeft, y(mark), marginLeft+plotWidth, y(mark), marginLeft-6, y(mark)+4, mark)
	}
	for i, line := range lines {
		var points []string
		for _, at := range line {
			points = append(points, fmt.Sprintf("%.1f,%.1f", at[0], y(at[1])))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[i])
	}
}

// strip shows the state of the breaker, and the names and times of the phases.
func strip(b *strings.Builder, p plan, results []*result, top int) {
	const height = 16
	p.background(b, top, height)
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">state of the breaker: <tspan fill="#d55e00">open</tspan>, <tspan fill="#e69f00">half-open</tspan>, <tspan fill="#009e73">closed</tspan></text>`+"\n", marginLeft, top-8)
	fills := []string{"#009e73", "#e69f00", "#d55e00"}
	for _, r := range results {
		for _, s := range r.Samples {
			if s.Breaker >= 0 && s.At+tick <= p.lasts()+tick/2 {
				fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", p.across(s.At), top, p.across(tick)-marginLeft+0.5, height, fills[s.Breaker])
			}
		}
	}
	for n, phase := range p {
		from, to := p.window(n)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", (p.across(from)+p.across(to))/2, top+height+18, phase.Name)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f s</text>`+"\n", p.across(from), top+height+34, from.Seconds())
	}
}
