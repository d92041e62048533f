package interceptors

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// FirstOf is an [Authenticator] for callers of several kinds, such as users with
// tokens of one issuer or another and services with certificates:
//
//	FirstOf(BearerToken(verify), PeerCertificate(service))
//
// They are asked in order, and the first that recognises the caller counts, also
// where an earlier one refused it. Where none does, the call ends with the first
// error that is not Unauthenticated, since then nobody knows; else with the first
// that is not [ErrNoCredentials]; else with that. nil ones are skipped; without any
// it panics.
func FirstOf(authenticators ...Authenticator) Authenticator {
	all := slices.DeleteFunc(slices.Clone(authenticators), isNil[Authenticator])
	if len(all) == 0 {
		panic("interceptors: FirstOf: no Authenticator given, which would refuse every call")
	}
	return AuthenticatorFunc(func(ctx context.Context, call *Call) (propagation.Identity, error) {
		var worst error
		for _, a := range all {
			id, err := identify(ctx, call, a)
			if err == nil {
				return id, nil
			}
			if worst == nil || gravity(err) > gravity(worst) {
				worst = err
			}
		}
		return propagation.Identity{}, worst
	})
}

// gravity orders the errors of authenticators by how much they tell.
func gravity(err error) int {
	switch {
	case errors.Code(err) != codes.Unauthenticated:
		return 2
	case !errors.Is(err, ErrNoCredentials):
		return 1
	}
	return 0
}
