package main

import (
	stderrors "errors"
	"fmt"
)

// An operation is a row of the table. prepare returns what is measured, nil where
// the contender has no such thing.
type operation struct {
	name    string
	prepare func(contender) func()
}

var operations = []operation{
	{"make, with a text", func(c contender) func() { return func() { keep = c.text(7) } }},
	{"make, with an identity", func(c contender) func() { return func() { keep = c.identity(7) } }},
	{"make a fault of a cause", func(c contender) func() { return func() { keep = c.fault(errCause) } }},
	{"send, with a text", sending(func(c contender) error { return c.text(7) })},
	{"send, with an identity", sending(func(c contender) error { return c.identity(7) })},
	{"send, wrapped ten times", sending(func(c contender) error { return wrapped(c.text(7)) })},
	{"send a fault", sending(func(c contender) error { return c.fault(errCause) })},
	{"receive a text, ask for the code", func(c contender) func() {
		if c.receive == nil {
			return nil
		}
		b := c.send(c.text(7))
		return func() { keep = c.code(c.receive(b)) }
	}},
	{"receive an identity, compare", func(c contender) func() {
		if c.receive == nil {
			return nil
		}
		b := c.send(c.identity(7))
		return func() { keep = c.is(c.receive(b)) }
	}},
	{"code of an error, wrapped ten times", func(c contender) func() {
		err := wrapped(c.text(7))
		return func() { keep = c.code(err) }
	}},
}

func sending(of func(contender) error) func(contender) func() {
	return func(c contender) func() {
		err := of(c)
		return func() { keep = c.send(err) }
	}
}

var (
	errCause = stderrors.New("disk full")
	keep     any // so that nothing measured is optimised away
)

func wrapped(err error) error {
	for i := range 10 {
		err = fmt.Errorf("layer %d: %w", i, err)
	}
	return err
}
