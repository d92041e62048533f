package service

import (
	"context"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

const (
	maxIDs    = 1000 // of one GetUsers
	maxImport = 1000 // users of one ImportUsers, which are held in memory
	maxQueue  = 4096 // users waiting for one watcher
)

// Service implements users.v1.UserService.
type Service struct {
	usersv1.UnimplementedUserServiceServer
	store  *store.Store
	faults fault.Injector
	hub    *hub
}

// New returns a service over s. faults may be nil.
func New(s *store.Store, faults fault.Injector) *Service {
	return &Service{store: s, faults: faults, hub: newHub(maxQueue)}
}

// Stop ends the streams of all watchers, which would otherwise never end, and refuses new ones.
func (s *Service) Stop() { s.hub.stop() }

// CreateUser implements usersv1.UserServiceServer.
func (s *Service) CreateUser(ctx context.Context, req *usersv1.CreateUserRequest) (*usersv1.CreateUserResponse, error) {
	if err := s.faults.Inject(ctx); err != nil {
		return nil, err
	}
	wanted := newUser(req.GetUser())
	if err := wanted.Validate(); err != nil {
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
	if got := len(req.GetIds()); got > maxIDs {
		return users.ErrTooManyIDs.With("max", maxIDs).With("got", got)
	}
	for user, err := range s.find(stream.Context(), req.GetIds()) {
		if err != nil {
			return err
		}
		if err := stream.Send(&usersv1.GetUsersResponse{User: message(user)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) find(ctx context.Context, ids []string) iter.Seq2[store.User, error] {
	if len(ids) == 0 {
		return s.store.All(ctx)
	}
	return s.store.Get(ctx, ids...)
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
	return &usersv1.User{Id: u.ID, Name: u.Name, Email: u.Email, CreateTime: timestamppb.New(u.Created)}
}
