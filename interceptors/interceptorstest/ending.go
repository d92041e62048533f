package interceptorstest

import (
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/interceptors"
)

// ending is a way in which calls go.
type ending struct {
	name string

	codes []codes.Code // there is a call for each, whose handler ends with it
	stop  stop         // or whose handler waits for the caller to stop it

	midStream bool // the handler ends after the first message, not before
	failsOnce bool // it fails the first time only
	panics    bool // the rest of the call panics
	together  bool // the calls are made at the same time
}

// stop is how a caller stops a call.
type stop uint8

const (
	never   stop = iota
	cancel       // cancels and learns how the call ended
	abandon      // cancels and never asks
	expire       // its deadline passes
	expired      // its deadline has passed before the call
)

var (
	succeeds  = []codes.Code{codes.OK}
	fails     = []codes.Code{codes.Unavailable}
	everyCode = []codes.Code{
		codes.Canceled, codes.Unknown, codes.InvalidArgument, codes.DeadlineExceeded, codes.NotFound, codes.AlreadyExists,
		codes.PermissionDenied, codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange,
		codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss, codes.Unauthenticated,
	}
	// different is a code for each of the calls that are made together, which
	// must not get each other's.
	different = []codes.Code{
		codes.OK, codes.InvalidArgument, codes.OK, codes.NotFound, codes.OK, codes.FailedPrecondition, codes.OK, codes.PermissionDenied,
	}
)

// endings are those that calls of kind can have. A rejected call has but one.
func (s *suite) endings(side interceptors.Side, kind interceptors.Kind) []ending {
	all := []ending{{name: "ok", codes: succeeds}}
	if s.rejects == codes.OK {
		all = append(all, ending{name: "error", codes: everyCode})
		if kind != interceptors.Unary {
			all = append(all, ending{name: "error-mid-stream", codes: fails, midStream: true})
		}
		if s.retries {
			all = append(all, ending{name: "error-once", codes: fails, failsOnce: true})
		}
		all = append(all, ending{name: "panic", codes: succeeds, panics: true},
			ending{name: "cancel", codes: succeeds, stop: cancel})
		if kind != interceptors.Unary {
			all = append(all, ending{name: "abandon", codes: succeeds, stop: abandon})
		}
		all = append(all, ending{name: "deadline", codes: succeeds, stop: expire})
		if side == interceptors.ClientSide {
			all = append(all, ending{name: "expired", codes: succeeds, stop: expired})
		}
	}
	all = append(all, ending{name: "together", codes: different, together: true})
	if s.only != nil {
		all = slices.DeleteFunc(all, func(e ending) bool { return !slices.Contains(s.only, e.name) })
	}
	return all
}
