package telemetry

import (
	"slices"
	"strings"
)

// Setting is one effective setting.
type Setting struct {
	Name   string // "traces.endpoint"
	Value  string // as used; secrets are redacted
	Source string // environment variable, option ("WithEndpoint"), "detected" or "default"
}

// Config is what [Setup] made of the environment, the options and what it
// detected, in a fixed order. It holds no secret: header values, keys and
// tokens are redacted.
type Config struct {
	Settings []Setting
}

// Get returns the setting with the given name.
func (c Config) Get(name string) (Setting, bool) {
	i := slices.IndexFunc(c.Settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return c.Settings[i], true
}

// String lists the settings, one a line, each with its source.
func (c Config) String() string {
	wide := 0
	for _, s := range c.Settings {
		wide = max(wide, len(s.Name))
	}
	var b strings.Builder
	for _, s := range c.Settings {
		b.WriteString(s.Name)
		b.WriteString(strings.Repeat(" ", wide-len(s.Name)))
		b.WriteString("  " + s.Value + "  (" + s.Source + ")\n")
	}
	return b.String()
}
