package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
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
	barWidth  = 20  // cells of the duration bar
	nameWidth = 64  // widest tree, service and name
	textWidth = 72  // of a query or an error's text
	foldAfter = 3   // equal spans shown, with what is below them, before the others are folded
	maxDepth  = 12  // of the tree; what is deeper is drawn there
	maxRows   = 100 // of a trace; beyond, the ones without an error are left out first
)

// node is a span, or a fold of several that look the same, in the tree.
type node struct {
	span     sdktrace.ReadOnlySpan
	parent   *node
	children []*node
	folded   []*node // instead of span
	failed   bool    // or something below it
	size     int     // spans here and below
	shape    uint64  // the same for spans that look the same, with all below them
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
	rows, left := clip(rows)
	wide := 0
	for _, r := range rows {
		wide = max(wide, utf8.RuneCountInString(r.left))
	}
	for _, r := range rows {
		writeRow(&b, p, r, wide, start, end)
	}
	if left += t.omitted; left > 0 {
		fmt.Fprintf(&b, "   … %s not shown\n", plural(left, "span"))
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
			n.parent = parent
			parent.children = append(parent.children, n)
		} else {
			roots = append(roots, n)
		}
	}
	return fold(byStart(roots))
}

func byStart(nodes []*node) []*node {
	slices.SortStableFunc(nodes, func(a, b *node) int {
		return cmp.Or(a.span.StartTime().Compare(b.span.StartTime()), cmp.Compare(a.span.Name(), b.span.Name()))
	})
	return nodes
}

// fold orders what is below nodes, and replaces siblings that look the same
// and hold no error, all but the first ones, by one line.
func fold(nodes []*node) []*node {
	count := map[uint64]int{}
	for _, n := range nodes {
		n.children = fold(byStart(n.children))
		n.settle()
		count[n.shape]++
	}
	var out []*node
	seen, rest := map[uint64]int{}, map[uint64]*node{}
	for _, n := range nodes {
		seen[n.shape]++
		more := rest[n.shape]
		switch {
		case n.failed || seen[n.shape] <= foldAfter || count[n.shape] == foldAfter+1:
			out = append(out, n)
			continue
		case more == nil:
			more = &node{parent: n.parent, shape: ^n.shape}
			rest[n.shape] = more
			out = append(out, more)
		}
		more.folded, more.size = append(more.folded, n), more.size+n.size
	}
	return out
}

// settle sums up what is below n.
func (n *node) settle() {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", service(n.span), n.span.Name(), n.span.SpanKind())
	n.failed, n.size = n.span.Status().Code == otelcodes.Error, 1
	last := uint64(0)
	for _, c := range n.children {
		if c.shape != last { // how often does not matter
			fmt.Fprintf(h, "\x00%d", c.shape)
			last = c.shape
		}
		n.failed, n.size = n.failed || c.failed, n.size+c.size
	}
	n.shape = h.Sum64()
}

func appendRows(rows []row, n *node, indent string, last bool) []row {
	branch, deeper := "├─ ", "│  "
	if last {
		branch, deeper = "└─ ", "   "
	}
	const step = 3 // runes of deeper
	if utf8.RuneCountInString(indent) >= maxDepth*step {
		branch, deeper = "⋯  ", ""
	}
	room := nameWidth - utf8.RuneCountInString(indent) - step
	rows = append(rows, row{left: indent + branch + label(n, room), node: n})
	for i, child := range n.children {
		rows = appendRows(rows, child, indent+deeper, i == len(n.children)-1)
	}
	return rows
}

// clip leaves out rows of a trace that is too long, those without an error
// first, and tells how many spans that were.
func clip(rows []row) (kept []row, left int) {
	if len(rows) <= maxRows {
		return rows, 0
	}
	failed := 0
	for _, r := range rows {
		if r.node.failed {
			failed++
		}
	}
	loud := min(failed, maxRows*3/4)
	quiet := maxRows - loud
	for _, r := range rows {
		budget := &quiet
		if r.node.failed {
			budget = &loud
		}
		if *budget > 0 {
			*budget--
			kept = append(kept, r)
		} else {
			left += r.node.own()
		}
	}
	return kept, left
}

// own counts the spans of n's line.
func (n *node) own() int {
	if n.folded != nil {
		return n.size
	}
	return 1
}

// label is service and name, in room runes; a call that goes out is marked.
func label(n *node, room int) string {
	if n.folded != nil {
		return shorten(fmt.Sprintf("… %d more %s", len(n.folded), oneLine(n.folded[0].span.Name())), room)
	}
	name := oneLine(n.span.Name())
	if method, ok := strings.CutPrefix(name, "Attempt."); ok && n.parent != nil && n.parent.span.Name() == method {
		name = "attempt" + attempt(n.span)
	}
	mark := ""
	if k := n.span.SpanKind(); k == trace.SpanKindClient || k == trace.SpanKindProducer {
		mark = "→ "
	}
	left := service(n.span) + "  " + mark
	// Of a method's full name the end says most.
	if over := utf8.RuneCountInString(left+name) - room; over > 0 && strings.Contains(name, "/") && over+1 < strings.LastIndexByte(name, '/') {
		name = "…" + string([]rune(name)[over+1:])
	}
	return shorten(left+name, room)
}

// attempt is the number of an attempt, from 1.
func attempt(s sdktrace.ReadOnlySpan) string {
	for _, kv := range s.Attributes() {
		if kv.Key == "previous-rpc-attempts" {
			return " " + strconv.FormatInt(kv.Value.AsInt64()+1, 10)
		}
	}
	return ""
}

func writeRow(b *bytes.Buffer, p painter, r row, wide int, start, end time.Time) {
	spans := []sdktrace.ReadOnlySpan{r.node.span}
	if r.node.folded != nil {
		spans = spans[:0]
		for _, n := range r.node.folded {
			spans = append(spans, n.span)
		}
	}
	from, to := bounds(spans)
	failed := spans[0].Status().Code == otelcodes.Error
	barText := bar(start, end, from, to)
	if failed {
		barText = p.red(barText)
	} else {
		barText = p.dim(barText)
	}
	b.WriteString(r.left)
	b.WriteString(strings.Repeat(" ", wide-utf8.RuneCountInString(r.left)))
	columns := []string{}
	took := to.Sub(from)
	if r.node.folded != nil {
		took = sum(spans)
		columns = append(columns, p.dim(foldText(r.node, spans, took)))
	} else {
		code, text := outcome(spans[0])
		switch {
		case failed:
			code, text = p.red(code), p.red(text)
		case code == "OK" || strings.HasPrefix(code, "2"):
			code = p.green(code)
		default: // refused, and not this side's fault
			code, text = p.yellow(code), p.yellow(text)
		}
		columns = append(columns, code, p.dim(messages(spans[0])), text, p.dim(statement(spans[0])))
	}
	fmt.Fprintf(b, "  %s %7s", barText, duration(took))
	for _, s := range columns {
		if s != "" {
			b.WriteString("  " + s)
		}
	}
	b.WriteByte('\n')
}

// foldText is what is left to say of spans that have one line together.
func foldText(n *node, spans []sdktrace.ReadOnlySpan, took time.Duration) string {
	longest := time.Duration(0)
	for _, s := range spans {
		longest = max(longest, s.EndTime().Sub(s.StartTime()))
	}
	text := fmt.Sprintf("in all; each %s, at most %s", duration(took/time.Duration(len(spans))), duration(longest))
	if n.size > len(spans) {
		text += ", with " + plural(n.size-len(spans), "span") + " below"
	}
	return text
}

func sum(spans []sdktrace.ReadOnlySpan) (total time.Duration) {
	for _, s := range spans {
		total += s.EndTime().Sub(s.StartTime())
	}
	return total
}

// messages counts those of a stream, where they are recorded: "↑3 ↓120". One of
// each, a unary call's, is not worth saying.
func messages(s sdktrace.ReadOnlySpan) string {
	var sent, received int64
	for _, e := range s.Events() {
		if e.Name != "rpc.message" && e.Name != "message" {
			continue
		}
		kind, id := "", int64(0)
		for _, kv := range e.Attributes {
			switch kv.Key {
			case "rpc.message.type":
				kind = strings.ToUpper(kv.Value.String())
			case "rpc.message.id":
				id = kv.Value.AsInt64()
			}
		}
		switch kind { // by number: a span drops events that are too many
		case "SENT":
			sent = max(sent, id)
		case "RECEIVED":
			received = max(received, id)
		}
	}
	if sent <= 1 && received <= 1 {
		return ""
	}
	return fmt.Sprintf("↑%d ↓%d", sent, received)
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
		if d := withoutCode(failure(s), code); d != "" && !strings.EqualFold(d, code) && d != reason {
			parts = append(parts, d)
		}
	}
	return oneLine(code), shorten(oneLine(strings.Join(parts, ": ")), textWidth)
}

// withoutCode cuts off an error's text what repeats its code.
func withoutCode(text, code string) string {
	if _, message, ok := strings.Cut(text, " desc = "); ok && strings.HasPrefix(text, "rpc error: code = ") {
		text = message
	}
	if name, message, ok := strings.Cut(text, ": "); ok && strings.EqualFold(name, strings.ReplaceAll(code, "_", "")) {
		text = message
	}
	return text
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
