package interceptorstest

import (
	"errors"
	"testing"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Run tests i: it makes calls of all four kinds through real servers and
// clients with i on each side, in a subtest for each side, kind and ending
// such as "server/bidi_stream/panic", and calls t.Error with every [Violation].
//
// What i does beyond observing calls has to be declared with opts; without any
// it has to let every call happen, and unchanged. It takes about a second where
// i behaves; what i never does is waited for five seconds each time. Invalid
// options and a nil i fail t at once. A nil option is skipped.
func Run(t *testing.T, i interceptors.Interceptor, opts ...Option) {
	t.Helper()
	s, err := newSuite(i, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range s.sides {
		t.Run(side.String(), func(t *testing.T) {
			for _, kind := range s.kinds {
				t.Run(kind.String(), func(t *testing.T) {
					for _, e := range s.endings(side, kind) {
						t.Run(e.name, func(t *testing.T) {
							for _, err := range s.run(situation{side, kind, e}) {
								report(t, err)
							}
						})
					}
				})
			}
		})
	}
}

func report(t *testing.T, err error) {
	t.Helper()
	var v *Violation
	if !errors.As(err, &v) {
		t.Error(err)
		return
	}
	t.Errorf("%s: %s\n    rule: %s\n    what to do: %s", v.Obligation, v.Got, v.Rule, v.Remedy)
}

// Check does what [Run] does without a test. It returns every [Violation] that
// it found, combined with [errors.Join], and nil if i behaves. Errors that are
// no Violation say what is wrong with the options, or that calls of the test
// never got to i.
func Check(i interceptors.Interceptor, opts ...Option) error {
	s, err := newSuite(i, opts)
	if err != nil {
		return err
	}
	var found []error
	for _, side := range s.sides {
		for _, kind := range s.kinds {
			for _, e := range s.endings(side, kind) {
				found = append(found, s.run(situation{side, kind, e})...)
			}
		}
	}
	return errors.Join(found...)
}

// situation is one of those that an interceptor has to be right in.
type situation struct {
	side   interceptors.Side
	kind   interceptors.Kind
	ending ending
}
