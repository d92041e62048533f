package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// window is how many users a watch is sent that it has not printed.
const window = 16

func create(name, email string) command {
	return func(ctx context.Context, c *client) error {
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		reply, err := c.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: &usersv1.NewUser{Name: name, Email: email}})
		if err != nil {
			return err
		}
		return c.print(reply.GetUser())
	}
}

func get(ids []string) command {
	if len(ids) == 0 {
		return list
	}
	return func(ctx context.Context, c *client) error {
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		stream, err := c.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: ids})
		if err != nil {
			return err
		}
		return c.printAll(func() (*usersv1.User, error) {
			reply, err := stream.Recv()
			return reply.GetUser(), err
		})
	}
}

func list(ctx context.Context, c *client) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	stream, err := c.users.ListUsers(ctx, &usersv1.ListUsersRequest{})
	if err != nil {
		return err
	}
	return c.printAll(func() (*usersv1.User, error) {
		reply, err := stream.Recv()
		return reply.GetUser(), err
	})
}

func remove(id string) command {
	return func(ctx context.Context, c *client) error {
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		_, err := c.users.DeleteUser(ctx, &usersv1.DeleteUserRequest{Id: id})
		return err
	}
}

func history(id string) command {
	return func(ctx context.Context, c *client) error {
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		stream, err := c.users.ListEvents(ctx, &usersv1.ListEventsRequest{Id: id})
		if err != nil {
			return err
		}
		for {
			e, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c.stdout, "%s  %s  by %s\n", e.GetTime().AsTime().Format(time.RFC3339), e.GetAction(), e.GetActor()); err != nil {
				return err
			}
		}
	}
}

// printAll prints users until there are no more.
func (c *client) printAll(receive func() (*usersv1.User, error)) error {
	for {
		user, err := receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.print(user); err != nil {
			return err
		}
	}
}

// importFrom imports the file at path, standard input if it is empty.
func importFrom(path string) command {
	return func(ctx context.Context, c *client) error {
		in := c.stdin
		if path != "" {
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			in = file
		}
		ctx, cancel := c.bounded(ctx)
		defer cancel() // ends the call where the input is wrong: nobody is created
		stream, err := c.users.ImportUsers(ctx)
		if err != nil {
			return err
		}
		for user, err := range read(in) {
			if err != nil {
				return err
			}
			if stream.Send(&usersv1.ImportUsersRequest{User: user}) != nil {
				break // why, CloseAndRecv tells
			}
		}
		reply, err := stream.CloseAndRecv()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "users imported: %d\n", reply.GetImported())
		return err
	}
}

func watch(ctx context.Context, c *client) error {
	interrupted := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.users.WatchUsers(ctx)
	if err != nil {
		return err
	}
	// A failure to send is told by what is received.
	_ = stream.Send(&usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Subscribe{
		Subscribe: &usersv1.WatchUsersRequest_Subscription{EmailDomain: c.domain, Window: window},
	}})
	for printed := 0; c.count == 0 || printed < c.count; {
		reply, err := stream.Recv()
		if interrupted.Err() != nil && errors.Code(err) == codes.Canceled {
			return nil // that is how a watch ends
		}
		if err != nil {
			return err
		}
		created := reply.GetCreated()
		if created == nil {
			fmt.Fprintln(c.stderr, "watching")
			continue
		}
		if err := c.print(created.GetUser()); err != nil {
			return err
		}
		printed++
		ack := &usersv1.WatchUsersRequest_Ack{Sequence: created.GetSequence()}
		_ = stream.Send(&usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Ack_{Ack: ack}})
	}
	return nil
}

// print prints a user.
func (c *client) print(u *usersv1.User) error {
	created := u.GetCreateTime().AsTime().Format(time.RFC3339)
	if c.json {
		return json.NewEncoder(c.stdout).Encode(struct {
			ID      string `json:"id"`
			Name    string `json:"name"`
			Email   string `json:"email"`
			Created string `json:"created"`
		}{u.GetId(), u.GetName(), u.GetEmail(), created})
	}
	_, err := fmt.Fprintf(c.stdout, "%-18s  %s  %-24s  %s\n", u.GetId(), created, u.GetName(), u.GetEmail())
	return err
}
