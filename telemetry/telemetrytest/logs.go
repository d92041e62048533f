package telemetrytest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
)

// Logs selects log records of a [Recorder]: what went through
// [telemetry.Telemetry.Logger], its SlogHandler, or the LoggerProvider.
type Logs struct {
	r       *Recorder
	filters filters[Log]
}

// Logs returns all log records, in the order in which they were emitted.
func (r *Recorder) Logs() Logs { return Logs{r: r} }

// Message keeps the records with this message.
func (l Logs) Message(text string) Logs {
	l.filters = l.filters.and(fmt.Sprintf("with message %q", text), func(rec Log) bool { return rec.Body().String() == text })
	return l
}

// With keeps the records that have all these attributes.
func (l Logs) With(attrs ...attribute.KeyValue) Logs {
	l.filters = l.filters.and("with "+describe(attrs), func(rec Log) bool { return len(missing(rec.Attributes(), attrs)) == 0 })
	return l
}

func (l Logs) match() []Log {
	var out []Log
	for _, rec := range l.r.logs {
		log := Log{Record: rec, tb: l.r.tb}
		if l.filters.match(log) {
			out = append(out, log)
		}
	}
	return out
}

// All returns the selected records, once no span is open.
func (l Logs) All() []Log {
	l.r.settled()
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.match()
}

// Len returns the number of selected records, once no span is open.
func (l Logs) Len() int { return len(l.All()) }

// One returns the only selected record; the test fails at once if there is none
// or more than one.
func (l Logs) One() Log {
	l.r.tb.Helper()
	l.r.wait(func() bool { return len(l.match()) > 0 })
	all := l.All()
	if len(all) != 1 {
		l.r.tb.Fatalf("got %d log records %s, want 1; recorded:\n%s", len(all), l.filters, l.r.listLogs())
	}
	return all[0]
}

func (r *Recorder) listLogs() string {
	var b strings.Builder
	for _, rec := range r.Logs().All() {
		b.WriteString("\t" + rec.describe() + "\n")
	}
	if b.Len() == 0 {
		return "\tno log records\n"
	}
	return b.String()
}

// Log is one log record. Its assertions fail the test, and return the record so
// that they can be chained.
type Log struct {
	sdklog.Record
	tb testing.TB
}

// Attributes returns the record's attributes.
func (l Log) Attributes() []attribute.KeyValue {
	var out []attribute.KeyValue
	l.WalkAttributes(func(kv attribute.KeyValue) bool {
		out = append(out, kv)
		return true
	})
	return out
}

func (l Log) describe() string {
	return l.SeverityText() + " " + l.Body().String() + " " + describe(l.Attributes())
}

// Has fails the test unless the record has all these attributes.
func (l Log) Has(attrs ...attribute.KeyValue) Log {
	l.tb.Helper()
	if m := missing(l.Attributes(), attrs); len(m) > 0 {
		l.tb.Fatalf("log record lacks %s; it is:\n\t%s", describe(m), l.describe())
	}
	return l
}

// Lacks fails the test if the record has one of these attributes.
func (l Log) Lacks(keys ...attribute.Key) Log {
	l.tb.Helper()
	for _, kv := range l.Attributes() {
		if slices.Contains(keys, kv.Key) {
			l.tb.Fatalf("log record has %s; it is:\n\t%s", describe([]attribute.KeyValue{kv}), l.describe())
		}
	}
	return l
}

// Of fails the test unless the record was emitted within span.
func (l Log) Of(span Span) Log {
	l.tb.Helper()
	if l.SpanID() != span.SpanContext().SpanID() || l.TraceID() != span.SpanContext().TraceID() {
		l.tb.Fatalf("log record of trace %s, span %s is not of span %q (trace %s, span %s)", l.TraceID(), l.SpanID(),
			span.Name(), span.SpanContext().TraceID(), span.SpanContext().SpanID())
	}
	return l
}
