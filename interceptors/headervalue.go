package interceptors

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/rpcscope/rpcscope/propagation"
)

// HeaderValue is an [Authenticator] for calls that have a secret as the value of
// a header, an API key for instance; whoever has it is as:
//
//	HeaderValue("x-api-key", os.Getenv("API_KEY"), propagation.Identity{UserID: "billing"})
//
// The time that the comparison takes tells nothing about the secret, its length
// included. Without the header the call has [ErrNoCredentials]; with another
// value, or several, it is [ErrUnauthenticated]. An AuthMethod that is empty is
// "header".
//
// An empty value, which an unset variable would be, and a name that no header can
// have panic: such a server must not start.
func HeaderValue(header, value string, as propagation.Identity) Authenticator {
	header = strings.ToLower(header)
	if !headerName(header) {
		panic(fmt.Sprintf("interceptors: HeaderValue: %q can be no header of a call; want letters, digits, '-', '_' and '.', and no \"grpc-\" at the start", header))
	}
	if value == "" {
		panic(fmt.Sprintf("interceptors: HeaderValue: the value of %q is empty, which everybody could send; want a secret", header))
	}
	if as.AuthMethod == "" {
		as.AuthMethod = "header"
	}
	want := sha256.Sum256([]byte(value))
	return AuthenticatorFunc(func(ctx context.Context, _ *Call) (propagation.Identity, error) {
		sent, err := onlyValue(ctx, header)
		if err != nil {
			return propagation.Identity{}, err
		}
		var room [128]byte
		got := sha256.Sum256(append(room[:0], sent...))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return propagation.Identity{}, malformed("the %s header has another value", header)
		}
		return as, nil
	})
}

// headerName tells whether a call may have such a header (gRPC's PROTOCOL-HTTP2).
func headerName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && !strings.HasPrefix(s, "grpc-")
}
