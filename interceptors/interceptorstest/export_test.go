package interceptorstest

import (
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Patience sets how long the suite waits for what ought to happen soon, which
// broken interceptors make it do to the end.
func Patience(d time.Duration) Option {
	return func(s *suite) error {
		s.patience = d
		return nil
	}
}

// Endings restricts the suite to some, since each costs patience.
func Endings(names ...string) Option {
	return func(s *suite) error {
		s.only = names
		return nil
	}
}

// Situations lists what the suite tests, as the names of Run's subtests.
func Situations(t *testing.T, opts ...Option) (names []string) {
	t.Helper()
	s, err := newSuite(interceptors.Chain(), opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range s.sides {
		for _, kind := range s.kinds {
			for _, e := range s.endings(side, kind) {
				names = append(names, side.String()+"/"+kind.String()+"/"+e.name)
			}
		}
	}
	return names
}
