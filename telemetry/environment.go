package telemetry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
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
// default. A value of the environment that parse refuses is warned of and
// counts as not set: the next of vars is looked at.
func resolve[T any](e *environment, setting string, parse func(string) (T, error), option *T, optionName string, def T, vars ...string) T {
	got, source := def, sourceDefault
	if option != nil {
		got, source = *option, optionName
	}
	var refused []ConfigError
	for _, name := range vars {
		v, name := e.get(name)
		if name == "" {
			continue
		}
		p, err := parse(v)
		if err == nil {
			got, source = p, name
			break
		}
		refused = append(refused, ConfigError{Source: name, Value: v, Reason: err.Error()})
	}
	for _, r := range refused {
		e.warn("", r.Source, r.Value, r.Reason, fmt.Sprint(got))
	}
	e.set(setting, fmt.Sprint(got), source)
	return got
}

const sourceDefault = "default"

// ignored are variables of the specification with which somebody expects
// something that does not happen.
var ignored = []struct{ name, reason, instead string }{
	{"OTEL_ENTITIES", "the OpenTelemetry SDK for Go has no entities", "OTEL_RESOURCE_ATTRIBUTES"},
	{"OTEL_EXPERIMENTAL_CONFIG_FILE", "it has become OTEL_CONFIG_FILE", "OTEL_CONFIG_FILE"},
}

// warnIgnored warns of the ignored variables that are set.
func (e *environment) warnIgnored() {
	for _, v := range ignored {
		if _, name := e.get(v.name); name != "" {
			e.warn("", name, "", v.reason, v.instead)
		}
	}
}

func parsePositive(s string) (int, error) { return parseWhole(s, 1) }

func parseWhole(s string, low int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > math.MaxInt32 {
		if low == 1 {
			return 0, errors.New("want a whole number > 0")
		}
		return 0, fmt.Errorf("want a whole number >= %d", low)
	}
	return n, nil
}

// parseMillis reads the milliseconds in which OTEL_* durations are written.
func parseMillis(s string) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/int64(time.Millisecond) {
		return 0, errors.New("want a whole number of milliseconds > 0")
	}
	return time.Duration(n) * time.Millisecond, nil
}

// timeLimit is a time-out. The specification's 0, no limit, is so much time
// that the difference does not matter.
type timeLimit time.Duration

const noLimit = timeLimit(math.MaxInt32 * time.Millisecond)

func (l timeLimit) String() string {
	if l == noLimit {
		return "no limit"
	}
	return time.Duration(l).String()
}

func parseTimeLimit(s string) (timeLimit, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(time.Millisecond) {
		return 0, errors.New("want a whole number of milliseconds, or 0 for no limit")
	}
	if n == 0 {
		return noLimit, nil
	}
	return timeLimit(n) * timeLimit(time.Millisecond), nil
}

// timeLimit resolves a time-out.
func (e *environment) timeLimit(setting string, def time.Duration, vars ...string) time.Duration {
	return time.Duration(resolve(e, setting, parseTimeLimit, nil, "", timeLimit(def), vars...))
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
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

// muteSDK silences the SDK while providers and exporters are made of valid
// settings. They read the environment all the same, and what they say of it is
// said already, here in one form and without the values.
func muteSDK() {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	otel.SetLogger(logr.Discard())
}
