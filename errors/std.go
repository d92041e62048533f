package errors

import stderrors "errors"

// ErrUnsupported is [errors.ErrUnsupported] of the standard library. Returned
// by a handler it becomes Unimplemented.
var ErrUnsupported = stderrors.ErrUnsupported

// New is [errors.New] of the standard library. Its text is private: returned by
// a handler the error becomes Unknown, without it.
func New(text string) error { return stderrors.New(text) }

// Is is [errors.Is] of the standard library. For a defined error it holds on
// both sides of a connection, see [Error.Is].
func Is(err, target error) bool { return stderrors.Is(err, target) }

// As is [errors.As] of the standard library.
func As(err error, target any) bool { return stderrors.As(err, target) }

// AsType is [errors.AsType] of the standard library.
func AsType[E error](err error) (E, bool) { return stderrors.AsType[E](err) }

// Join is [errors.Join] of the standard library. How joined errors are
// classified is told at [Converter.Convert].
func Join(errs ...error) error { return stderrors.Join(errs...) }

// Unwrap is [errors.Unwrap] of the standard library.
func Unwrap(err error) error { return stderrors.Unwrap(err) }
