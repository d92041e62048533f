package telemetrytest

import (
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Spans selects ended spans of a [Recorder].
type Spans struct {
	r       *Recorder
	filters filters[sdktrace.ReadOnlySpan]
}

// Spans returns all ended spans, in the order in which they ended.
func (r *Recorder) Spans() Spans { return Spans{r: r} }

func (s Spans) where(what string, ok func(sdktrace.ReadOnlySpan) bool) Spans {
	s.filters = s.filters.and(what, ok)
	return s
}

// Named keeps the spans with this name.
func (s Spans) Named(name string) Spans {
	return s.where(fmt.Sprintf("named %q", name), func(sp sdktrace.ReadOnlySpan) bool { return sp.Name() == name })
}

// Kind keeps the spans of this kind.
func (s Spans) Kind(kind trace.SpanKind) Spans {
	return s.where("of kind "+kind.String(), func(sp sdktrace.ReadOnlySpan) bool { return sp.SpanKind() == kind })
}

// With keeps the spans that have all these attributes.
func (s Spans) With(attrs ...attribute.KeyValue) Spans {
	return s.where("with "+describe(attrs), func(sp sdktrace.ReadOnlySpan) bool { return len(missing(sp.Attributes(), attrs)) == 0 })
}

// match returns the selection; the recorder's mutex is held.
func (s Spans) match() []sdktrace.ReadOnlySpan {
	var out []sdktrace.ReadOnlySpan
	for _, sp := range s.r.ended {
		if s.filters.match(sp) {
			out = append(out, sp)
		}
	}
	return out
}

// All returns those of the selected spans that have ended, once no span is open:
// that of a stream which goes on is not among them. It waits for 2 seconds at
// most, and then says in the test's log which spans are open.
func (s Spans) All() []Span {
	s.r.tb.Helper()
	s.r.settled()
	return s.Ended()
}

// selected is match with assertions; the recorder's mutex is held.
func (s Spans) selected() []Span {
	var out []Span
	for _, sp := range s.match() {
		out = append(out, Span{ReadOnlySpan: sp, r: s.r})
	}
	return out
}

// Ended returns those of the selected spans that have ended by now, without
// waiting for those that are open.
func (s Spans) Ended() []Span {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.selected()
}

// Open returns the spans that have started and not ended by now, in no
// particular order.
func (r *Recorder) Open() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Span
	for _, sp := range r.open {
		out = append(out, Span{ReadOnlySpan: sp, r: r})
	}
	return out
}

// Len returns the number of what [Spans.All] returns.
func (s Spans) Len() int {
	s.r.tb.Helper()
	return len(s.All())
}

// One returns the only selected span; the test fails at once if there is none
// or more than one.
func (s Spans) One() Span {
	s.r.tb.Helper()
	s.r.wait(func() bool { return len(s.match()) > 0 })
	all := s.All()
	if len(all) != 1 {
		s.r.tb.Fatalf("got %d spans %s, want 1; recorded:\n%s", len(all), s.filters, s.r.listSpans())
	}
	return all[0]
}

// listSpans lists what was recorded.
func (r *Recorder) listSpans() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, s := range r.ended {
		b.WriteString("\t" + describeSpan(s) + "\n")
	}
	for _, s := range r.open {
		b.WriteString("\t" + describeSpan(s) + " (still open)\n")
	}
	if b.Len() == 0 {
		return "\tno spans\n"
	}
	return b.String()
}

func describeSpan(s sdktrace.ReadOnlySpan) string {
	text := s.Name() + " " + s.SpanKind().String() + " " + describe(s.Attributes())
	if st := s.Status(); st.Code != otelcodes.Unset {
		text += " " + st.Code.String() + " " + fmt.Sprintf("%q", st.Description)
	}
	for _, e := range s.Events() {
		text += " event " + e.Name
	}
	return text
}

// Span is one recorded span. Its assertions fail the test, and return the span
// so that they can be chained.
type Span struct {
	sdktrace.ReadOnlySpan
	r *Recorder
}

// Attr returns the value of an attribute; invalid if the span lacks it.
func (s Span) Attr(key attribute.Key) attribute.Value {
	for _, kv := range s.Attributes() {
		if kv.Key == key {
			return kv.Value
		}
	}
	return attribute.Value{}
}

// Has fails the test unless the span has all these attributes.
func (s Span) Has(attrs ...attribute.KeyValue) Span {
	s.r.tb.Helper()
	if m := missing(s.Attributes(), attrs); len(m) > 0 {
		s.r.tb.Fatalf("span lacks %s; it is:\n\t%s", describe(m), describeSpan(s.ReadOnlySpan))
	}
	return s
}

// HasExactly fails the test unless the span has these attributes and no others.
func (s Span) HasExactly(attrs ...attribute.KeyValue) Span {
	s.r.tb.Helper()
	lacks, extra := missing(s.Attributes(), attrs), missing(attrs, s.Attributes())
	if len(lacks)+len(extra) > 0 {
		s.r.tb.Fatalf("span lacks %s and has %s too many; it is:\n\t%s", describe(lacks), describe(extra), describeSpan(s.ReadOnlySpan))
	}
	return s
}

// Lacks fails the test if the span has one of these attributes.
func (s Span) Lacks(keys ...attribute.Key) Span {
	s.r.tb.Helper()
	for _, kv := range s.Attributes() {
		if slices.Contains(keys, kv.Key) {
			s.r.tb.Fatalf("span has %s; it is:\n\t%s", describe([]attribute.KeyValue{kv}), describeSpan(s.ReadOnlySpan))
		}
	}
	return s
}

// Status fails the test unless the span's status has this code.
func (s Span) Status(code otelcodes.Code) Span {
	s.r.tb.Helper()
	if got := s.ReadOnlySpan.Status().Code; got != code {
		s.r.tb.Fatalf("span status is %s, want %s; the span is:\n\t%s", got, code, describeSpan(s.ReadOnlySpan))
	}
	return s
}

// ChildOf fails the test unless parent is the span's parent.
func (s Span) ChildOf(parent Span) Span {
	s.r.tb.Helper()
	if s.Parent().SpanID() != parent.SpanContext().SpanID() || s.SpanContext().TraceID() != parent.SpanContext().TraceID() {
		s.r.tb.Fatalf("span %q (trace %s, parent %s) is no child of %q (trace %s, span %s); recorded:\n%s", s.Name(), s.SpanContext().TraceID(),
			s.Parent().SpanID(), parent.Name(), parent.SpanContext().TraceID(), parent.SpanContext().SpanID(), s.r.listTree())
	}
	return s
}

// Root fails the test if the span has a parent.
func (s Span) Root() Span {
	s.r.tb.Helper()
	if s.Parent().IsValid() {
		s.r.tb.Fatalf("span %q has a parent (%s), want a root; recorded:\n%s", s.Name(), s.Parent().SpanID(), s.r.listTree())
	}
	return s
}

// Event returns the span's first event with this name; the test fails if there is none.
func (s Span) Event(name string) sdktrace.Event {
	s.r.tb.Helper()
	for _, e := range s.Events() {
		if e.Name == name {
			return e
		}
	}
	s.r.tb.Fatalf("span has no event %q; it is:\n\t%s", name, describeSpan(s.ReadOnlySpan))
	return sdktrace.Event{}
}

// missing returns those of want that got does not hold.
func missing(got, want []attribute.KeyValue) []attribute.KeyValue {
	var out []attribute.KeyValue
	for _, kv := range want {
		if !slices.ContainsFunc(got, func(have attribute.KeyValue) bool {
			return have == kv
		}) {
			out = append(out, kv)
		}
	}
	return out
}
