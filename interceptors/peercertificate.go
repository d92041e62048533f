package interceptors

import (
	"context"
	"crypto/x509"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/rpcscope/rpcscope/propagation"
)

// PeerCertificate is an [Authenticator] for calls over connections on which the
// client has shown a certificate that the server verified (mutual TLS). identity
// gets that certificate, which it must not modify, and returns whose it is; for
// what its errors mean see [Authenticator]. An AuthMethod that it leaves empty is
// "mtls", an ExpiresAt that it leaves zero the end of the certificate: a connection
// may outlast it.
//
// The server needs [crypto/tls.RequireAndVerifyClientCert], or
// VerifyClientCertIfGiven where it has callers without. A certificate that it has
// only asked for, and not verified, is [ErrUnauthenticated]; without a certificate,
// or TLS, a call has [ErrNoCredentials]. A nil identity panics.
func PeerCertificate(identity func(*x509.Certificate) (propagation.Identity, error)) Authenticator {
	if identity == nil {
		panic("interceptors: PeerCertificate: the function is nil; want one that says whose certificate it is")
	}
	return AuthenticatorFunc(func(ctx context.Context, _ *Call) (propagation.Identity, error) {
		leaf, err := peerCertificate(ctx)
		if err != nil {
			return propagation.Identity{}, err
		}
		id, err := identity(leaf)
		if err != nil {
			return propagation.Identity{}, err
		}
		if id.AuthMethod == "" {
			id.AuthMethod = "mtls"
		}
		if id.ExpiresAt.IsZero() {
			id.ExpiresAt = leaf.NotAfter
		}
		return id, nil
	})
}

func peerCertificate(ctx context.Context) (*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, ErrNoCredentials
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	switch {
	case !ok || len(info.State.PeerCertificates) == 0:
		return nil, ErrNoCredentials
	case len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0:
		return nil, malformed("the server has not verified the client's certificate; its tls.Config wants ClientAuth RequireAndVerifyClientCert or VerifyClientCertIfGiven")
	}
	return info.State.VerifiedChains[0][0], nil
}
