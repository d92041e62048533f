//go:build unix

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// graph is a panel with what it showed over a run.
type graph struct {
	title, unit string
	states      bool // a timeline of the states of breakers
	series      []series
}

type series struct {
	name   string
	points []point
}

// point is a value at a time of the run.
type point struct {
	at    time.Duration
	value float64
}

const (
	columns     = 2
	graphWidth  = 15 * vg.Centimeter
	graphHeight = 6.6 * vg.Centimeter
)

var (
	ink  = color.RGBA{0x33, 0x37, 0x45, 0xff}
	dim  = color.RGBA{0x8a, 0x90, 0xa2, 0xff}
	grid = color.RGBA{0xe6, 0xe8, 0xef, 0xff}
)

// byName are the colours of what has the same in each picture; the others get those of colours, which can be told apart with
// any eyes (Okabe and Ito).
var (
	byName = map[string]color.Color{
		"OK": color.RGBA{0x00, 0x9e, 0x73, 0xff}, "UNAVAILABLE": color.RGBA{0xd5, 0x5e, 0x00, 0xff},
		"DEADLINE_EXCEEDED": color.RGBA{0xcc, 0x79, 0xa7, 0xff}, "INTERNAL": color.RGBA{0x99, 0x00, 0x2e, 0xff},
		"RESOURCE_EXHAUSTED": color.RGBA{0xe6, 0x9f, 0x00, 0xff}, "NOT_FOUND": color.RGBA{0x56, 0xb4, 0xe9, 0xff},
		"INVALID_ARGUMENT": color.RGBA{0x00, 0x72, 0xb2, 0xff}, "p50": color.RGBA{0x56, 0xb4, 0xe9, 0xff},
		"p95": color.RGBA{0x00, 0x72, 0xb2, 0xff}, "p99": color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	}
	colours = []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
		color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
		color.RGBA{0x6a, 0x3d, 0x9a, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff}, color.RGBA{0x99, 0x99, 0x99, 0xff},
	}
)

// picture returns the graphs, two in a row, as an SVG picture of a run of this length.
func picture(graphs []graph, lasts time.Duration) ([]byte, error) {
	rows := (len(graphs) + columns - 1) / columns
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, columns)
	}
	for i, g := range graphs {
		p, err := g.plot(lasts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.title, err)
		}
		plots[i/columns][i%columns] = p
	}
	canvas := vgsvg.New(columns*graphWidth, font.Length(rows)*graphHeight)
	all := draw.New(canvas)
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Centimeter, PadY: 0.7 * vg.Centimeter,
		PadTop: 0.4 * vg.Centimeter, PadBottom: 0.3 * vg.Centimeter, PadLeft: 0.4 * vg.Centimeter, PadRight: 0.5 * vg.Centimeter}
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	for i, row := range plot.Align(plots, tiles, all) {
		for j, c := range row {
			if plots[i][j] != nil {
				plots[i][j].Draw(c)
			}
		}
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	// Not every machine has the font that the texts were measured with.
	return bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), err
}

func (g graph) plot(lasts time.Duration) (*plot.Plot, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = g.title
	p.Title.Padding = 5
	p.Title.TextStyle.Font.Size, p.Title.TextStyle.Font.Weight, p.Title.TextStyle.Color = 12, 3, ink
	p.X.Min, p.X.Max, p.Y.Min = 0, lasts.Seconds(), 0
	p.X.Tick.Marker = plot.TickerFunc(func(_, most float64) (ticks []plot.Tick) {
		for s := 0.0; s <= most; s += 6 {
			ticks = append(ticks, plot.Tick{Value: s, Label: fmt.Sprintf("%.0f s", s)})
		}
		return ticks
	})
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Width, axis.Tick.LineStyle.Width, axis.Padding = 0, 0, 4
		axis.Tick.Label.Font.Size, axis.Tick.Label.Color = 9, dim
	}
	lines := plotter.NewGrid()
	lines.Vertical.Width, lines.Horizontal.Color, lines.Horizontal.Width = 0, grid, 0.8
	p.Add(lines)

	names := legend{text: p.X.Tick.Label}
	names.text.Color = ink
	most := 0.0
	if g.states {
		most = 2
	}
	free := slices.DeleteFunc(slices.Clone(colours), func(c color.Color) bool {
		return slices.ContainsFunc(g.series, func(s series) bool { return byName[s.name] == c })
	})
	for i, s := range g.series {
		var xy plotter.XYs
		for _, at := range s.points {
			if !math.IsNaN(at.value) {
				xy = append(xy, plotter.XY{X: at.at.Seconds(), Y: at.value})
				most = max(most, at.value)
			}
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		line.Width = 1.8
		if line.Color = byName[s.name]; line.Color == nil {
			line.Color = free[i%len(free)]
		}
		if g.states {
			line.StepStyle = plotter.PostStep
		}
		p.Add(line)
		names.add(s.name, line.Color)
	}
	p.Add(&names)
	p.Y.Max = max(most, 1e-3) * 1.4 // the legend stands above what is drawn
	p.Y.Tick.Marker = plot.TickerFunc(func(least, _ float64) []plot.Tick { return g.ticks(least, max(most, 1e-3)) })
	return p, nil
}

// legend is the names of the series in their colours, one beside the other, in as many lines as that takes. It is a
// [plot.Plotter].
type legend struct {
	text  text.Style
	items []legendItem
}

type legendItem struct {
	name   string
	colour color.Color
}

func (l *legend) add(name string, colour color.Color) {
	l.items = append(l.items, legendItem{name, colour})
}

// Plot implements plot.Plotter.
func (l *legend) Plot(c draw.Canvas, _ *plot.Plot) {
	const sample, gap, line = 10, 12, 12
	x, y := c.Min.X, c.Max.Y-line/2
	for _, item := range l.items {
		width := sample + 3 + l.text.Width(item.name)
		if x > c.Min.X && x+width > c.Max.X {
			x, y = c.Min.X, y-line
		}
		c.StrokeLine2(draw.LineStyle{Color: item.colour, Width: 2.2}, x, y, x+sample, y)
		style := l.text
		style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
		c.FillText(style, vg.Point{X: x + sample + 3, Y: y}, item.name)
		x += width + gap
	}
}

func (g graph) ticks(least, most float64) []plot.Tick {
	if g.states {
		return []plot.Tick{{Value: 0, Label: "closed"}, {Value: 1, Label: "half-open"}, {Value: 2, Label: "open"}}
	}
	step := math.Pow10(int(math.Floor(math.Log10(most))))
	switch times := most / step; {
	case times < 1.5:
		step /= 4
	case times < 3:
		step /= 2
	case times > 6:
		step *= 2
	}
	var ticks []plot.Tick
	for n := math.Ceil(least / step); n*step <= most*1.0001; n++ {
		ticks = append(ticks, plot.Tick{Value: n * step, Label: format(n*step, g.unit)})
	}
	return ticks
}

// format returns a value with its unit, as Grafana names it.
func format(v float64, unit string) string {
	number := func(v float64) string {
		if v == math.Trunc(v) || v >= 100 {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	switch {
	case unit == "s" && v != 0 && v < 1:
		return number(v*1e3) + " ms"
	case unit == "s":
		return number(v) + " s"
	case unit == "percentunit":
		return number(v*100) + " %"
	case strings.HasSuffix(unit, "ps"): // reqps, ops
		return number(v) + "/s"
	}
	return number(v)
}

// worth returns the series that are worth a line, the largest first: those that ever were more than nothing, or are states.
func (g graph) worth() []series {
	sum := func(s series) (sum float64) {
		for _, p := range s.points {
			if !math.IsNaN(p.value) {
				sum += p.value
			}
		}
		return sum
	}
	kept := slices.DeleteFunc(slices.Clone(g.series), func(s series) bool { return !g.states && sum(s) == 0 })
	slices.SortStableFunc(kept, func(a, b series) int { return cmp.Compare(sum(b), sum(a)) })
	return kept
}
