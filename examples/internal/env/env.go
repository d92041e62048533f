// Package env takes the defaults of flags from the environment: a flag wins over its variable, a variable over the default.
package env

import (
	"flag"
	"fmt"
	"os"
)

// Var says that variable holds the default of the flag name, and mentions it in the flag's usage. A value that the flag
// does not take is an error naming the variable.
func Var(fs *flag.FlagSet, name, variable string) error {
	f := fs.Lookup(name)
	f.Usage += " ($" + variable + ")"
	value, ok := os.LookupEnv(variable)
	if !ok || value == "" {
		return nil
	}
	if err := fs.Set(name, value); err != nil {
		return fmt.Errorf("%s=%q, want what -%s takes: %w", variable, value, name, err)
	}
	f.DefValue = value
	return nil
}

// Parse parses args, the command line without the name of the program, after Vars.
func Parse(fs *flag.FlagSet, args []string, pairs map[string]string) error {
	if err := Vars(fs, pairs); err != nil {
		return err
	}
	return fs.Parse(args)
}

// Vars is Var for each flag name and variable of pairs.
func Vars(fs *flag.FlagSet, pairs map[string]string) error {
	for name, variable := range pairs {
		if err := Var(fs, name, variable); err != nil {
			return err
		}
	}
	return nil
}
