package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	barWidth  = 20 // cells of the duration bar
	nameWidth = 64 // widest tree, service and name
	textWidth = 72 // of a query or an error's text
	foldAfter = 3  // equal leaf spans shown before the rest is folded
)

// node is a span, or a fold of several equal ones, in the tree.
type node struct {
	span     sdktrace.ReadOnlySpan
	children []*node
	folded   []sdktrace.ReadOnlySpan // instead of span
}

// row is one line: its left part, and what stands in the columns.
type row struct {
	left string
	node *node
}

// renderTrace renders a trace as text, a header and a line per span.
func renderTrace(t *consoleTrace, colour bool) []byte {
	roots := buildTree(t.spans)
	start, end := bounds(t.spans)
	p := painter(colour)

	var b bytes.Buffer
	b.WriteString(p.bold("trace " + t.spans[0].SpanContext().TraceID().String()))
	if id := requestID(t.spans); id != "" {
		b.WriteString("  request " + id)
	}
	fmt.Fprintf(&b, "  %s  %s", duration(end.Sub(start)), plural(len(t.spans)+t.omitted, "span"))
	if n := failures(t.spans); n > 0 {
		b.WriteString("  " + p.red(plural(n, "error")))
	}
	if t.open > 0 {
		b.WriteString("  " + p.yellow(plural(t.open, "span")+" still open"))
	}
	b.WriteByte('\n')

	var rows []row
	for i, root := range roots {
		rows = appendRows(rows, root, "", i == len(roots)-1)
	}
	wide := 0
	for _, r := range rows {
		wide = max(wide, utf8.RuneCountInString(r.left))
	}
	for _, r := range rows {
		writeRow(&b, p, r, wide, start, end)
	}
	if t.omitted > 0 {
		fmt.Fprintf(&b, "   … %s not shown\n", plural(t.omitted, "span"))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func buildTree(spans []sdktrace.ReadOnlySpan) []*node {
	nodes := make(map[trace.SpanID]*node, len(spans))
	for _, s := range spans {
		nodes[s.SpanContext().SpanID()] = &node{span: s}
	}
	var roots []*node
	for _, s := range spans {
		n := nodes[s.SpanContext().SpanID()]
		if parent := nodes[s.Parent().SpanID()]; parent != nil && parent != n {
			parent.children = append(parent.children, n)
		} else {
			roots = append(roots, n)
		}
	}
	for _, n := range nodes {
		n.children = fold(byStart(n.children))
	}
	return fold(byStart(roots))
}

func byStart(nodes []*node) []*node {
	slices.SortStableFunc(nodes, func(a, b *node) int {
		return cmp.Or(a.span.StartTime().Compare(b.span.StartTime()), cmp.Compare(a.span.Name(), b.span.Name()))
	})
	return nodes
}

// fold replaces a run of equal leaf spans without error, but its first ones, by one line.
func fold(nodes []*node) []*node {
	var out []*node
	for i := 0; i < len(nodes); {
		j := i + 1
		for j < len(nodes) && foldable(nodes[i]) && foldable(nodes[j]) && sameSpan(nodes[i].span, nodes[j].span) {
			j++
		}
		if j-i <= foldAfter+1 {
			out = append(out, nodes[i:j]...)
		} else {
			out = append(out, nodes[i:i+foldAfter]...)
			rest := &node{}
			for _, n := range nodes[i+foldAfter : j] {
				rest.folded = append(rest.folded, n.span)
			}
			out = append(out, rest)
		}
		i = j
	}
	return out
}

func foldable(n *node) bool {
	return len(n.children) == 0 && n.span.Status().Code != otelcodes.Error
}

func sameSpan(a, b sdktrace.ReadOnlySpan) bool {
	return a.Name() == b.Name() && a.SpanKind() == b.SpanKind() && service(a) == service(b)
}

func appendRows(rows []row, n *node, indent string, last bool) []row {
	branch, deeper := "├─ ", "│  "
	if last {
		branch, deeper = "└─ ", "   "
	}
	rows = append(rows, row{left: shorten(indent+branch+label(n), nameWidth), node: n})
	for i, child := range n.children {
		rows = appendRows(rows, child, indent+deeper, i == len(n.children)-1)
	}
	return rows
}

// label is service and name; a call that goes out is marked.
func label(n *node) string {
	if n.folded != nil {
		return fmt.Sprintf("… %d more %s", len(n.folded), oneLine(n.folded[0].Name()))
	}
	mark := ""
	if k := n.span.SpanKind(); k == trace.SpanKindClient || k == trace.SpanKindProducer {
		mark = "→ "
	}
	return service(n.span) + "  " + mark + oneLine(n.span.Name())
}

func writeRow(b *bytes.Buffer, p painter, r row, wide int, start, end time.Time) {
	spans := r.node.folded
	if spans == nil {
		spans = []sdktrace.ReadOnlySpan{r.node.span}
	}
	from, to := bounds(spans)
	took := to.Sub(from)
	if r.node.folded != nil {
		took = 0
		for _, s := range spans {
			took += s.EndTime().Sub(s.StartTime())
		}
	}
	failed := spans[0].Status().Code == otelcodes.Error
	barText := bar(start, end, from, to)
	if failed {
		barText = p.red(barText)
	} else {
		barText = p.dim(barText)
	}
	b.WriteString(r.left)
	b.WriteString(strings.Repeat(" ", wide-utf8.RuneCountInString(r.left)))
	fmt.Fprintf(b, "  %s %7s", barText, duration(took))
	if r.node.folded == nil {
		code, text := outcome(spans[0])
		if failed || code != "" && code != "OK" && !strings.HasPrefix(code, "2") {
			code, text = p.red(code), p.red(text)
		} else {
			code = p.green(code)
		}
		for _, s := range []string{code, text, p.dim(statement(spans[0]))} {
			if s != "" {
				b.WriteString("  " + s)
			}
		}
	}
	b.WriteByte('\n')
}

// bar draws when, within the trace, the span ran.
func bar(start, end, from, to time.Time) string {
	total := max(end.Sub(start), 1)
	cell := func(t time.Time) int { return int(int64(t.Sub(start)) * barWidth / int64(total)) }
	left := min(cell(from), barWidth-1)
	right := min(max(cell(to), left+1), barWidth)
	return strings.Repeat("·", left) + strings.Repeat("━", right-left) + strings.Repeat("·", barWidth-right)
}

// outcome is the code of a call and what is known of its failure: reason and
// domain of a typed error, else the exception or the status' description.
func outcome(s sdktrace.ReadOnlySpan) (code, text string) {
	var domain, reason, kind string
	for _, kv := range s.Attributes() {
		switch kv.Key {
		case semconv.RPCResponseStatusCodeKey, semconv.HTTPResponseStatusCodeKey:
			code = kv.Value.String()
		case semconv.ErrorTypeKey:
			kind = kv.Value.String()
		case "error.domain":
			domain = kv.Value.String()
		case "error.reason":
			reason = kv.Value.String()
		}
	}
	if code == "" {
		code = kind
	}
	var parts []string
	if reason != "" {
		if domain != "" {
			reason += " (" + domain + ")"
		}
		parts = append(parts, reason)
	}
	if s.Status().Code == otelcodes.Error {
		if code == "" {
			code = "ERROR"
		}
		if d := failure(s); d != "" && !strings.EqualFold(d, code) && d != reason {
			parts = append(parts, d)
		}
	}
	return oneLine(code), shorten(oneLine(strings.Join(parts, ": ")), textWidth)
}

// failure is the message of the last exception, else the status' description.
func failure(s sdktrace.ReadOnlySpan) string {
	for _, e := range slices.Backward(s.Events()) {
		for _, kv := range e.Attributes {
			if e.Name == semconv.ExceptionEventName && kv.Key == semconv.ExceptionMessageKey {
				return kv.Value.String()
			}
		}
	}
	return s.Status().Description
}

// statement is the text of a database query, shortened.
func statement(s sdktrace.ReadOnlySpan) string {
	var system, query string
	for _, kv := range s.Attributes() {
		switch kv.Key {
		case semconv.DBQueryTextKey, "db.statement":
			query = kv.Value.String()
		case semconv.DBSystemNameKey, "db.system":
			system = kv.Value.String()
		}
	}
	if query == "" {
		return ""
	}
	if system != "" {
		system += ": "
	}
	return shorten(oneLine(system+query), textWidth)
}

func service(s sdktrace.ReadOnlySpan) string {
	v, ok := s.Resource().Set().Value(semconv.ServiceNameKey)
	if !ok {
		return "?"
	}
	return oneLine(v.String())
}

func requestID(spans []sdktrace.ReadOnlySpan) string {
	for _, s := range spans {
		for _, kv := range s.Attributes() {
			if kv.Key == attribute.Key("request.id") {
				return oneLine(kv.Value.String())
			}
		}
	}
	return ""
}

func failures(spans []sdktrace.ReadOnlySpan) int {
	n := 0
	for _, s := range spans {
		if s.Status().Code == otelcodes.Error {
			n++
		}
	}
	return n
}

func bounds(spans []sdktrace.ReadOnlySpan) (start, end time.Time) {
	start, end = spans[0].StartTime(), spans[0].EndTime()
	for _, s := range spans[1:] {
		if s.StartTime().Before(start) {
			start = s.StartTime()
		}
		if s.EndTime().After(end) {
			end = s.EndTime()
		}
	}
	return start, end
}

// duration renders d with three digits: 1.23ms, 45.6s, 2m03s.
func duration(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if d < u.size && u.size > time.Microsecond {
			continue
		}
		if d >= time.Minute {
			return d.Round(time.Second).String()
		}
		x := float64(d) / float64(u.size)
		digits := 2
		if x >= 100 {
			digits = 0
		} else if x >= 10 {
			digits = 1
		}
		return strconv.FormatFloat(x, 'f', digits, 64) + u.name
	}
	return "0s"
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// painter colours text, or not.
type painter bool

func (p painter) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) bold(s string) string   { return p.paint("1", s) }
func (p painter) dim(s string) string    { return p.paint("2", s) }
func (p painter) red(s string) string    { return p.paint("31", s) }
func (p painter) green(s string) string  { return p.paint("32", s) }
func (p painter) yellow(s string) string { return p.paint("33", s) }
