// Package vet has the mistakes in formats that go vet must report, each in a
// line that says so.
package vet

import (
	"io"

	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/grpc/codes"
)

func formats(text string) []error {
	return []error{
		errors.NotFound("user %d", 7),
		errors.NotFound("user %d: %w", 7, io.EOF),
		errors.NotFound("100%%"),
		errors.NotFound("%s", text),

		errors.Canceled(text),                    // report
		errors.InvalidArgument("%d", "x"),        // report
		errors.DeadlineExceeded("%d"),            // report
		errors.NotFound("x", 7),                  // report
		errors.AlreadyExists("%y", 7),            // report
		errors.PermissionDenied(text),            // report
		errors.ResourceExhausted("%d", "x"),      // report
		errors.FailedPrecondition("%d"),          // report
		errors.Aborted("%d", "x"),                // report
		errors.OutOfRange("x", 7),                // report
		errors.Unimplemented("%y", 7),            // report
		errors.Unavailable(text),                 // report
		errors.Unauthenticated("%w", "no error"), // report
		errors.Coded(codes.Internal, text),       // report
		errors.Coded(codes.Internal, "%d", "x"),  // report
	}
}
