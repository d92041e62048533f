package service_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns a service and a client connected to it through a pipe.
func start(t *testing.T, faults fault.Injector) (*service.Service, usersv1.UserServiceClient) {
	t.Helper()
	svc, client, _ := startObserved(t, faults, observe.By{TracerProvider: telemetrytest.New(t).Telemetry().TracerProvider(), Logger: slog.New(slog.DiscardHandler)})
	return svc, client
}

// startObserved is start with an observer. What it returns as well stops the server: all its calls have been recorded then.
func startObserved(t *testing.T, faults fault.Injector, by observe.By) (*service.Service, usersv1.UserServiceClient, func()) {
	t.Helper()
	s, err := store.Open(t.Context(), database.Config{TracerProvider: by.TracerProvider, MeterProvider: by.MeterProvider})
	if err != nil {
		t.Fatal(err)
	}
	svc := service.New(service.Needs{Users: s, Faults: faults})
	server := service.NewServer(svc, by)
	pipe := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	stop := sync.OnceFunc(func() {
		svc.Stop()
		server.Stop()
		if err := errors.Join(<-served, s.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	dial := append(interceptors.DialOptions(by.Client()...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///users", dial...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return svc, usersv1.NewUserServiceClient(conn), stop
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newUser(name string) *usersv1.NewUser {
	return &usersv1.NewUser{Name: name, Email: strings.ToLower(name) + "@example.com"}
}

func create(t *testing.T, client usersv1.UserServiceClient, n *usersv1.NewUser) *usersv1.User {
	t.Helper()
	reply, err := client.CreateUser(timeout(t), &usersv1.CreateUserRequest{User: n})
	if err != nil {
		t.Fatalf("create %v: %v", n, err)
	}
	return reply.GetUser()
}

// get returns what GetUsers sent, without ids what ListUsers did, and its error.
func get(t *testing.T, client usersv1.UserServiceClient, ids ...string) ([]*usersv1.User, error) {
	t.Helper()
	if len(ids) == 0 {
		stream, err := client.ListUsers(timeout(t), &usersv1.ListUsersRequest{})
		return receiveAll(t, stream, err)
	}
	stream, err := client.GetUsers(timeout(t), &usersv1.GetUsersRequest{Ids: ids})
	return receiveAll(t, stream, err)
}

func receiveAll[M interface{ GetUser() *usersv1.User }](t *testing.T, stream interface{ Recv() (M, error) }, err error) ([]*usersv1.User, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var got []*usersv1.User
	for {
		reply, err := stream.Recv()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, reply.GetUser())
	}
}

func fields(err error) []string {
	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	var names []string
	for _, v := range bad.GetFieldViolations() {
		names = append(names, v.GetField()+" "+v.GetReason())
	}
	return names
}

func TestCreateUser(t *testing.T) {
	_, client := start(t, nil)
	ada := create(t, client, newUser("Ada"))
	want := &usersv1.User{Id: ada.GetId(), Name: "Ada", Email: "ada@example.com", CreateTime: ada.GetCreateTime(), Role: usersv1.Role_ROLE_USER}
	if diff := cmp.Diff(want, ada, protocmp.Transform()); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if age := time.Since(ada.GetCreateTime().AsTime()); age < 0 || age > time.Minute || ada.GetId() == "" {
		t.Errorf("id %q, created %v ago, want an id and now", ada.GetId(), age)
	}
}

func TestCreateUserRefused(t *testing.T) {
	_, client := start(t, nil)
	create(t, client, newUser("Ada"))
	long := strings.Repeat("é", 101)
	tests := []struct {
		name       string
		user       *usersv1.NewUser
		want       error
		wantFields []string
	}{
		{"taken", newUser("Ada"), users.ErrEmailTaken, nil},
		{"taken in another case", &usersv1.NewUser{Name: "Ada", Email: "ADA@EXAMPLE.COM"}, users.ErrEmailTaken, nil},
		{"no user", nil, users.ErrInvalid, []string{"user.name NAME_INVALID", "user.email EMAIL_INVALID"}},
		{"no name", &usersv1.NewUser{Email: "x@example.com"}, users.ErrInvalid, []string{"user.name NAME_INVALID"}},
		{"blank name", &usersv1.NewUser{Name: " \t", Email: "x@example.com"}, users.ErrInvalid, []string{"user.name NAME_INVALID"}},
		{"space around the name", &usersv1.NewUser{Name: " X", Email: "x@example.com"}, users.ErrInvalid, []string{"user.name NAME_INVALID"}},
		{"newline in the name", &usersv1.NewUser{Name: "X\nY", Email: "x@example.com"}, users.ErrInvalid, []string{"user.name NAME_INVALID"}},
		{"long name", &usersv1.NewUser{Name: long, Email: "x@example.com"}, users.ErrInvalid, []string{"user.name NAME_INVALID"}},
		{"no address", &usersv1.NewUser{Name: "X", Email: "x"}, users.ErrInvalid, []string{"user.email EMAIL_INVALID"}},
		{"address with a name", &usersv1.NewUser{Name: "X", Email: "X <x@example.com>"}, users.ErrInvalid, []string{"user.email EMAIL_INVALID"}},
		{"two addresses", &usersv1.NewUser{Name: "X", Email: "x@example.com, y@example.com"}, users.ErrInvalid, []string{"user.email EMAIL_INVALID"}},
		{"long address", &usersv1.NewUser{Name: "X", Email: strings.Repeat("x", 255) + "@example.com"}, users.ErrInvalid, []string{"user.email EMAIL_INVALID"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.CreateUser(timeout(t), &usersv1.CreateUserRequest{User: test.user})
			if !errors.Is(err, test.want) {
				t.Fatalf("error = %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(test.wantFields, fields(err)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
	// The longest name there may be, in characters and not bytes.
	create(t, client, &usersv1.NewUser{Name: long[:200], Email: "x@example.com"})
}

func TestGetUsers(t *testing.T) {
	_, client := start(t, nil)
	ada, bob := create(t, client, newUser("Ada")), create(t, client, newUser("Bob"))
	tests := []struct {
		name    string
		ids     []string
		want    []*usersv1.User
		wantErr error
	}{
		{"all, oldest first", nil, []*usersv1.User{ada, bob}, nil},
		{"one", []string{bob.GetId()}, []*usersv1.User{bob}, nil},
		{"in the order asked", []string{bob.GetId(), ada.GetId(), bob.GetId()}, []*usersv1.User{bob, ada, bob}, nil},
		{"unknown", []string{"u-0"}, nil, users.ErrNotFound},
		{"unknown half-way", []string{ada.GetId(), "u-0", bob.GetId()}, []*usersv1.User{ada}, users.ErrNotFound},
		{"too many", make([]string, 1001), nil, users.ErrNumberOfIDs},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := get(t, client, test.ids...)
			if !errors.Is(err, test.wantErr) {
				t.Errorf("error = %v, want %v", err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeleteUser(t *testing.T) {
	_, client := start(t, nil)
	ada, bob := create(t, client, newUser("Ada")), create(t, client, newUser("Bob"))
	if _, err := client.DeleteUser(timeout(t), &usersv1.DeleteUserRequest{Id: ada.GetId()}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{ada.GetId(), "u-0", ""} {
		if _, err := client.DeleteUser(timeout(t), &usersv1.DeleteUserRequest{Id: id}); !errors.Is(err, users.ErrNotFound) {
			t.Errorf("delete %q: %v, want %v", id, err, users.ErrNotFound)
		}
	}
	if all, err := get(t, client); err != nil || len(all) != 1 || all[0].GetId() != bob.GetId() {
		t.Errorf("got users %v, error %v, want Bob alone", all, err)
	}
	create(t, client, newUser("Ada")) // the address is free again
}

// importAll sends users until the server ends the call, and returns its answer.
func importAll(t *testing.T, client usersv1.UserServiceClient, list ...*usersv1.NewUser) (int64, error) {
	t.Helper()
	stream, err := client.ImportUsers(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if err := stream.Send(&usersv1.ImportUsersRequest{User: n}); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	reply, err := stream.CloseAndRecv()
	return reply.GetImported(), err
}

func people(n int) []*usersv1.NewUser {
	list := make([]*usersv1.NewUser, n)
	for i := range list {
		list[i] = newUser(fmt.Sprintf("P%d", i))
	}
	return list
}

func TestImportUsers(t *testing.T) {
	invalid := &usersv1.NewUser{Name: "X"}
	tests := []struct {
		name      string
		list      []*usersv1.NewUser
		want      int64
		wantErr   error
		wantIndex string
	}{
		{"none", nil, 0, nil, ""},
		{"as many as there may be", people(1000), 1000, nil, ""},
		{"one too many", people(1001), 0, users.ErrImportTooLarge, ""},
		{"one is invalid", append(people(3), invalid), 0, users.ErrInvalid, "3"},
		{"one is taken", append(people(3), newUser("Ada")), 0, users.ErrEmailTaken, "3"},
		{"one is there twice", append(people(3), people(3)[1]), 0, users.ErrEmailTaken, "3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, client := start(t, nil)
			create(t, client, newUser("Ada"))
			got, err := importAll(t, client, test.list...)
			if got != test.want || !errors.Is(err, test.wantErr) {
				t.Errorf("imported %d, error %v, want %d, %v", got, err, test.want, test.wantErr)
			}
			var e *errors.Error
			if errors.As(err, &e) && e.Metadata()["index"] != test.wantIndex {
				t.Errorf("index = %q, want %q", e.Metadata()["index"], test.wantIndex)
			}
			if all, err := get(t, client); err != nil || int64(len(all)) != test.want+1 {
				t.Errorf("%d users, error %v, want %d: all or none", len(all), err, test.want+1)
			}
		})
	}
}

// Rule 2: the server refuses while the client is still sending; the client sees why.
func TestImportUsersRefusedEarly(t *testing.T) {
	_, client := start(t, nil)
	stream, err := client.ImportUsers(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // without end: it is the server that stops this
		err = stream.Send(&usersv1.ImportUsersRequest{User: &usersv1.NewUser{Name: "X"}})
	}
	if err != io.EOF {
		t.Errorf("send: %v, want %v", err, io.EOF)
	}
	if _, err := stream.CloseAndRecv(); !errors.Is(err, users.ErrInvalid) {
		t.Errorf("error = %v, want %v", err, users.ErrInvalid)
	}
}

func TestFaults(t *testing.T) {
	calls := map[string]func(context.Context, usersv1.UserServiceClient) error{
		"CreateUser": func(ctx context.Context, c usersv1.UserServiceClient) error {
			_, err := c.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")})
			return err
		},
		"GetUsers": func(ctx context.Context, c usersv1.UserServiceClient) error {
			stream, err := c.GetUsers(ctx, &usersv1.GetUsersRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"ListUsers": func(ctx context.Context, c usersv1.UserServiceClient) error {
			stream, err := c.ListUsers(ctx, &usersv1.ListUsersRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"DeleteUser": func(ctx context.Context, c usersv1.UserServiceClient) error {
			_, err := c.DeleteUser(ctx, &usersv1.DeleteUserRequest{Id: "u-1"})
			return err
		},
		"ListEvents": func(ctx context.Context, c usersv1.UserServiceClient) error {
			stream, err := c.ListEvents(ctx, &usersv1.ListEventsRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"ImportUsers": func(ctx context.Context, c usersv1.UserServiceClient) error {
			stream, err := c.ImportUsers(ctx)
			if err == nil {
				_, err = stream.CloseAndRecv()
			}
			return err
		},
		"WatchUsers": func(ctx context.Context, c usersv1.UserServiceClient) error {
			stream, err := c.WatchUsers(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	}
	tests := []struct {
		fault       string
		deadline    time.Duration
		want        codes.Code
		wantMessage string
	}{
		{"panic", time.Minute, codes.Internal, "internal error"},
		{"error", time.Minute, codes.Unknown, "unknown error"},
		{"delay=1h", 50 * time.Millisecond, codes.DeadlineExceeded, ""},
		{"delay=soon", time.Minute, codes.InvalidArgument, `x-fault: delay="soon", want a duration such as 500ms`},
		{"fire", time.Minute, codes.InvalidArgument, `x-fault: "fire", want panic, error, code=CODE or delay=DURATION`},
		{"code=UNAVAILABLE", time.Minute, codes.Unavailable, "a fault was asked for"},
		{"code=OK", time.Minute, codes.InvalidArgument, `x-fault: code="OK", want a code such as UNAVAILABLE`},
		{"error@1", time.Minute, codes.Unknown, "unknown error"},
		{"error@2", time.Minute, codes.InvalidArgument, `x-fault: "error@2", want a share from 0 to 1 after @`},
	}
	_, client := start(t, fault.FromMetadata)
	for method, call := range calls {
		for _, test := range tests {
			t.Run(method+" "+test.fault, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
				defer cancel()
				err := call(metadata.AppendToOutgoingContext(ctx, fault.Key, test.fault), client)
				if code := errors.Code(err); code != test.want {
					t.Errorf("code = %v, want %v: %v", code, test.want, err)
				}
				if got := errors.Message(err); test.wantMessage != "" && got != test.wantMessage {
					t.Errorf("message = %q, want %q", got, test.wantMessage)
				}
			})
		}
	}
	t.Run("never, another's, and none", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(timeout(t), fault.Key, "panic@0", fault.Key, "audit:panic", fault.Key, "delay=0s")
		if _, err := client.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")}); err != nil {
			t.Error(err)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		_, client := start(t, nil)
		ctx := metadata.AppendToOutgoingContext(timeout(t), fault.Key, "panic")
		if _, err := client.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")}); err != nil {
			t.Error(err)
		}
	})
}
