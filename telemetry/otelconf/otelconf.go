package otelconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.opentelemetry.io/contrib/otelconf"
	"go.yaml.in/yaml/v3"

	"github.com/rpcscope/rpcscope/telemetry"
)

// FromEnvironment makes [telemetry.Setup] take its settings from the file that
// OTEL_CONFIG_FILE names. Without the variable it does nothing.
func FromEnvironment() telemetry.Option { return telemetry.WithConfigFile("", Read) }

// File makes [telemetry.Setup] take its settings from the named file, unless
// OTEL_CONFIG_FILE names another.
func File(name string) telemetry.Option { return telemetry.WithConfigFile(name, Read) }

// Read reads a file and checks it; lookup finds the variables it refers to, as
// [os.LookupEnv] does. The error joins one for everything that is wrong. It
// opens no connection: a test of a service can check the files it is deployed with.
func Read(name string, lookup func(string) (string, bool)) (*telemetry.ConfigFile, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	c := &checker{name: name, lines: map[string]int{}, seen: map[visit]bool{}, scraped: map[string]prometheus{}}
	c.substitute(root, lookup)
	c.format(root)
	if len(c.problems) == 0 {
		c.check(root, configuration, "")
	}
	if len(c.problems) > 0 {
		return nil, errors.Join(c.problems...)
	}
	var cfg otelconf.OpenTelemetryConfiguration
	if err := root.Decode(&cfg); err != nil {
		return nil, errors.New(withoutValues(err.Error()))
	}
	f := converter{checker: c, file: telemetry.ConfigFile{Variables: telemetry.Variables{}}}
	f.convert(&cfg)
	if len(c.problems) > 0 {
		return nil, errors.Join(c.problems...)
	}
	return &f.file, nil
}

// parse returns the only document's root.
func parse(text []byte) (*yaml.Node, error) {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF), err == nil && doc.Content[0].Tag == "!!null":
		return nil, errors.New(`is empty; want at least file_format: "1.0" and the providers of the signals`)
	case err != nil:
		return nil, errors.New("is no YAML: " + withoutValues(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one document; want one")
	}
	return doc.Content[0], nil
}

// withoutValues cuts out what a message of the YAML decoder quotes: it may be a secret.
func withoutValues(text string) string {
	for {
		i := strings.IndexByte(text, '`')
		if i < 0 {
			return text
		}
		j := strings.IndexByte(text[i+1:], '`')
		if j < 0 {
			return text[:i] + "[redacted]"
		}
		text = text[:i] + "[redacted]" + text[i+j+2:]
	}
}
