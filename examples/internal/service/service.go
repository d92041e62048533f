package service

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

const (
	maxIDs    = 1000 // of one GetUsers
	maxImport = 1000 // users of one ImportUsers, which are held in memory
	maxQueue  = 4096 // users waiting for one watcher
)

// Needs are what a Service works with.
type Needs struct {
	Users    *store.Store
	Sessions *sessions.Sessions // nil: nobody signs up or in, and everybody may do everything
	Audit    *audit.Client      // nil: nobody is told who did what
	Faults   fault.Injector     // nil: none
}

// Service implements users.v1.UserService.
type Service struct {
	usersv1.UnimplementedUserServiceServer
	store    *store.Store
	sessions *sessions.Sessions
	audit    *audit.Client
	faults   fault.Injector
	hub      *hub
}

// New returns a service that works with n.
func New(n Needs) *Service {
	return &Service{store: n.Users, sessions: n.Sessions, audit: n.Audit, faults: n.Faults, hub: newHub(maxQueue)}
}

// Stop ends the streams of all watchers, which would otherwise never end, and refuses new ones.
func (s *Service) Stop() { s.hub.stop() }

// CreateUser implements usersv1.UserServiceServer.
func (s *Service) CreateUser(ctx context.Context, req *usersv1.CreateUserRequest) (*usersv1.CreateUserResponse, error) {
	if err := s.faults.Inject(ctx); err != nil {
		return nil, err
	}
	wanted := newUser(req.GetUser())
	wanted.ID = users.NewID()
	// What cannot be recorded is not done. The error is the audit service's, and our caller is told no more of it than that
	// something we need is away: see errors.Translate.
	if err := s.audit.Record(ctx, "user.create", wanted.ID); err != nil {
		return nil, err
	}
	created, err := s.store.Create(ctx, wanted)
	if err != nil {
		return nil, err
	}
	user := message(created)
	s.hub.publish(user)
	return &usersv1.CreateUserResponse{User: user}, nil
}

// GetUsers implements usersv1.UserServiceServer.
func (s *Service) GetUsers(req *usersv1.GetUsersRequest, stream grpc.ServerStreamingServer[usersv1.GetUsersResponse]) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	if got := len(req.GetIds()); got == 0 || got > maxIDs {
		return users.ErrNumberOfIDs.With("max", maxIDs).With("got", got)
	}
	for user, err := range s.store.Get(stream.Context(), req.GetIds()...) {
		if err != nil {
			return err
		}
		if err := stream.Send(&usersv1.GetUsersResponse{User: message(user)}); err != nil {
			return err
		}
	}
	return nil
}

// ListUsers implements usersv1.UserServiceServer.
func (s *Service) ListUsers(_ *usersv1.ListUsersRequest, stream grpc.ServerStreamingServer[usersv1.ListUsersResponse]) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	for user, err := range s.store.All(stream.Context()) {
		if err != nil {
			return err
		}
		if err := stream.Send(&usersv1.ListUsersResponse{User: message(user)}); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUser implements usersv1.UserServiceServer.
func (s *Service) DeleteUser(ctx context.Context, req *usersv1.DeleteUserRequest) (*usersv1.DeleteUserResponse, error) {
	if err := s.faults.Inject(ctx); err != nil {
		return nil, err
	}
	if req.GetId() == "" {
		return nil, users.ErrNotFound.With("id", "")
	}
	if err := s.audit.Record(ctx, "user.delete", req.GetId()); err != nil {
		return nil, err
	}
	if err := s.store.Delete(ctx, req.GetId()); err != nil {
		return nil, err
	}
	return &usersv1.DeleteUserResponse{}, nil
}

// ListEvents implements usersv1.UserServiceServer.
func (s *Service) ListEvents(req *usersv1.ListEventsRequest, stream grpc.ServerStreamingServer[usersv1.ListEventsResponse]) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	for e, err := range s.audit.Events(stream.Context(), req.GetId()) {
		if errors.Is(err, audit.ErrNoEvents) {
			return errors.Forward(err) // it is about what our caller asked for, and says so
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&usersv1.ListEventsResponse{Time: e.GetTime(), Actor: e.GetActor(), Action: e.GetAction()}); err != nil {
			return err
		}
	}
	return nil
}

// ImportUsers implements usersv1.UserServiceServer. It answers as soon as a user is refused, while the client may still be
// sending; the transaction is not begun before all users are here, so that a slow client delays nobody.
func (s *Service) ImportUsers(stream grpc.ClientStreamingServer[usersv1.ImportUsersRequest, usersv1.ImportUsersResponse]) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	wanted, err := receive(stream)
	if err != nil {
		return err
	}
	if err := s.audit.Record(stream.Context(), "user.import", fmt.Sprintf("%d users", len(wanted))); err != nil {
		return err
	}
	created, err := s.store.Import(stream.Context(), wanted)
	if err != nil {
		return err
	}
	added := make([]*usersv1.User, len(created))
	for i, user := range created {
		added[i] = message(user)
	}
	s.hub.publish(added...)
	return stream.SendAndClose(&usersv1.ImportUsersResponse{Imported: int64(len(created))})
}

func receive(stream grpc.ClientStreamingServer[usersv1.ImportUsersRequest, usersv1.ImportUsersResponse]) ([]users.New, error) {
	var wanted []users.New
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return wanted, nil
		}
		if err != nil {
			return nil, err
		}
		if len(wanted) == maxImport {
			return nil, users.ErrImportTooLarge.With("max", maxImport)
		}
		user := newUser(req.GetUser())
		if err := user.Validate(); err != nil {
			return nil, users.At(len(wanted), err)
		}
		wanted = append(wanted, user)
	}
}

func newUser(n *usersv1.NewUser) users.New {
	return users.New{Name: n.GetName(), Email: n.GetEmail()}
}

func message(u store.User) *usersv1.User {
	role := usersv1.Role_ROLE_USER
	if u.Role == users.RoleAdmin {
		role = usersv1.Role_ROLE_ADMIN
	}
	return &usersv1.User{Id: u.ID, Name: u.Name, Email: u.Email, Role: role, CreateTime: timestamppb.New(u.Created)}
}
