package interceptorstest

import (
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// span watches what the interceptor does to the span of the call.
type span struct {
	trace.Span
	r *record
}

func (s *span) End(options ...trace.SpanEndOption) {
	s.r.note(func() { s.r.ended = true })
	s.Span.End(options...)
}

func (s *span) SetStatus(code otelcodes.Code, description string) {
	s.r.note(func() { s.r.status = append(s.r.status, code) })
	s.Span.SetStatus(code, description)
}
