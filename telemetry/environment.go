package telemetry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// environment reads OTEL_* variables once, checks them, and remembers what was
// wrong. The exporters and the SDK would each parse the same value again, in
// their own way; they are given explicit options instead.
type environment struct {
	lookup   func(string) (string, bool)
	warnings []error
	settings []Setting

	file   *ConfigFile  // nil unless a configuration file is used; see configfile.go
	origin Variables    // where the file says what lookup finds
	parent *environment // of an exporter's own settings: the file's
}

// get returns the trimmed value of the first of names that is set to more than
// white space, and its name: an empty variable is an unset one.
func (e *environment) get(names ...string) (value, name string) {
	for _, n := range names {
		if v, ok := e.lookup(n); ok {
			if v = strings.TrimSpace(v); v != "" {
				return v, n
			}
		}
	}
	return "", ""
}

// warn records a wrong value, once however many signals share it.
func (e *environment) warn(signal, source, value, reason, fallback string) {
	source = e.at(source)
	if e.parent != nil {
		e.parent.warn(signal, source, value, reason, fallback)
		return
	}
	w := ConfigError{Signal: signal, Source: source, Value: value, Reason: reason, Fallback: fallback}
	for _, have := range e.warnings {
		if errors.Is(have, w) {
			return
		}
	}
	e.warnings = append(e.warnings, &w)
}

// set records an effective setting for [Telemetry.Config].
func (e *environment) set(name, value, source string) {
	e.settings = append(e.settings, Setting{Name: name, Value: value, Source: e.at(source)})
}

// resolve returns the value of a setting by precedence: environment, option,
// default. A value of the environment that parse refuses is warned of and skipped.
func resolve[T any](e *environment, setting string, parse func(string) (T, error), option *T, optionName string, def T, vars ...string) T {
	got, source := def, sourceDefault
	if option != nil {
		got, source = *option, optionName
	}
	if v, name := e.get(vars...); name != "" {
		if p, err := parse(v); err != nil {
			e.warn("", name, v, err.Error(), fmt.Sprint(got))
		} else {
			got, source = p, name
		}
	}
	e.set(setting, fmt.Sprint(got), source)
	return got
}

const sourceDefault = "default"

func parseInt(low int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > math.MaxInt32 {
			return 0, fmt.Errorf("want a whole number %s", bound(low))
		}
		return n, nil
	}
}

// parseMillis reads the milliseconds in which OTEL_* durations are written.
func parseMillis(low int) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < int64(low) || n > math.MaxInt64/int64(time.Millisecond) {
			return 0, fmt.Errorf("want a whole number of milliseconds %s", bound(low))
		}
		return time.Duration(n) * time.Millisecond, nil
	}
}

func bound(low int) string {
	if low == 1 {
		return "> 0"
	}
	return ">= " + strconv.Itoa(low)
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("want true or false")
}

// parseEnum accepts one of allowed, in any case.
func parseEnum(allowed ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if s = strings.ToLower(s); slices.Contains(allowed, s) {
			return s, nil
		}
		return "", fmt.Errorf("want %s", orList(allowed))
	}
}

// orList renders "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// splitList splits a comma-separated value, trimming, dropping empty items and repeats.
func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}
