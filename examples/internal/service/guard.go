package service

import (
	"context"
	"time"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/interceptors"
)

const (
	maxCall   = 30 * time.Second // of a call whose caller set no deadline, or a longer one; following has no end
	maxAtOnce = 256              // calls, those that follow apart
	logins    = 5                // attempts to sign up or to log in a second, from one address
	loginsMax = 20               // at once
)

// guard is who may call what, how often and for how long. The order is the one that package interceptors advises: what
// costs least, and protects what is behind it, is outermost.
func guard(s *sessions.Sessions, perUser interceptors.Limiter) interceptors.Interceptor {
	entrance := interceptors.Methods(usersv1.SessionService_SignUp_FullMethodName, usersv1.SessionService_LogIn_FullMethodName)
	tools := interceptors.Methods("/grpc.health.v1.Health/*", "/grpc.reflection.v1.ServerReflection/*", "/grpc.reflection.v1alpha.ServerReflection/*")
	follows := interceptors.Methods(usersv1.UserService_WatchUsers_FullMethodName)
	return interceptors.Chain(
		interceptors.For(interceptors.Not(follows), interceptors.MaxTimeout(maxCall), interceptors.ConcurrencyLimit(maxAtOnce)),
		interceptors.Authenticate(interceptors.BearerToken(s.Identify), interceptors.AllowAnonymous(tools), interceptors.AllowAnonymous(entrance)),
		interceptors.For(entrance, interceptors.RateLimit(interceptors.NewTokenBucket(logins, loginsMax), interceptors.ByPeer, interceptors.PolicyName("logins"))),
		interceptors.For(interceptors.Not(tools), interceptors.RateLimit(perUser, interceptors.ByUser, interceptors.PolicyName("users"))),
		interceptors.Authorize(
			interceptors.Anyone("/grpc.health.v1.Health/*"),
			interceptors.Anyone("/grpc.reflection.v1.ServerReflection/*"),
			interceptors.Anyone("/grpc.reflection.v1alpha.ServerReflection/*"),
			interceptors.Anyone(usersv1.SessionService_SignUp_FullMethodName),
			interceptors.Anyone(usersv1.SessionService_LogIn_FullMethodName),
			interceptors.Allow("/users.v1.SessionService/*"),
			interceptors.Allow(usersv1.UserService_ListUsers_FullMethodName, interceptors.Role(users.RoleAdmin)),
			interceptors.Allow(usersv1.UserService_DeleteUser_FullMethodName, interceptors.Role(users.RoleAdmin)),
			interceptors.Allow(usersv1.UserService_ListEvents_FullMethodName, interceptors.Role(users.RoleAdmin)),
			interceptors.Allow("/users.v1.UserService/*"),
		),
	)
}

// valid is an interceptors.Validator. An import is not its business: whoever sends one is told which of the users is wrong.
func valid(_ context.Context, message any) error {
	switch m := message.(type) {
	case *usersv1.CreateUserRequest:
		return newUser(m.GetUser()).Validate()
	case *usersv1.SignUpRequest:
		return sessions.Validate(newUser(m.GetUser()), m.GetPassword())
	}
	return nil
}
