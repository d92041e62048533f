package interceptors_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

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
