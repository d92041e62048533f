package errors

import (
	"fmt"
	"runtime"
	"strings"
)

// maxFrames bounds a captured stack; the frames nearest to the error are kept.
const maxFrames = 64

// Stack is where e was made, formatted like the frames of [debug.Stack], or ""
// when that was not captured. If e has no stack, it is that of the nearest
// error beneath it which has one.
//
// It is captured by [Internal], [Unknown] and [DataLoss], by [Coded] and [Wrap]
// with one of these codes unless the cause has a stack, and by
// [Error.WithStack]. In a deferred function that has recovered a panic it shows
// the frames that panicked. It is never sent; formatting costs much more than
// capturing, so it is done here.
//
// [debug.Stack]: https://pkg.go.dev/runtime/debug#Stack
func (e *Error) Stack() string {
	pcs := e.pcs()
	if len(pcs) == 0 {
		return ""
	}
	var b strings.Builder
	frames := runtime.CallersFrames(pcs)
	for {
		frame, more := frames.Next()
		if frame.Function != "runtime.goexit" {
			fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		}
		if !more {
			return b.String()
		}
	}
}

// pcs is the stack of e or of the nearest error beneath it that has one.
func (e *Error) pcs() []uintptr {
	for e != nil {
		if e.stack != nil {
			return e.stack
		}
		e, _ = AsType[*Error](e.cause)
	}
	return nil
}

// captureBeneath is the stack of the caller, skip frames up, unless cause
// already knows where it was made.
func captureBeneath(cause error, skip int) []uintptr {
	if e, ok := AsType[*Error](cause); ok && e.pcs() != nil {
		return nil
	}
	return capture(skip + 1)
}

// capture is the stack of the caller, skip frames up.
func capture(skip int) []uintptr {
	var pcs [maxFrames]uintptr
	n := runtime.Callers(skip+2, pcs[:])
	return append([]uintptr(nil), pcs[:n]...)
}
