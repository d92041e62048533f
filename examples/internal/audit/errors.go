package audit

import (
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// Domain is the error domain of the audit service.
const Domain = "audit.rpcscope.dev"

// The errors of the audit service, on both sides of the wire.
var (
	ErrInvalid  = errors.Define(codes.InvalidArgument, Domain, "EVENT_INVALID", "the event is not valid")
	ErrNoEvents = errors.Define(codes.NotFound, Domain, "NO_EVENTS", "nothing is known of {subject}")
)
