package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

const secret = "correct-horse-battery-staple"

// ada is who has the secret. An identity with a tenant takes two allocations more
// in a call, for tenant.id on span and log: whoever puts it into the context.
var ada = propagation.Identity{UserID: "ada", Roles: []string{"admin"}, Scopes: []string{"users.read", "users.write"}}

func has(token string) bool { return subtle.ConstantTimeCompare([]byte(token), []byte(secret)) == 1 }

func bearing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
}

type adaKey struct{}

// go-grpc-middleware's, with the function of its documentation.
func middlewareAuth() grpc.UnaryServerInterceptor {
	return auth.UnaryServerInterceptor(func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			return nil, err
		}
		if !has(token) {
			return nil, status.Error(codes.Unauthenticated, "invalid auth token")
		}
		return context.WithValue(ctx, adaKey{}, &ada), nil
	})
}

// The token is compared and no more: what a JWT takes is its signature.
var authenticateBearer = scenario{
	name: "`Authenticate`, bearer token",
	ours: func() interceptors.Interceptor {
		return interceptors.Authenticate(interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
			if !has(token) {
				return propagation.Identity{}, errors.New("unknown token")
			}
			return ada, nil
		}))
	},
	peer: "auth", theirs: middlewareAuth, context: bearing,
}

var authenticateHeader = scenario{
	name: "`Authenticate`, header value",
	ours: func() interceptors.Interceptor {
		return interceptors.Authenticate(interceptors.HeaderValue("authorization", "Bearer "+secret, ada))
	},
	peer: "auth", theirs: middlewareAuth, context: bearing,
}

// The connection is one in memory: what a call over TLS would know of its peer is
// there before, and is not counted. go-grpc-middleware has no such thing.
var authenticateCertificate = scenario{
	name: "`Authenticate`, peer certificate",
	ours: func() interceptors.Interceptor {
		return interceptors.Chain(overTLS, interceptors.Authenticate(interceptors.PeerCertificate(func(*x509.Certificate) (propagation.Identity, error) { return ada, nil })))
	},
	base: interceptors.Chain(overTLS, noop),
}

func overTLS(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
	return next(peer.NewContext(ctx, tlsPeer))
}

var tlsPeer = func() *peer.Peer {
	certificate := &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}
	return &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{certificate}, VerifiedChains: [][]*x509.Certificate{{certificate}},
	}}}
}()

// go-grpc-middleware has nothing that decides by role or scope. Who calls is known
// before, and what that takes is not counted in a call.
var authorizeScope = scenario{
	name: "`Authorize`, the third of four rules, a role and a scope",
	ours: func() interceptors.Interceptor {
		return interceptors.Chain(asAda, interceptors.Authorize(
			interceptors.Anyone("/grpc.health.v1.Health/*"),
			interceptors.Allow("/users.v1.UserService/*", interceptors.Role("owner")),
			interceptors.Allow("/grpc.testing.TestService/*", interceptors.Role("admin"), interceptors.Scope("users.write")),
			interceptors.Anyone("*"),
		))
	},
	base: interceptors.Chain(asAda, noop),
}

func asAda(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
	return next(propagation.ContextWithIdentity(ctx, ada))
}
