package telemetry

import (
	"errors"
	"strconv"
	"strings"
)

// ErrAlreadySetup is returned by [Setup] while an earlier global set-up is
// still live. The handle returned beside it shares the live providers, and its
// Shutdown does nothing.
var ErrAlreadySetup = errors.New("telemetry: already set up; the returned handle shares the live providers")

// ErrDataLost is returned, wrapped, by Shutdown and ForceFlush when telemetry
// that was queued could not be delivered.
var ErrDataLost = errors.New("telemetry: data lost")

// ConfigError says that one setting could not be used as given.
//
// It is an error of [Setup] when it turned an exporter or a whole signal off,
// and one of [Telemetry.Warnings] when a default was used in its place.
type ConfigError struct {
	Signal   string // "traces", "metrics", "logs", or "" when it concerns all of them
	Source   string // environment variable or option: "OTEL_BSP_MAX_QUEUE_SIZE", "WithEndpoint"
	Value    string // what was given; redacted or empty where it may be a secret
	Reason   string // what was wrong, and what is allowed: "want > 0"
	Fallback string // what is used instead; empty when nothing is
}

// Error formats e in one line, as in
//
//	OTEL_BSP_MAX_QUEUE_SIZE="-1": want > 0; using 2048
func (e ConfigError) Error() string { return e.text(e.Signal) }

// text is that of e, said of signals.
func (e *ConfigError) text(signals string) string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Value != "" {
		b.WriteString("=")
		b.WriteString(strconv.Quote(shorten(e.Value, 200)))
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	switch {
	case e.Fallback != "":
		b.WriteString("; using " + e.Fallback)
	case signals != "":
		b.WriteString("; not exporting " + signals)
	}
	return b.String()
}

// As lets [errors.As] fill a ConfigError value as well as a pointer to one.
func (e *ConfigError) As(target any) bool {
	v, ok := target.(*ConfigError)
	if ok {
		*v = *e
	}
	return ok
}

// Is reports whether target is an equal ConfigError, by value or by pointer.
func (e ConfigError) Is(target error) bool {
	if p, ok := target.(*ConfigError); ok && p != nil {
		return *p == e
	}
	v, ok := target.(ConfigError)
	return ok && v == e
}

// setupError is what [Setup] returns: errors like those of [errors.Join], but with
// one line for each setting, however many signals share it.
type setupError struct{ errs []error }

// joinSetup is nil if all of errs are.
func joinSetup(errs ...error) error {
	if errs = flattened(errs); len(errs) > 0 {
		return &setupError{errs}
	}
	return nil
}

// flattened are errs that are not nil, joined ones taken apart.
func flattened(errs []error) []error {
	var flat []error
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			flat = append(flat, flattened(joined.Unwrap())...)
		} else if err != nil {
			flat = append(flat, err)
		}
	}
	return flat
}

func (e *setupError) Unwrap() []error { return e.errs }

func (e *setupError) Error() string {
	var lines []string
	at := map[ConfigError]int{} // the line of a setting, for all signals
	signals := map[ConfigError][]string{}
	for _, err := range e.errs {
		ce, ok := err.(*ConfigError) //nolint:errorlint // as it was made
		if !ok {
			lines = append(lines, err.Error())
			continue
		}
		setting := *ce
		setting.Signal = ""
		if _, said := at[setting]; !said {
			at[setting] = len(lines)
			lines = append(lines, "")
		}
		if ce.Signal != "" {
			signals[setting] = append(signals[setting], ce.Signal)
		}
		lines[at[setting]] = ce.text(strings.Join(signals[setting], ", "))
	}
	return strings.Join(lines, "\n")
}

// shorten cuts s to at most n runes, the last of them an ellipsis.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
