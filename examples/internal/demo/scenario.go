package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
)

// step is a request and what is to come of it.
type step struct {
	title string
	run   func(context.Context, *system) outcome
	want  string // code and reason, and how many users came back: "OK, 1 user"
	tree  string // of its trace, see traced.tree
	logs  int    // records with its trace id; a client's call that went well has none at INFO
}

// outcome is what the caller saw of a request.
type outcome struct {
	code, reason, message string
	users                 int
	request, trace        string // ids
	err                   error  // that is no answer: nothing was compared
}

// String is what step.want is compared with.
func (o outcome) String() string {
	switch {
	case o.err != nil:
		return o.err.Error()
	case o.code == o.reason:
		return o.code
	case o.code != "OK":
		return strings.TrimSpace(o.code + " " + o.reason)
	case o.users == 1:
		return "OK, 1 user"
	}
	return fmt.Sprintf("OK, %d users", o.users)
}

// The parts that traces are made of, one line for each span, two spaces deeper than its parent.

// page is the trace of a request of the page, for which the web app makes a call, in which the users service does inside.
func page(request, method string, inside ...string) string {
	return "users-web  " + request + "\n" + under(call("users-web", method, inside))
}

// call is a call of the users service.
func call(client, method string, inside []string) string {
	return client + "  " + method + "\n" + under("users-api  "+method+"\n"+under(inside...))
}

// queries are statements that the users service sends to its database.
func queries(statements ...string) string {
	return "users-api  " + strings.Join(statements, "\nusers-api  ") + "\n"
}

// recorded is a call of the audit service that keeps what is about to be done, unrecorded one that fails before.
const (
	unrecorded = "users-api  audit.v1.AuditService/Record\n  users-audit  audit.v1.AuditService/Record\n"
	recorded   = unrecorded + "    users-audit  INSERT events\n"
)

// under returns lines two spaces deeper.
func under(parts ...string) string {
	var deeper strings.Builder
	for line := range strings.Lines(strings.Join(parts, "")) {
		deeper.WriteString("  " + line)
	}
	return deeper.String()
}

var (
	inserted = queries("BEGIN", "SELECT users", "INSERT users", "COMMIT")
	opened   = queries("BEGIN", "DELETE sessions", "INSERT sessions", "COMMIT")
	known    = queries("SELECT sessions") // who calls
)

var scenario = []step{
	{
		title: "POST /users/me: Ada signs up; password and token are kept as hashes",
		run:   signUp("Ada Lovelace", "ada@example.com"),
		want:  "OK, 1 user",
		tree:  page("POST /users/me", "users.v1.SessionService/SignUp", recorded, inserted, opened), logs: 3,
	},
	{
		title: "POST /users/ with Ada's token creates Grace",
		run:   post("Grace Hopper", "grace@example.com", ""),
		want:  "OK, 1 user",
		tree:  page("POST /users/", "users.v1.UserService/CreateUser", known, recorded, inserted), logs: 3,
	},
	{
		title: "POST /users/ with the same address again",
		run:   post("Grace H.", "GRACE@example.com", ""),
		want:  "ALREADY_EXISTS USER_EMAIL_TAKEN",
		tree:  page("POST /users/", "users.v1.UserService/CreateUser", known, recorded, queries("BEGIN", "SELECT users", "ROLLBACK")), logs: 4,
	},
	{
		title: "gRPC ImportUsers streams 250 users to the service",
		run:   importMany(250),
		want:  "OK, 250 users",
		tree:  call("users-cli", "users.v1.UserService/ImportUsers", []string{known, recorded, inserted}), logs: 2,
	},
	{
		title: "GET /users/ with Ada's token: only admins list everybody",
		run:   get("/users/"),
		want:  "PERMISSION_DENIED",
		tree:  page("GET /users/", "users.v1.UserService/ListUsers", known), logs: 3,
	},
	{
		title: "POST /session: the admin logs in",
		run:   logIn(admin, adminPassword),
		want:  "OK, 1 user",
		tree:  page("POST /session", "users.v1.SessionService/LogIn", queries("SELECT users"), opened), logs: 2,
	},
	{
		title: "GET /users/ streams all of them back, a page of the database at a time",
		run:   get("/users/"),
		want:  "OK, 253 users",
		tree:  page("GET /users/", "users.v1.UserService/ListUsers", known, queries("SELECT users", "SELECT users", "SELECT users")), logs: 2,
	},
	{
		title: "GET /users/?id=u-nobody",
		run:   get("/users/?id=u-nobody"),
		want:  "NOT_FOUND USER_NOT_FOUND",
		tree:  page("GET /users/", "users.v1.UserService/GetUsers", known, queries("SELECT users")), logs: 3,
	},
	{
		title: "gRPC WatchUsers, a stream in both directions, sees Bob being created",
		run:   watchOne("Bob", "bob@example.com"),
		want:  "OK, 1 user",
		tree:  call("users-cli", "users.v1.UserService/WatchUsers", []string{known}), logs: 1,
	},
	{
		title: "POST /users/ whose handler panics: the stack is in span and log, the caller learns nothing of it",
		run:   post("Eve", "eve@example.com", "panic"),
		want:  "INTERNAL",
		tree:  page("POST /users/", "users.v1.UserService/CreateUser", known), logs: 3,
	},
	{
		title: "POST /users/ while the audit service is away: what cannot be recorded is not done",
		run:   post("Eve", "eve@example.com", "audit:code=UNAVAILABLE"),
		want:  "UNAVAILABLE",
		tree:  page("POST /users/", "users.v1.UserService/CreateUser", known, unrecorded), logs: 5,
	},
	{
		title: "GET /users/ without a token",
		run:   anonymously(get("/users/")),
		want:  "UNAUTHENTICATED NO_CREDENTIALS",
		tree:  page("GET /users/", "users.v1.UserService/ListUsers"), logs: 3,
	},
	{
		title: "gRPC GetUsers with 150 ms for a handler that takes 10 s",
		run:   tooLate(150 * time.Millisecond),
		want:  "DEADLINE_EXCEEDED",
		tree:  call("users-cli", "users.v1.UserService/GetUsers", []string{known}), logs: 2,
	},
}

// signUp creates a user who makes the requests from then on.
func signUp(name, email string) func(context.Context, *system) outcome {
	return send("/users/me", map[string]string{"name": name, "email": email, "password": "correct horse battery"}, "")
}

// logIn has another user make the requests from then on.
func logIn(email, password string) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		s.token = ""
		return send("/session", map[string]string{"email": email, "password": password}, "")(ctx, s)
	}
}

// anonymously does what run does without a token.
func anonymously(run func(context.Context, *system) outcome) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		defer func(token string) { s.token = token }(s.token)
		s.token = ""
		return run(ctx, s)
	}
}

// post creates a user through the web app.
func post(name, email, inject string) func(context.Context, *system) outcome {
	return send("/users/", map[string]string{"name": name, "email": email}, inject)
}

func send(path string, body map[string]string, inject string) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		text, err := json.Marshal(body)
		if err != nil {
			return outcome{err: err}
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.web+path, strings.NewReader(string(text)))
		if err != nil {
			return outcome{err: err}
		}
		r.Header.Set("Content-Type", "application/json")
		if inject != "" {
			r.Header.Set(fault.Key, inject)
		}
		return s.fetch(r)
	}
}

func get(path string) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.web+path, nil)
		if err != nil {
			return outcome{err: err}
		}
		return s.fetch(r)
	}
}

// fetch sends r and reads the lines of the answer: users, an error, or a session, whose token is that of the requests
// from then on.
func (s *system) fetch(r *http.Request) outcome {
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return outcome{err: err}
	}
	defer response.Body.Close()
	o := outcome{code: "OK", request: response.Header.Get("X-Request-Id"), trace: response.Header.Get("X-Trace-Id")}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		var line struct {
			ID, Token string
			User      struct{ ID string }
			Error     struct{ Code, Reason, Message string }
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return outcome{err: fmt.Errorf("%s answers %q: %w", r.URL, lines.Text(), err)}
		}
		if line.ID != "" || line.User.ID != "" {
			o.users++
		}
		if line.Token != "" {
			s.token = line.Token
		}
		if line.Error.Code != "" {
			o.code, o.reason, o.message = line.Error.Code, line.Error.Reason, line.Error.Message
		}
	}
	if isOK := o.code == "OK"; isOK != (response.StatusCode < 400) {
		o.err = fmt.Errorf("HTTP status %s and code %s do not agree", response.Status, o.code)
	}
	return o
}

// outgoing returns the context of the client's calls.
func (s *system) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
}

// answered returns the outcome of a gRPC call.
func answered(s *system, users int, err error) outcome {
	_, reason := errors.Reason(err)
	return outcome{
		code: code.Code(errors.Code(err)).String(), reason: reason, message: errors.Message(err),
		users: users, request: s.last.Request, trace: s.last.Trace,
	}
}

func importMany(n int) func(context.Context, *system) outcome {
	list := make([]*usersv1.NewUser, n)
	for i := range list {
		list[i] = &usersv1.NewUser{Name: fmt.Sprintf("Person %d", i+1), Email: fmt.Sprintf("person%d@example.com", i+1)}
	}
	return importUsers(list...)
}

func importUsers(list ...*usersv1.NewUser) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		stream, err := s.client.ImportUsers(s.outgoing(ctx))
		if err != nil {
			return answered(s, 0, err)
		}
		for _, user := range list {
			if stream.Send(&usersv1.ImportUsersRequest{User: user}) != nil {
				break // why, CloseAndRecv tells
			}
		}
		reply, err := stream.CloseAndRecv()
		return answered(s, int(reply.GetImported()), err)
	}
}

func tooLate(deadline time.Duration) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(s.outgoing(ctx), fault.Key, "delay=10s"), deadline)
		defer cancel()
		stream, err := s.client.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: []string{"u-1"}})
		if err == nil {
			_, err = stream.Recv()
		}
		return answered(s, 0, err)
	}
}

// watchOne follows, creates a user through the web app, and ends once that user was seen.
func watchOne(name, email string) func(context.Context, *system) outcome {
	return func(ctx context.Context, s *system) outcome {
		stream, err := s.client.WatchUsers(s.outgoing(ctx))
		if err != nil {
			return answered(s, 0, err)
		}
		subscribe := &usersv1.WatchUsersRequest_Subscribe{Subscribe: &usersv1.WatchUsersRequest_Subscription{}}
		sent := stream.Send(&usersv1.WatchUsersRequest{Message: subscribe})
		if _, err := stream.Recv(); err != nil { // it is in force
			return answered(s, 0, err)
		}
		if o := post(name, email, "")(ctx, s); o.String() != "OK, 1 user" {
			return outcome{err: fmt.Errorf("creating %s: %v", name, o)}
		}
		seen, err := stream.Recv()
		if got := seen.GetCreated().GetUser().GetEmail(); err == nil && got != email {
			return outcome{err: fmt.Errorf("watching: saw %q, want %q", got, email)}
		}
		err = cmp.Or(err, sent, stream.CloseSend())
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			err = nil
		}
		return answered(s, 1, err)
	}
}
