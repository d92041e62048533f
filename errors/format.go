package errors

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// Error is the whole text of e: code, message, field violations and cause. That of
// an error that came from a call is gRPC's, with the violations behind it. It is
// for logs and spans, not for strangers: see [Error.Message].
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	return redact(e.text())
}

func (e *Error) text() string {
	if e.over && e.cause != nil {
		return e.withViolations(textOf(e.cause))
	}
	text := e.code.String()
	if message := e.Message(); e.cause == nil || message != defaultText(e.code) {
		text += ": " + message
	}
	if len(e.fields) > 0 {
		text += ": " + strings.Join(e.violations(), "; ")
	}
	if e.cause != nil {
		text += ": " + textOf(e.cause)
	}
	return text
}

// withViolations is text, of a cause, with those that it does not have: the text
// of a status has no details.
func (e *Error) withViolations(text string) string {
	if len(e.fields) == 0 {
		return text
	}
	unsaid := slices.DeleteFunc(e.violations(), func(v string) bool { return strings.Contains(text, v) })
	if len(unsaid) > 0 {
		text += ": " + strings.Join(unsaid, "; ")
	}
	return text
}

// violations are those of the fields, one text each.
func (e *Error) violations() []string {
	texts := make([]string, len(e.fields))
	for i, f := range e.fields {
		texts[i] = f.GetField() + " " + cmp.Or(f.GetDescription(), f.GetReason())
	}
	return texts
}

// textOf is the text of err, also where its Error method panics, as that of a nil
// pointer may.
func textOf(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprint(err) // which has a word for it
		}
	}()
	return err.Error()
}

// Format prints the whole text of e for %v and %s. For %+v it adds, for logs
// only, each cause with its type, and the stack.
func (e *Error) Format(f fmt.State, verb rune) {
	if verb != 'v' || !f.Flag('+') || e == nil {
		fmt.Fprintf(f, fmt.FormatString(f, verb), e.Error())
		return
	}
	var b strings.Builder
	b.WriteString(e.Error())
	writeCauses(&b, e.cause, 1)
	if stack := e.Stack(); stack != "" {
		b.WriteString("\n\n" + strings.TrimSuffix(stack, "\n"))
	}
	_, _ = io.WriteString(f, b.String())
}

func writeCauses(b *strings.Builder, err error, depth int) {
	if err == nil {
		return
	}
	fmt.Fprintf(b, "\n%s%T: %s", strings.Repeat("  ", depth), err, redact(textOf(err)))
	switch x := err.(type) {
	case interface{ Unwrap() error }:
		writeCauses(b, x.Unwrap(), depth+1)
	case interface{ Unwrap() []error }:
		for _, branch := range x.Unwrap() {
			writeCauses(b, branch, depth+1)
		}
	}
}

// LogValue is e as a group for [log/slog]: code and message, domain, reason,
// metadata, fields (their violations), retry_after and remote where there are
// any, and the private cause.
func (e *Error) LogValue() slog.Value {
	if e == nil {
		return slog.StringValue("<nil>")
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs, slog.String("code", e.code.String()), slog.String("message", e.Message()))
	if e.hasInfo() {
		attrs = append(attrs, slog.String("domain", e.domain), slog.String("reason", e.reason))
	}
	if len(e.metadata) > 0 {
		attrs = append(attrs, slog.Any("metadata", e.Metadata()))
	}
	if len(e.fields) > 0 {
		attrs = append(attrs, slog.Any("fields", e.violations()))
	}
	if e.retries {
		attrs = append(attrs, slog.Duration("retry_after", e.retry))
	}
	if e.remote {
		attrs = append(attrs, slog.Bool("remote", true))
	}
	if e.cause != nil {
		attrs = append(attrs, slog.String("cause", redact(textOf(e.cause))))
	}
	return slog.GroupValue(attrs...)
}
