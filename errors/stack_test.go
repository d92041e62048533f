package errors_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/grpc/codes"
)

// frames are the functions of a stack, without their package.
func frames(stack string) []string {
	var names []string
	for line := range strings.Lines(stack) {
		if name, ok := strings.CutSuffix(line, "(...)\n"); ok {
			names = append(names, name[strings.LastIndex(name, ".")+1:])
		}
	}
	return names
}

//go:noinline
func origin(fails func() error) error { return fails() }

// Rule 18: the stack is captured for server faults that are made here, and
// begins where they are made.
func TestRule18StackOfServerFaults(t *testing.T) {
	cause := errors.New("x")
	sentinel := errors.Define(codes.DataLoss, "d", "LOST", "")
	for name, test := range map[string]struct {
		fails func() error
		want  bool
	}{
		"Internal":             {func() error { return errors.Internal(cause) }, true},
		"Unknown":              {func() error { return errors.Unknown(cause) }, true},
		"DataLoss":             {func() error { return errors.DataLoss(cause) }, true},
		"Coded":                {func() error { return errors.Coded(codes.Internal, "x") }, true},
		"Wrap":                 {func() error { return errors.Wrap(cause, sentinel) }, true},
		"Internal of NotFound": {func() error { return errors.Internal(errors.NotFound("x")) }, true},
		"WithStack":            {func() error { return errors.NotFound("x").WithStack() }, true},
		"NotFound":             {func() error { return errors.NotFound("x") }, false},
		"Unavailable":          {func() error { return errors.Unavailable("x") }, false},
		"Coded, no fault":      {func() error { return errors.Coded(codes.Aborted, "x") }, false},
		"Wrap, no fault":       {func() error { return errors.Wrap(cause, errUserNotFound) }, false},
		"defined":              {func() error { return sentinel.With("k", "v") }, false},
		"converted to fault":   {func() error { return errors.NewConverter().Convert(t.Context(), cause) }, false},
		"translated to fault":  {func() error { return errors.NewConverter().Convert(t.Context(), remote(t, errors.NotFound(""))) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := errors.AsType[*errors.Error](origin(test.fails))
			got := frames(e.Stack())
			if !test.want {
				if len(got) != 0 {
					t.Errorf("got a stack: %v", got)
				}
				return
			}
			if len(got) < 3 || !strings.HasPrefix(got[0], "func") || got[1] != "origin" {
				t.Fatalf("got %v, want the function that made it, then origin", got)
			}
		})
	}
}

// Rule 18: the stack is from where the error was made, not from where it was
// wrapped or converted; it is formatted like debug.Stack's frames.
func TestRule18StackOfOrigin(t *testing.T) {
	inner := origin(func() error { return errors.Internal(errors.New("x")) })
	outer := errors.Internal(fmt.Errorf("y: %w", errors.Internal(inner)))
	converted := errors.NewConverter().Convert(t.Context(), fmt.Errorf("z: %w", outer))
	want, _ := errors.AsType[*errors.Error](inner)
	for name, e := range map[string]*errors.Error{"wrapped": outer, "converted": converted, "copied": converted.With("k", "v")} {
		if e.Stack() != want.Stack() {
			t.Errorf("%s: got\n%s\nwant\n%s", name, e.Stack(), want.Stack())
		}
	}
	if format := regexp.MustCompile(`^(\S+\(\.\.\.\)\n\t/\S+\.go:\d+\n)+$`); !format.MatchString(want.Stack()) {
		t.Errorf("got\n%s", want.Stack())
	}
	if strings.Contains(want.Stack(), "goexit") {
		t.Errorf("the runtime's own end is shown:\n%s", want.Stack())
	}
}

//go:noinline
func panics() { panic("boom") }

// Rule 10: captured where a panic was recovered, the stack shows who panicked.
func TestRule10StackOfPanic(t *testing.T) {
	recovered := func() (err error) {
		defer func() { err = errors.Internal(fmt.Errorf("panic: %v", recover())) }()
		panics()
		return nil
	}
	e, _ := errors.AsType[*errors.Error](recovered())
	got := strings.Join(frames(e.Stack()), " ")
	if !strings.Contains(got, "gopanic panics ") {
		t.Errorf("got %s", got)
	}
	if e.Message() != "internal error" || e.Error() != "Internal: panic: boom" {
		t.Errorf("got %q and %q", e.Message(), e.Error())
	}
}
