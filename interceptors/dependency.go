package interceptors

import (
	"context"

	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
)

// dependencyFailed makes err what a client's call ends with when it is refused on this
// side, for a reason that is the dependency's: for the one who made the call err,
// and for whoever called that one the failure of another service, as if it had
// come over the wire (rule 17). cause, which may be nil, stays in the process.
func dependencyFailed(err *errors.Error, cause error) error {
	return converter.FromRPC(context.Background(), &unsent{err.GRPCStatus(), cause})
}

var converter = errors.NewConverter()

// unsent is the error of a call that never left.
type unsent struct {
	status *status.Status
	cause  error
}

func (e *unsent) Error() string {
	text := e.status.Code().String() + ": " + e.status.Message()
	if e.cause == nil {
		return text
	}
	return text + ": " + e.cause.Error()
}

func (e *unsent) GRPCStatus() *status.Status { return e.status }

// Is finds the cause. There is no Unwrap: a status that the cause has is not
// the call's.
func (e *unsent) Is(target error) bool { return e.cause != nil && errors.Is(e.cause, target) }
