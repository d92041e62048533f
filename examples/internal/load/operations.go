package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
)

// target is what operations work on.
type target struct {
	conn  grpc.ClientConnInterface
	users usersv1.UserServiceClient
	run   string // is part of the addresses that the run creates, so that none is taken
	begun time.Time
	made  atomic.Int64
	known known

	tokens []string // of those who make the calls; none: they are anonymous
	hog    string   // of one who makes too many
}

// signUp makes n users who make the calls, and one who makes too many. A service that lets everybody do everything has
// nobody sign up.
func (t *target) signUp(ctx context.Context, n int) error {
	for range n + 1 {
		session, err := t.newSession(ctx)
		if errors.Code(err) == codes.Unimplemented {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signing up: %w", err)
		}
		t.known.add(session.GetUser().GetId())
		t.tokens = append(t.tokens, session.GetToken())
	}
	t.hog, t.tokens = t.tokens[n], t.tokens[:n]
	return nil
}

// newSession signs a user up, as soon as the service lets it: it limits how many can at once.
func (t *target) newSession(ctx context.Context) (*usersv1.Session, error) {
	for {
		reply, err := usersv1.NewSessionServiceClient(t.conn).SignUp(ctx, &usersv1.SignUpRequest{User: t.person(), Password: rand.Text()})
		after, ok := errors.RetryAfter(err)
		if errors.Code(err) != codes.ResourceExhausted || !ok {
			return reply.GetSession(), err
		}
		if !until(ctx, time.Now().Add(after)) {
			return nil, ctx.Err()
		}
	}
}

// as returns the context of the calls of one of the users.
func (t *target) as(ctx context.Context, dice *mathrand.Rand) context.Context {
	if len(t.tokens) == 0 {
		return ctx
	}
	return withToken(ctx, t.tokens[dice.IntN(len(t.tokens))])
}

func withToken(ctx context.Context, token string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	md.Set("authorization", "Bearer "+token)
	return metadata.NewOutgoingContext(ctx, md)
}

func newTarget(conn grpc.ClientConnInterface, run string) *target {
	return &target{conn: conn, users: usersv1.NewUserServiceClient(conn), run: run}
}

// person returns a user whom nobody has created.
func (t *target) person() *usersv1.NewUser {
	n := t.made.Add(1)
	return &usersv1.NewUser{Name: fmt.Sprintf("Person %d", n), Email: fmt.Sprintf("p%d.%s@load.example.com", n, t.run)}
}

// known remembers the ids of users that exist: the last few, however many there are.
type known struct {
	mu  sync.Mutex
	ids []string
	at  int
}

const maxKnown = 1000

func (k *known) add(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ids) < maxKnown {
		k.ids = append(k.ids, id)
		return
	}
	k.ids[k.at] = id
	k.at = (k.at + 1) % maxKnown
}

// some returns up to n ids.
func (k *known) some(n int, dice *mathrand.Rand) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ids) == 0 {
		return nil
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = k.ids[dice.IntN(len(k.ids))]
	}
	return ids
}

// with returns do with a fault, see fault.Key.
func with(wanted string, do func(context.Context, *target, *mathrand.Rand) error) func(context.Context, *target, *mathrand.Rand) error {
	return func(ctx context.Context, t *target, dice *mathrand.Rand) error {
		return do(metadata.AppendToOutgoingContext(ctx, fault.Key, wanted), t, dice)
	}
}

// outage returns do with a service that is away for 2 s of every 6, the first time after 2 s.
func outage(do func(context.Context, *target, *mathrand.Rand) error) func(context.Context, *target, *mathrand.Rand) error {
	away := with("code=UNAVAILABLE", do)
	return func(ctx context.Context, t *target, dice *mathrand.Rand) error {
		if time.Since(t.begun)%(6*time.Second)/(2*time.Second) == 1 {
			return away(ctx, t, dice)
		}
		return do(ctx, t, dice)
	}
}

func create(ctx context.Context, t *target, _ *mathrand.Rand) error {
	reply, err := t.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: t.person()})
	if err == nil {
		t.known.add(reply.GetUser().GetId())
	}
	return err
}

func createInvalid(ctx context.Context, t *target, dice *mathrand.Rand) error {
	wrong := []*usersv1.NewUser{nil, {Name: "Eve"}, {Name: strings.Repeat("e", 101), Email: "eve@example.com"}, {Name: "Eve", Email: "not an address"}}
	_, err := t.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: wrong[dice.IntN(len(wrong))]})
	return err
}

// get reads one to ten users. The first call of all creates one.
func get(ctx context.Context, t *target, dice *mathrand.Rand) error {
	ids := t.known.some(1+dice.IntN(10), dice)
	if ids == nil {
		return create(ctx, t, dice)
	}
	return getUsers(ctx, t, ids...)
}

func getNobody(ctx context.Context, t *target, _ *mathrand.Rand) error {
	return getUsers(ctx, t, "u-nobody")
}

func getUsers(ctx context.Context, t *target, ids ...string) error {
	stream, err := t.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: ids})
	for err == nil {
		_, err = stream.Recv()
	}
	return atEnd(err)
}

// atEnd returns nil for the end of a stream that went well.
func atEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func importMany(ctx context.Context, t *target, _ *mathrand.Rand) error {
	people := make([]*usersv1.NewUser, 20)
	for i := range people {
		people[i] = t.person()
	}
	return importUsers(ctx, t, people...)
}

func importInvalid(ctx context.Context, t *target, _ *mathrand.Rand) error {
	return importUsers(ctx, t, t.person(), t.person(), &usersv1.NewUser{Name: "Eve"})
}

func importUsers(ctx context.Context, t *target, people ...*usersv1.NewUser) error {
	stream, err := t.users.ImportUsers(ctx)
	if err != nil {
		return err
	}
	for _, person := range people {
		if stream.Send(&usersv1.ImportUsersRequest{User: person}) != nil {
			break // why, CloseAndRecv tells
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// watch follows, creates a user, and ends once that user was seen.
func watch(ctx context.Context, t *target, _ *mathrand.Rand) error {
	stream, err := t.users.WatchUsers(ctx)
	if err != nil {
		return err
	}
	subscription := &usersv1.WatchUsersRequest_Subscription{EmailDomain: "load.example.com"}
	if err := say(stream, subscription); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	wanted := t.person()
	if _, err := t.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: wanted}); err != nil {
		return err
	}
	for seen := false; !seen; {
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		seen = reply.GetCreated().GetUser().GetEmail() == wanted.GetEmail()
	}
	_ = stream.CloseSend()
	for err == nil {
		_, err = stream.Recv()
	}
	return atEnd(err)
}

func watchWrongly(ctx context.Context, t *target, _ *mathrand.Rand) error {
	stream, err := t.users.WatchUsers(ctx)
	if err != nil {
		return err
	}
	if err := say(stream, &usersv1.WatchUsersRequest_Subscription{Window: -1}); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// say sends a subscription. Where it cannot, what is received tells why.
func say(stream grpc.BidiStreamingClient[usersv1.WatchUsersRequest, usersv1.WatchUsersResponse], s *usersv1.WatchUsersRequest_Subscription) error {
	if stream.Send(&usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Subscribe{Subscribe: s}}) == nil {
		return nil
	}
	_, err := stream.Recv()
	return err
}

// unknownMethod calls one of many methods that do not exist: they must not become as many names in the metrics.
func unknownMethod(ctx context.Context, t *target, dice *mathrand.Rand) error {
	method := fmt.Sprintf("/users.v1.UserService/Guess%d", dice.IntN(1_000_000))
	return t.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
}

func tooLarge(ctx context.Context, t *target, _ *mathrand.Rand) error {
	user := &usersv1.NewUser{Name: strings.Repeat("e", 5<<20), Email: "eve@example.com"} // a server takes 4 MiB
	_, err := t.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: user})
	return err
}

func notAMessage(ctx context.Context, t *target, _ *mathrand.Rand) error {
	garbage := garbage(bytes.Repeat([]byte{0xff}, 100))
	return t.conn.Invoke(ctx, usersv1.UserService_CreateUser_FullMethodName, &garbage, &garbage, grpc.ForceCodecV2(garbler{}))
}

// garbage is what garbler sends as it is.
type garbage []byte

// garbler says that it is the codec of protocol buffers.
type garbler struct{}

var _ encoding.CodecV2 = garbler{}

func (garbler) Name() string { return "proto" }

func (garbler) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*garbage))}, nil
}

func (garbler) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*garbage) = data.Materialize()
	return nil
}

// hangUp ends the call once it has been answered in part.
func hangUp(ctx context.Context, t *target, _ *mathrand.Rand) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := t.users.WatchUsers(ctx)
	if err != nil {
		return err
	}
	if err := say(stream, &usersv1.WatchUsersRequest_Subscription{}); err != nil {
		return err
	}
	for err == nil {
		_, err = stream.Recv()
		cancel()
	}
	return err
}

// noToken is what is done without one, badToken with one that nobody has.
func noToken(ctx context.Context, t *target, dice *mathrand.Rand) error {
	return getUsers(metadata.NewOutgoingContext(ctx, nil), t, t.known.some(1, dice)...)
}

func badToken(ctx context.Context, t *target, dice *mathrand.Rand) error {
	return getUsers(withToken(ctx, rand.Text()), t, t.known.some(1, dice)...)
}

// overLimit is one user who makes more calls than there may be.
func overLimit(ctx context.Context, t *target, dice *mathrand.Rand) (err error) {
	for range 5 {
		if err = getUsers(withToken(ctx, t.hog), t, t.known.some(1, dice)...); err != nil {
			return err
		}
	}
	return nil
}

// deleteSomebody is for admins.
func deleteSomebody(ctx context.Context, t *target, dice *mathrand.Rand) error {
	_, err := t.users.DeleteUser(ctx, &usersv1.DeleteUserRequest{Id: t.known.some(1, dice)[0]})
	return err
}

// guess logs in with a password that is wrong.
func guess(ctx context.Context, t *target, _ *mathrand.Rand) error {
	_, err := usersv1.NewSessionServiceClient(t.conn).LogIn(ctx, &usersv1.LogInRequest{Email: "admin@example.com", Password: rand.Text()})
	return err
}
