package interceptors

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
)

// refuser returns what panics about a field of the policy: that is a mistake which
// should not survive the start of a program.
func refuser(policy string) func(field string, value any, want string) {
	return func(field string, value any, want string) {
		panic(fmt.Sprintf("interceptors: %s.%s is %v; want %s", policy, field, value, want))
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// checkedBudget is the field Budget of a policy, or its default.
func checkedBudget(refuse func(string, any, string), budget float64) float64 {
	if budget != budget || budget > 1 {
		refuse("Budget", budget, "a share of at most 1, 0 for the default of 0.1, or less for no limit")
	}
	setDefault(&budget, 0.1)
	return budget
}

// checkedFailures is a field of a policy that has codes of failures, or its default.
func checkedFailures(refuse func(string, any, string), field string, failures []codes.Code) []codes.Code {
	switch {
	case failures == nil:
		return []codes.Code{codes.Unavailable}
	case len(failures) == 0:
		refuse(field, failures, "at least one; nil is the default, UNAVAILABLE only")
	case slices.Contains(failures, codes.OK):
		refuse(field, failures, "no OK: that is no failure")
	case slices.Max(failures) > codes.Unauthenticated:
		refuse(field, failures, "codes of gRPC, which end with 16, Unauthenticated")
	}
	return slices.Clone(failures)
}
