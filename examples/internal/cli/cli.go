// Package cli is the command line client of the users service.
package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/env"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry"
)

const usage = `Usage: users [flags] COMMAND

  signup NAME EMAIL   create a user who can log in, and print a token for $USERS_TOKEN
  login EMAIL         print a token for $USERS_TOKEN; the password is that of $USERS_PASSWORD, or a line of standard input
  whoami              print the user whose token it is
  logout              end the session of the token
  create NAME EMAIL   create a user
  get [ID...]         print the users with these ids, all without
  delete ID           delete a user
  history ID          print what was done to a user
  import [FILE]       create the users of a file, all or none; without: of standard input
                      lines of NAME,EMAIL (CSV), or of {"name": ..., "email": ...} (JSON)
  watch               print users as they are created, until interrupted

Flags, before or after the command:

`

// What a command may take unless -timeout says otherwise. A watch has no end.
const defaultTimeout = 10 * time.Second

// Run runs the command line args, without the name of the program, and returns its exit code: 0, 1 for an error, 2 for
// a command line that is wrong.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &client{stdin: stdin, stdout: stdout, stderr: stderr}
	command, err := c.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "users: %v\nusers -help tells more\n", err)
		return 2
	}
	if err := c.run(ctx, command); err != nil {
		c.tell(err)
		return 1
	}
	return 0
}

// client is one run of the program.
type client struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	address, domain string
	timeout         time.Duration
	wait, json      bool
	verbose         bool
	count           int
	headers         metadata.MD

	token    string
	users    usersv1.UserServiceClient
	sessions usersv1.SessionServiceClient
	call     observe.IDs
}

type command func(context.Context, *client) error

// parse sets the fields of the flags and returns the command.
func (c *client) parse(args []string) (command, error) {
	c.headers = metadata.MD{}
	flags := flag.NewFlagSet("users", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.address, "addr", "localhost:50051", "`address` of the users service")
	flags.DurationVar(&c.timeout, "timeout", 0, "how long the command may take; 0: 10s, and no limit for watch")
	flags.BoolVar(&c.wait, "wait", false, "wait until the server is ready instead of failing at once")
	flags.BoolVar(&c.json, "json", false, "print users as JSON, one a line")
	flags.BoolVar(&c.verbose, "v", false, "say what is going on: calls, their ids, and what becomes of telemetry")
	flags.StringVar(&c.domain, "domain", "", "watch: only addresses of this `domain`")
	flags.IntVar(&c.count, "n", 0, "watch: end after this many users; 0: never")
	flags.Func("H", "metadata to send, as `key=value`; may be repeated", c.addHeader)
	flags.StringVar(&c.token, "token", "", "`token` of a session")
	if err := env.Vars(flags, map[string]string{"addr": "USERS_ADDR", "token": "USERS_TOKEN"}); err != nil {
		return nil, err
	}
	flags.Lookup("token").DefValue = "" // a secret

	var words []string
	for {
		err := flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(c.stderr, usage)
			flags.SetOutput(c.stderr)
			flags.PrintDefaults()
		}
		if err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return commandOf(words)
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

func (c *client) addHeader(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return errors.New("want key=value")
	}
	c.headers.Append(key, value)
	return nil
}

// commands are all that there are, by name.
var commands = map[string]struct {
	least, most int // arguments
	wants       string
	make        func(args []string) command
}{
	"signup":  {2, 2, "a name and an e-mail address", func(a []string) command { return signUp(a[0], a[1]) }},
	"login":   {1, 1, "an e-mail address", func(a []string) command { return logIn(a[0]) }},
	"whoami":  {0, 0, "none", func([]string) command { return whoAmI }},
	"logout":  {0, 0, "none", func([]string) command { return logOut }},
	"create":  {2, 2, "a name and an e-mail address", func(a []string) command { return create(a[0], a[1]) }},
	"get":     {0, maxArgs, "ids", get},
	"delete":  {1, 1, "an id", func(a []string) command { return remove(a[0]) }},
	"history": {1, 1, "an id", func(a []string) command { return history(a[0]) }},
	"import":  {0, 1, "one file or none", func(a []string) command { return importFrom(strings.Join(a, "")) }},
	"watch":   {0, 0, "none", func([]string) command { return watch }},
}

const (
	maxArgs = 1 << 20
	names   = "signup, login, whoami, logout, create, get, delete, history, import or watch"
)

func commandOf(words []string) (command, error) {
	if len(words) == 0 {
		return nil, errors.New("there is no command: want " + names)
	}
	name, args := words[0], words[1:]
	c, ok := commands[name]
	if !ok {
		return nil, fmt.Errorf("command %q, want %s", name, names)
	}
	if len(args) < c.least || len(args) > c.most {
		return nil, fmt.Errorf("%s has %d arguments, want %s", name, len(args), c.wants)
	}
	return c.make(args), nil
}

// run connects and runs the command.
func (c *client) run(ctx context.Context, run command) error {
	diagnostics := slog.DiscardHandler
	if c.verbose {
		diagnostics = slog.NewTextHandler(c.stderr, nil)
	}
	tel, err := telemetry.Setup(ctx, telemetry.WithServiceName("users-cli"), telemetry.WithoutGlobals(),
		telemetry.WithDiagnostics(diagnostics), telemetry.WithShutdownTimeout(time.Second))
	if err != nil {
		return err
	}
	defer tel.Close() // what is lost, the diagnostics tell

	conn, err := grpc.NewClient(c.address, append(interceptors.DialOptions(
		interceptors.WithTracerProvider(tel.TracerProvider()),
		interceptors.WithMeterProvider(tel.MeterProvider()),
		interceptors.WithPropagator(tel.Propagator()),
		interceptors.WithLogger(slog.New(tel.SlogHandler(diagnostics))),
		interceptors.Interceptor(c.call.Look),
	), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(c.wait)))...)
	if err != nil {
		return err
	}
	defer conn.Close()
	c.users, c.sessions = usersv1.NewUserServiceClient(conn), usersv1.NewSessionServiceClient(conn)
	if c.token != "" {
		c.headers.Set("authorization", "Bearer "+c.token)
	}
	return run(metadata.NewOutgoingContext(ctx, c.headers), c)
}

// bounded returns the context of a command that is to end.
func (c *client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.timeout > 0 {
		return context.WithTimeout(ctx, c.timeout)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// tell prints an error: code and reason of one that has them, and by which ids to look for what it does not say.
func (c *client) tell(err error) {
	var e *errors.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(c.stderr, "users:", err)
		return
	}
	name := code.Code(e.Code()).String()
	if e.Reason() != "" {
		name += " " + e.Reason()
	}
	fmt.Fprintf(c.stderr, "users: %s: %s\n", name, e.Message())
	if index, ok := e.Metadata()["index"]; ok {
		fmt.Fprintf(c.stderr, "  user      number %s of the import, counted from 0\n", index)
	}
	if bad, ok := errors.Detail[*errdetails.BadRequest](e); ok {
		for _, v := range bad.GetFieldViolations() {
			fmt.Fprintf(c.stderr, "  %-9s %s\n", v.GetField(), v.GetDescription())
		}
	}
	fmt.Fprintf(c.stderr, "  request   %s\n", c.call.Request)
	if c.call.Trace != "" {
		fmt.Fprintf(c.stderr, "  trace     %s\n", c.call.Trace)
	}
	if hint := hintFor(e); hint != "" {
		fmt.Fprintln(c.stderr, " ", hint)
	}
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, interceptors.ErrNoCredentials), errors.Is(err, users.ErrNoSession):
		return "`export USERS_TOKEN=$(users login EMAIL)`, then again"
	case errors.Is(err, interceptors.ErrPermissionDenied):
		return "that is for admins"
	case errors.Is(err, users.ErrNotFound):
		return "`users get` without ids lists everybody"
	case errors.Is(err, users.ErrWatcherTooSlow):
		return "`users get`, then watch again: some users were missed"
	case errors.Is(err, users.ErrImportTooLarge):
		return "split the file"
	}
	return ""
}
