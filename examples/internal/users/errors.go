package users

import (
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// Domain is the error domain of the users service.
const Domain = "users.rpcscope.dev"

// The errors of the users service. A handler returns them, a client matches them with errors.Is: they are told apart by
// domain and reason, which cross the wire.
var (
	ErrNotFound   = errors.Define(codes.NotFound, Domain, "USER_NOT_FOUND", "user {id} not found")
	ErrEmailTaken = errors.Define(codes.AlreadyExists, Domain, "USER_EMAIL_TAKEN", "the e-mail address {email} is taken")
	ErrInvalid    = errors.Define(codes.InvalidArgument, Domain, "USER_INVALID", "the user is not valid")

	ErrLoginFailed = errors.Define(codes.Unauthenticated, Domain, "LOGIN_FAILED", "the e-mail address or the password is wrong")
	ErrNoSession   = errors.Define(codes.Unauthenticated, Domain, "NO_SESSION", "the session is over: log in again")

	ErrNumberOfIDs    = errors.Define(codes.InvalidArgument, Domain, "NUMBER_OF_IDS", "1 to {max} ids can be asked for, got {got}")
	ErrImportTooLarge = errors.Define(codes.ResourceExhausted, Domain, "IMPORT_TOO_LARGE", "an import takes at most {max} users")

	ErrWatchInvalid   = errors.Define(codes.InvalidArgument, Domain, "WATCH_INVALID", "the message is not valid here")
	ErrWatcherTooSlow = errors.Define(codes.ResourceExhausted, Domain, "WATCHER_TOO_SLOW", "more than {max} users are waiting for this watcher: list the users and watch again")
	ErrStopping       = errors.Define(codes.Unavailable, Domain, "SERVER_STOPPING", "the server is stopping: try again")
)
