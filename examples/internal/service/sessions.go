package service

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/propagation"
)

// SessionService implements users.v1.SessionService. Guard has let in whom its methods speak of.
type SessionService struct {
	usersv1.UnimplementedSessionServiceServer
	users *Service
}

// SignUp implements usersv1.SessionServiceServer.
func (s *SessionService) SignUp(ctx context.Context, req *usersv1.SignUpRequest) (*usersv1.SignUpResponse, error) {
	if err := s.users.faults.Inject(ctx); err != nil {
		return nil, err
	}
	wanted := newUser(req.GetUser())
	wanted.ID = users.NewID()
	if err := s.users.audit.Record(ctx, "user.sign_up", wanted.ID); err != nil {
		return nil, err
	}
	created, err := s.users.sessions.SignUp(ctx, wanted, req.GetPassword())
	if err != nil {
		return nil, err
	}
	s.users.hub.publish(message(created))
	session, err := opened(s.users.sessions.Open(ctx, created))
	return &usersv1.SignUpResponse{Session: session}, err
}

// LogIn implements usersv1.SessionServiceServer.
func (s *SessionService) LogIn(ctx context.Context, req *usersv1.LogInRequest) (*usersv1.LogInResponse, error) {
	if err := s.users.faults.Inject(ctx); err != nil {
		return nil, err
	}
	session, err := opened(s.users.sessions.LogIn(ctx, req.GetEmail(), req.GetPassword()))
	return &usersv1.LogInResponse{Session: session}, err
}

func opened(token string, s store.Session, err error) (*usersv1.Session, error) {
	return &usersv1.Session{Token: token, ExpireTime: timestamppb.New(s.Expires), User: message(s.User)}, err
}

// GetSession implements usersv1.SessionServiceServer.
func (s *SessionService) GetSession(ctx context.Context, _ *usersv1.GetSessionRequest) (*usersv1.GetSessionResponse, error) {
	if err := s.users.faults.Inject(ctx); err != nil {
		return nil, err
	}
	id, _ := propagation.IdentityFromContext(ctx)
	for user, err := range s.users.store.Get(ctx, id.UserID) {
		if err != nil {
			return nil, err
		}
		return &usersv1.GetSessionResponse{Session: &usersv1.Session{ExpireTime: timestamppb.New(id.ExpiresAt), User: message(user)}}, nil
	}
	return nil, users.ErrNoSession
}

// LogOut implements usersv1.SessionServiceServer.
func (s *SessionService) LogOut(ctx context.Context, _ *usersv1.LogOutRequest) (*usersv1.LogOutResponse, error) {
	if err := s.users.faults.Inject(ctx); err != nil {
		return nil, err
	}
	id, _ := propagation.IdentityFromContext(ctx)
	return &usersv1.LogOutResponse{}, s.users.sessions.Close(ctx, id.SessionID)
}
