package errors

import (
	"context"
	"database/sql"
	"io/fs"
	"net"
	"syscall"

	"google.golang.org/grpc/codes"
)

// A Mapper says what an error is that nobody has classified, one of a database
// driver for instance; nil if it does not know. It is asked only for errors
// without an *Error or a status in them, and need not set the cause.
type Mapper func(error) *Error

// mapContext is the default mapper for what a done context gives (rule 11).
func mapContext(err error) codes.Code {
	switch {
	case Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case Is(err, context.Canceled):
		return codes.Canceled
	}
	return codes.OK
}

// mapNetwork is the default mapper for a peer that cannot be reached.
func mapNetwork(err error) codes.Code {
	if op, ok := AsType[*net.OpError](err); ok && op.Op == "dial" && !Is(err, fs.ErrPermission) {
		return codes.Unavailable // a Unix socket that is missing is fs.ErrNotExist, too
	}
	if _, ok := AsType[*net.DNSError](err); ok || Is(err, syscall.ECONNREFUSED) || Is(err, syscall.ECONNRESET) {
		return codes.Unavailable
	}
	return codes.OK
}

// mapStandard is the default mapper for the sentinels of the standard library.
func mapStandard(err error) codes.Code {
	switch {
	case Is(err, sql.ErrNoRows), Is(err, fs.ErrNotExist):
		return codes.NotFound
	case Is(err, fs.ErrExist):
		return codes.AlreadyExists
	case Is(err, fs.ErrPermission):
		return codes.Internal // the service's permission, not the caller's
	case Is(err, ErrUnsupported):
		return codes.Unimplemented
	}
	return codes.OK
}

var defaultMappers = [...]func(error) codes.Code{mapContext, mapNetwork, mapStandard}

// mapOne is what the first mapper that knows err makes of it, or nil.
func (c *Converter) mapOne(err error) *Error {
	for _, m := range c.mappers {
		if e := m(err); e != nil {
			return e
		}
	}
	if c.withoutDefaults {
		return nil
	}
	for _, m := range defaultMappers {
		if code := m(err); code != codes.OK {
			return &Error{code: code, message: defaultText(code)}
		}
	}
	return nil
}

// mapAll is mapOne for joined errors, too: the most severe branch rules. Only
// what mappers say about the whole and about none of its branches is about the
// error that joins them, and goes before.
func (c *Converter) mapAll(err error) *Error {
	whole := c.mapOne(err)
	var v verdict
	said := whole == nil
	for _, branch := range branches(err) {
		if e := c.mapAll(branch); e != nil {
			v = v.or(verdict{err: e, rank: mapped})
			said = said || e.code == whole.code
		}
	}
	if said {
		return v.err
	}
	return whole
}

// branches are the errors that err joins, directly or beneath, or nil.
func branches(err error) []error {
	for err != nil {
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			return x.Unwrap()
		default:
			return nil
		}
	}
	return nil
}
