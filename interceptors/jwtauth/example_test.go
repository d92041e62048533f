package jwtauth_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/jwtauth"
)

// A server whose callers have tokens of an OpenID Connect provider.
func Example() {
	verifier, err := jwtauth.New(context.Background(), jwtauth.Config{
		JWKSURL:   "https://id.example.com/realms/acme/protocol/openid-connect/certs",
		Issuer:    "https://id.example.com/realms/acme",
		Audiences: []string{"users-api"},
		Claims:    jwtauth.Claims{Roles: "realm_access.roles"},
	})
	if err != nil {
		log.Fatal(err) // the configuration is wrong
	}
	defer func() { _ = verifier.Close() }()

	server := grpc.NewServer(interceptors.ServerOptions(
		interceptors.Authenticate(verifier, interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*"))),
		interceptors.Authorize(
			interceptors.Anyone("/grpc.health.v1.Health/*"),
			interceptors.Allow("/users.v1.UserService/DeleteUser", interceptors.Role("admin")),
			interceptors.Allow("/users.v1.UserService/*", interceptors.Scope("users.read")),
		),
	)...)
	defer server.Stop()
}

// A mistake is found at the start, before anything is fetched.
func ExampleNew() {
	_, err := jwtauth.New(context.Background(), jwtauth.Config{
		JWKSURL:    "https://id.example.com/keys",
		Issuer:     "https://id.example.com",
		Audiences:  []string{"users-api"},
		Algorithms: []string{"HS256"},
	})
	fmt.Println(err)
	// Output: jwtauth: Algorithms: "HS256" is not one of public keys; want some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA
}
