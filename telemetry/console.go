package telemetry

import (
	"context"
	"io"
	"os"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Bounds of a Console: what a program that never ends its spans can cost.
const (
	consoleTraces = 512  // pending traces; beyond, the oldest is printed as it is
	consoleSpans  = 1024 // spans kept of one trace; the others are only counted
)

// Console prints each finished trace as a tree, for a terminal: one line per
// span with service, method, duration, code and error reason; for a stream the
// messages sent and received (↑3 ↓120), where the span has them as events
// (interceptors.WithMessageEvents); the attempts of a call by number.
//
// A long trace stays readable. Of siblings that look the same, with all that
// is below them, three are shown and the others are one line with their time,
// mean and maximum; one with an error is always shown by itself. What is deeper
// than 12 levels is not indented further, and of more than 100 lines those
// without an error are left out first. Control characters do not reach the
// terminal.
//
// It is a span processor. One Console may be given to several handles of a
// process ([WithSpanProcessor]): a trace that passes through them prints as one
// tree. A trace is printed when none of its spans is open, in one Write, so
// that concurrent traces never interleave. Memory is bounded. It is for
// development: printing takes place on the goroutine that ends the last span,
// and a terminal that is slow holds up that one, and no other.
type Console struct {
	w      io.Writer
	colour bool
	out    sync.Mutex // of w: not every writer is safe for concurrent use

	mu      sync.Mutex // never held while writing: a terminal may be slow
	pending map[trace.TraceID]*consoleTrace
	order   []trace.TraceID // oldest first; may name traces already printed
}

type consoleTrace struct {
	open    int
	spans   []sdktrace.ReadOnlySpan
	omitted int
}

// NewConsole returns a Console that writes to w; nil means os.Stdout. Two
// Consoles must not share a w that is not safe for concurrent use. It uses
// colours when w is a terminal, unless NO_COLOR is set or TERM is "dumb"
// (https://no-color.org).
func NewConsole(w io.Writer) *Console {
	if w == nil {
		w = os.Stdout
	}
	return &Console{w: w, colour: isTerminal(w), pending: map[trace.TraceID]*consoleTrace{}}
}

func isConsole(p sdktrace.SpanProcessor) bool {
	_, ok := p.(*Console)
	return ok
}

// printsToStdout tells a Console beside which another one for stdout, as the
// exporter "console" is, would print each trace again.
func printsToStdout(p sdktrace.SpanProcessor) bool {
	c, ok := p.(*Console)
	return ok && c.w == io.Writer(os.Stdout)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// OnStart implements [sdktrace.SpanProcessor].
func (c *Console) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	id := s.SpanContext().TraceID()
	c.mu.Lock()
	t := c.pending[id]
	var evicted *consoleTrace
	if t == nil {
		evicted = c.makeRoom()
		t = &consoleTrace{}
		c.pending[id] = t
		c.order = append(c.order, id)
	}
	t.open++
	c.mu.Unlock()
	c.print(evicted)
}

// makeRoom removes the oldest pending trace when there are too many.
func (c *Console) makeRoom() *consoleTrace {
	if len(c.order) > 2*consoleTraces { // forget the printed ones
		kept := c.order[:0]
		for _, id := range c.order {
			if c.pending[id] != nil {
				kept = append(kept, id)
			}
		}
		c.order = kept
	}
	if len(c.pending) < consoleTraces {
		return nil
	}
	for len(c.order) > 0 {
		id := c.order[0]
		c.order = c.order[1:]
		if t := c.pending[id]; t != nil {
			delete(c.pending, id)
			return t
		}
	}
	return nil
}

// OnEnd implements [sdktrace.SpanProcessor].
func (c *Console) OnEnd(s sdktrace.ReadOnlySpan) {
	id := s.SpanContext().TraceID()
	c.mu.Lock()
	t := c.pending[id]
	if t == nil { // evicted, or started before this Console
		t = &consoleTrace{open: 1}
		c.pending[id] = t
		c.order = append(c.order, id)
	}
	t.open--
	if len(t.spans) < consoleSpans {
		t.spans = append(t.spans, s)
	} else {
		t.omitted++
	}
	if t.open > 0 {
		t = nil
	} else {
		delete(c.pending, id)
	}
	c.mu.Unlock()
	c.print(t)
}

// ForceFlush implements [sdktrace.SpanProcessor]. Finished traces are printed already.
func (c *Console) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdktrace.SpanProcessor]: it prints what has ended of
// traces that are still open.
func (c *Console) Shutdown(context.Context) error {
	c.mu.Lock()
	var rest []*consoleTrace
	for _, id := range c.order {
		if t := c.pending[id]; t != nil && len(t.spans) > 0 {
			rest = append(rest, &consoleTrace{open: t.open, spans: t.spans, omitted: t.omitted})
			t.spans, t.omitted = nil, 0
		}
	}
	c.mu.Unlock()
	for _, t := range rest {
		c.print(t)
	}
	return nil
}

// print writes a trace at once. Spans that never ended are only counted.
func (c *Console) print(t *consoleTrace) {
	if t == nil || len(t.spans) == 0 {
		return
	}
	text := renderTrace(t, c.colour)
	c.out.Lock()
	defer c.out.Unlock()
	_, _ = c.w.Write(text) // a terminal that is gone is no reason to fail
}
