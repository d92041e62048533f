package telemetrytest

import (
	"slices"
	"strings"
)

// filters select from what was recorded, all of them together, and say so in
// the words of a failure. The nil value selects everything.
type filters[T any] []filter[T]

type filter[T any] struct {
	what string
	ok   func(T) bool
}

// and returns f with one filter more; f itself may be shared and stays as it is.
func (f filters[T]) and(what string, ok func(T) bool) filters[T] {
	return append(slices.Clip(f), filter[T]{what, ok})
}

func (f filters[T]) match(v T) bool {
	return !slices.ContainsFunc(f, func(one filter[T]) bool { return !one.ok(v) })
}

// String returns the filters as "named ..., with ...".
func (f filters[T]) String() string {
	what := make([]string, len(f))
	for i, one := range f {
		what[i] = one.what
	}
	return strings.Join(what, ", ")
}
