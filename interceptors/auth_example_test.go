package interceptors_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Callers show a token; who is not known is told so before the handler runs.
func ExampleAuthenticate() {
	sessions := map[string]propagation.Identity{"s3cr3t": {UserID: "ada", Roles: []string{"admin"}}}
	authenticate := interceptors.Authenticate(
		interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
			id, ok := sessions[token]
			if !ok {
				return propagation.Identity{}, errors.New("no such session")
			}
			return id, nil
		}),
		interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*")),
		interceptors.Recheck(10*time.Minute), // ends streams of sessions that were ended
	)
	server := grpc.NewServer(interceptors.ServerOptions(authenticate)...)
	defer server.Stop()

	for _, token := range []string{"s3cr3t", "guess"} {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+token))
		err := authenticate(ctx, &interceptors.Call{FullMethod: "/users.v1.UserService/GetUser"}, func(ctx context.Context) error {
			id, _ := propagation.IdentityFromContext(ctx)
			fmt.Println(id.UserID, id.AuthMethod, id.Verified())
			return nil
		})
		if err != nil {
			fmt.Println(errors.Code(err), errors.Message(err))
		}
	}
	// Output:
	// ada bearer true
	// Unauthenticated the credentials are not valid
}

// The first rule that matches decides, and what no rule matches nobody may call.
func ExampleAuthorize() {
	authorize := interceptors.Authorize(
		interceptors.Anyone("/grpc.health.v1.Health/*"),
		interceptors.Allow("/users.v1.UserService/DeleteUser", interceptors.Role("admin")),
		interceptors.Allow("/users.v1.UserService/*", interceptors.AnyOf(interceptors.Role("admin"), interceptors.Scope("users.read"))),
	)
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: "ada", Scopes: []string{"users.read"}})
	for _, method := range []string{"/users.v1.UserService/GetUser", "/users.v1.UserService/DeleteUser", "/audit.v1.AuditService/List"} {
		err := authorize(ctx, &interceptors.Call{FullMethod: method}, func(context.Context) error { return nil })
		fmt.Println(method, errors.Code(err))
	}
	// Output:
	// /users.v1.UserService/GetUser OK
	// /users.v1.UserService/DeleteUser PermissionDenied
	// /audit.v1.AuditService/List PermissionDenied
}

// whoami answers with who calls, and how that is known.
func whoami(ctx context.Context) error {
	id, _ := propagation.IdentityFromContext(ctx)
	fmt.Println(id.UserID, "by", id.AuthMethod)
	return nil
}

// with is the context of a server's call that has the header.
func with(header, value string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs(header, value))
}

// A service that has the key is billing.
func ExampleHeaderValue() {
	key := "correct-horse-battery-staple" // of the environment, say
	authenticate := interceptors.Authenticate(interceptors.HeaderValue("x-api-key", key, propagation.Identity{UserID: "billing"}))

	call := &interceptors.Call{FullMethod: "/users.v1.UserService/ListUsers"}
	for _, ctx := range []context.Context{with("x-api-key", key), with("x-api-key", "guess"), with("x-api-kee", key)} {
		if err := authenticate(ctx, call, whoami); err != nil {
			fmt.Println(errors.Code(err), errors.Message(err))
		}
	}
	// Output:
	// billing by header
	// Unauthenticated the credentials are not valid
	// Unauthenticated authentication is required
}

// overTLS is the context of a server's call over a connection on which the client has
// shown a certificate that the server verified.
func overTLS(certificate *x509.Certificate) context.Context {
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}, VerifiedChains: [][]*x509.Certificate{{certificate}}}
	return peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

// spiffe makes an identity of a certificate that names a workload (SPIFFE).
func spiffe(certificate *x509.Certificate) (propagation.Identity, error) {
	for _, uri := range certificate.URIs {
		if uri.Scheme == "spiffe" && uri.Host == "example.org" {
			return propagation.Identity{UserID: uri.Path, Roles: []string{"service"}}, nil
		}
	}
	return propagation.Identity{}, fmt.Errorf("the certificate %s is not of example.org", certificate.SerialNumber)
}

// billing is the certificate of a workload.
var billing = &x509.Certificate{
	URIs:     []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/billing"}},
	NotAfter: time.Now().Add(time.Hour),
}

// The server has a tls.Config with ClientAuth: tls.RequireAndVerifyClientCert.
func ExamplePeerCertificate() {
	authenticate := interceptors.Authenticate(interceptors.PeerCertificate(spiffe))

	call := &interceptors.Call{FullMethod: "/users.v1.UserService/ListUsers"}
	if err := authenticate(overTLS(billing), call, whoami); err != nil {
		fmt.Println(err)
	}
	if err := authenticate(context.Background(), call, whoami); err != nil {
		fmt.Println(errors.Code(err), errors.Message(err))
	}
	// Output:
	// /billing by mtls
	// Unauthenticated authentication is required
}

// People have tokens and services have certificates.
func ExampleFirstOf() {
	authenticate := interceptors.Authenticate(interceptors.FirstOf(
		interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
			if token != "s3cr3t" {
				return propagation.Identity{}, errors.New("no such session")
			}
			return propagation.Identity{UserID: "ada"}, nil
		}),
		interceptors.PeerCertificate(spiffe),
	))
	call := &interceptors.Call{FullMethod: "/users.v1.UserService/ListUsers"}
	for _, ctx := range []context.Context{with("authorization", "Bearer s3cr3t"), overTLS(billing), with("authorization", "Bearer guess"), context.Background()} {
		if err := authenticate(ctx, call, whoami); err != nil {
			fmt.Println(errors.Code(err), errors.Message(err))
		}
	}
	// Output:
	// ada by bearer
	// /billing by mtls
	// Unauthenticated the credentials are not valid
	// Unauthenticated authentication is required
}

// A stream ends when the session does that it was opened with: after ten minutes at
// most in real life, and here at once.
func ExampleRecheck() {
	var sessions sync.Map
	sessions.Store("s3cr3t", "ada")
	authenticate := interceptors.Authenticate(
		interceptors.BearerToken(func(_ context.Context, token string) (propagation.Identity, error) {
			user, ok := sessions.Load(token)
			if !ok {
				return propagation.Identity{}, errors.New("no such session")
			}
			return propagation.Identity{UserID: user.(string)}, nil
		}),
		interceptors.Recheck(time.Millisecond),
	)
	watch := &interceptors.Call{FullMethod: "/users.v1.UserService/WatchUsers", Kind: interceptors.ServerStream}
	err := authenticate(with("authorization", "Bearer s3cr3t"), watch, func(ctx context.Context) error {
		_ = whoami(ctx)
		sessions.Delete("s3cr3t") // she logs out elsewhere
		<-ctx.Done()
		return ctx.Err()
	})
	fmt.Println(errors.Code(err), errors.Message(err))
	// Output:
	// ada by bearer
	// Unauthenticated the credentials are not valid
}
