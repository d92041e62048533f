package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// ConfigFile is what a configuration file says, in the terms of the
// environment whose place it takes. Package telemetry/otelconf makes it of the
// OpenTelemetry declarative configuration that OTEL_CONFIG_FILE names.
type ConfigFile struct {
	// Variables are the only OTEL_* variables that Setup sees.
	Variables Variables
	// Traces, Metrics and Logs are the exporters of each signal. A signal without any is not exported.
	Traces, Metrics, Logs []FileExporter
	// Options say what no variable can say. They win over those that were given to Setup.
	Options []Option
	// Warnings are about what the file says and nobody does.
	Warnings []ConfigError
}

// FileExporter is one exporter of one signal.
type FileExporter struct {
	Name          string                           // otlp, console or, for metrics, prometheus
	Variables     Variables                        // its own settings; they win over those of the file
	ReaderOptions []sdkmetric.PeriodicReaderOption // of the reader of metrics before otlp and console
}

// Variables are OTEL_* variables by name. The source of what Options say may
// stand there too, under the option's name: "WithSampler".
type Variables map[string]Variable

// Variable is the value of a variable, and where the file says so: the source
// of the setting in [Config] and [ConfigError].
type Variable struct{ Value, Source string }

// ReadConfigFile reads the named file. lookup finds the variables that it
// refers to. Joined errors are reported one by one.
type ReadConfigFile func(name string, lookup func(string) (string, bool)) (*ConfigFile, error)

// WithConfigFile makes Setup take its settings from a file: the one that
// OTEL_CONFIG_FILE names, else the named one; without either, and with a nil
// read, the option does nothing. What the file says replaces all OTEL_*
// variables, and wins over the other options. A file that cannot be used is an
// error of Setup, and no signal is exported.
//
// The reader is otelconf.FromEnvironment's, of package telemetry/otelconf,
// which is a module of its own.
func WithConfigFile(name string, read ReadConfigFile) Option {
	return optionFunc(func(o *options) { o.configFile, o.readConfigFile = name, read })
}

// configFile reads the file, if there is one, and lets it take the place of the environment.
func (e *environment) configFile(o *options) error {
	const variable = "OTEL_CONFIG_FILE"
	name, source := e.get(variable)
	if source == "" {
		name, source = o.configFile, "WithConfigFile"
	}
	switch {
	case o.readConfigFile != nil:
	case source == variable:
		e.warn("", variable, name, "nobody reads it; pass otelconf.FromEnvironment() of github.com/rpcscope/rpcscope/telemetry/otelconf to Setup", "the other OTEL_* variables")
		return nil
	}
	if name == "" || o.readConfigFile == nil {
		return nil
	}
	file, err := o.readConfigFile(name, e.lookup)
	if err != nil || file == nil {
		return fileErrors(source, name, err)
	}
	e.set("config_file", name, source)
	e.warnings = append(e.warnings, warningsOf(file)...)
	for _, opt := range file.Options {
		if opt != nil {
			opt.apply(o)
		}
	}
	e.file, e.origin = file, file.Variables
	e.lookup = lookupIn(file.Variables, e.lookup)
	return nil
}

// lookupIn finds OTEL_* variables in vars, and others in the environment.
func lookupIn(vars Variables, environment func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !strings.HasPrefix(name, "OTEL_") {
			return environment(name)
		}
		v, ok := vars[name]
		return v.Value, ok
	}
}

// fileErrors makes a ConfigError of each error in err.
func fileErrors(source, name string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, one := range joined.Unwrap() {
			errs = append(errs, fileErrors(source, name, one))
		}
		return errors.Join(errs...)
	}
	if err == nil {
		err = errors.New("nothing was read")
	}
	return &ConfigError{Source: source, Value: name, Reason: err.Error() + "; nothing is exported"}
}

func warningsOf(file *ConfigFile) []error {
	var warnings []error
	for _, w := range file.Warnings {
		warnings = append(warnings, &w)
	}
	return warnings
}

// wayOut is one way out for a signal's telemetry, and where its settings are:
// in the environment, or at one place of a file.
type wayOut struct {
	name   string
	env    *environment
	reader []sdkmetric.PeriodicReaderOption
}

// outputs resolves the exporters of one signal; none are nil.
func (e *environment) outputs(signal string, without bool) ([]wayOut, error) {
	var outputs []wayOut
	if e.file == nil {
		list, err := e.exporters(signal, without)
		for _, name := range list {
			outputs = append(outputs, wayOut{name: name, env: e})
		}
		return outputs, err
	}
	var names []string
	for _, x := range map[string][]FileExporter{signalTraces: e.file.Traces, signalMetrics: e.file.Metrics, signalLogs: e.file.Logs}[signal] {
		origin := maps.Clone(e.origin)
		if origin == nil {
			origin = Variables{}
		}
		maps.Copy(origin, x.Variables)
		outputs = append(outputs, wayOut{x.Name, &environment{lookup: lookupIn(origin, e.lookup), origin: origin, parent: e}, x.ReaderOptions})
		names = append(names, x.Name)
	}
	e.set(signal+".exporters", orNone(names), e.sourceOf("config_file"))
	return outputs, nil
}

// readerOptions are those of a reader of metrics.
func (w wayOut) readerOptions(cfg metricConfig) []sdkmetric.PeriodicReaderOption {
	return append([]sdkmetric.PeriodicReaderOption{sdkmetric.WithInterval(cfg.interval), sdkmetric.WithTimeout(cfg.timeout)}, w.reader...)
}

// adopt lists the settings of a file's exporters: "traces.endpoint" of the
// first, "traces[1].endpoint" of the second.
func (e *environment) adopt(signal string, outputs []wayOut) {
	for i, out := range outputs {
		if out.env == e {
			continue
		}
		for _, s := range out.env.settings {
			if i > 0 {
				s.Name = fmt.Sprintf("%s[%d]%s", signal, i, strings.TrimPrefix(s.Name, signal))
			}
			e.settings = slices.DeleteFunc(e.settings, func(have Setting) bool { return have.Name == s.Name })
			e.settings = append(e.settings, s)
		}
	}
}

// at returns where a file says what source, a variable, is set to.
func (e *environment) at(source string) string {
	if v := e.origin[source]; v.Source != "" {
		return v.Source
	}
	return source
}

// located makes an error name the place in the file.
func (e *environment) located(err error) error {
	if ce, ok := err.(*ConfigError); ok { //nolint:errorlint // as it was made
		ce.Source = e.at(ce.Source)
	}
	return err
}
