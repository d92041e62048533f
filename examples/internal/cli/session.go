package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// password returns the password of $USERS_PASSWORD, without one the first line of standard input. It is no flag: the
// arguments of a program are for everybody to see.
func (c *client) password() (string, error) {
	if text, ok := os.LookupEnv("USERS_PASSWORD"); ok {
		return text, nil
	}
	line, err := bufio.NewReader(c.stdin).ReadString('\n')
	if text := strings.TrimRight(line, "\r\n"); text != "" {
		return text, nil
	}
	if err != nil && err != io.EOF {
		return "", err
	}
	return "", errors.New("there is no password: want it in $USERS_PASSWORD, or as a line of standard input")
}

func signUp(name, email string) command {
	return enter(func(ctx context.Context, c *client, password string) (*usersv1.Session, error) {
		reply, err := c.sessions.SignUp(ctx, &usersv1.SignUpRequest{User: &usersv1.NewUser{Name: name, Email: email}, Password: password})
		return reply.GetSession(), err
	})
}

func logIn(email string) command {
	return enter(func(ctx context.Context, c *client, password string) (*usersv1.Session, error) {
		reply, err := c.sessions.LogIn(ctx, &usersv1.LogInRequest{Email: email, Password: password})
		return reply.GetSession(), err
	})
}

// enter opens a session with a password, and prints its token.
func enter(open func(ctx context.Context, c *client, password string) (*usersv1.Session, error)) command {
	return func(ctx context.Context, c *client) error {
		password, err := c.password()
		if err != nil {
			return err
		}
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		session, err := open(ctx, c, password)
		if err != nil {
			return err
		}
		return c.printToken(session)
	}
}

// printToken prints the token alone, so that it can be put into USERS_TOKEN.
func (c *client) printToken(s *usersv1.Session) error {
	fmt.Fprintf(c.stderr, "logged in as %s until %s\n", s.GetUser().GetEmail(), s.GetExpireTime().AsTime().Format(time.RFC3339))
	_, err := fmt.Fprintln(c.stdout, s.GetToken())
	return err
}

func whoAmI(ctx context.Context, c *client) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	reply, err := c.sessions.GetSession(ctx, &usersv1.GetSessionRequest{})
	if err != nil {
		return err
	}
	return c.print(reply.GetSession().GetUser())
}

func logOut(ctx context.Context, c *client) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.sessions.LogOut(ctx, &usersv1.LogOutRequest{})
	return err
}
