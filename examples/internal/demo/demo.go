package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// limit is how long the scenario may take. It takes a second; on a busy machine, with the race detector, hashing passwords takes longer.
const limit = 2 * time.Minute

// wantCodes is what the metrics are to say after the scenario.
var wantCodes = map[string]map[string]uint64{
	"users.v1.SessionService/LogIn":    {"OK": 1},
	"users.v1.SessionService/SignUp":   {"OK": 1},
	"users.v1.UserService/CreateUser":  {"ALREADY_EXISTS": 1, "INTERNAL": 1, "OK": 2, "UNAVAILABLE": 1},
	"users.v1.UserService/GetUsers":    {"DEADLINE_EXCEEDED": 1, "NOT_FOUND": 1},
	"users.v1.UserService/ImportUsers": {"OK": 1},
	"users.v1.UserService/ListUsers":   {"OK": 1, "PERMISSION_DENIED": 1, "UNAUTHENTICATED": 1},
	"users.v1.UserService/WatchUsers":  {"OK": 1},
}

// Run plays the scenario and prints what happens to out. It returns an error that names each thing that was not as it
// should be.
func Run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := start(out, "localhost:0", "localhost:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.shutdown()) }()
	fmt.Fprintf(out, "users-web on %s, in front of users-api on %s, in front of users-audit on %s, both in front of SQLite in memory.\n"+
		"Each request below is one trace with one request id, through all of them.\n", s.web, s.address, s.audit)

	begin := time.Now()
	for i, step := range scenario {
		fmt.Fprintf(out, "\n%d. %s\n\n", i+1, step.title)
		got := step.run(ctx, s)
		if e := s.check(step, got); e != nil {
			err = errors.Join(err, fmt.Errorf("step %d, %s: %w", i+1, step.title, e))
		}
		fmt.Fprintf(out, "   → %v", got)
		if got.message != "" {
			fmt.Fprintf(out, ": %q", got.message)
		}
		fmt.Fprintln(out)
	}
	elapsed := time.Since(begin)

	methods, e := s.finishedMethods(ctx)
	if e != nil {
		return errors.Join(err, e)
	}
	fmt.Fprintf(out, "\nWhat the metric rpc.server.call.duration says of %s:\n\n", elapsed.Round(time.Millisecond))
	err = errors.Join(err, checkCodes(methods), summarize(out, methods, elapsed))
	if err == nil {
		fmt.Fprint(out, next)
	}
	return err
}

const next = `
Every span, id, code and count above was compared with what it should be: all as expected.

Next:
  make run               the same system and its page, until Ctrl-C
  docker compose up      with Jaeger, Prometheus and Grafana
  examples/README.md     the command line client, and where to read the code
`

// check compares the outcome of a step, and what was recorded of it, with what is wanted.
func (s *system) check(want step, got outcome) error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if got.String() != want.want {
		problem("got %v, want %s", got, want.want)
	}
	recorded, err := s.recorder.finished(got.trace, want.logs)
	if err != nil {
		problem("%w", err)
	}
	if tree := recorded.tree(); tree != want.tree {
		problem("trace %s is\n%swant\n%s", got.trace, tree, want.tree)
	}
	if len(recorded.logs) != want.logs {
		problem("%d log records, want %d", len(recorded.logs), want.logs)
	}
	if ids := recorded.requestIDs(); len(ids) != 1 || ids[0] != got.request || got.request == "" {
		problem("request ids in spans and logs are %q, want %q alone", ids, got.request)
	}
	if want.want == "INTERNAL" && !strings.Contains(recorded.stack(), "CreateUser") {
		problem("the stack on the span is %q, want one that names the handler", recorded.stack())
	}
	return errors.Join(problems...)
}

// stack returns the stack of the exception that a span of the trace has.
func (t traced) stack() string {
	for _, s := range t.spans {
		for _, event := range s.Events() {
			if text, ok := valueOf(event.Attributes, semconv.ExceptionStacktraceKey); ok {
				return text
			}
		}
	}
	return ""
}

func checkCodes(methods []*method) error {
	var problems []error
	for _, m := range methods {
		// The server's deadline begins to run a little after the client's: mostly the client has hung up before.
		got := strings.Replace(outcomes(m.codes), "CANCELLED 1", "DEADLINE_EXCEEDED 1", 1)
		if want := outcomes(wantCodes[m.name]); got != want {
			problems = append(problems, fmt.Errorf("metrics of %s: %s, want %s", m.name, got, want))
		}
	}
	if len(methods) != len(wantCodes) {
		problems = append(problems, fmt.Errorf("metrics of %d methods, want %d", len(methods), len(wantCodes)))
	}
	return errors.Join(problems...)
}

// Serve keeps the system, with some users in it, running until ctx is done. Each request is printed as it ends.
func Serve(ctx context.Context, out io.Writer) (err error) {
	s, err := start(out, "localhost:8080", "localhost:50051")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.shutdown()) }()
	if o := logIn(admin, adminPassword)(ctx, s); o.code != "OK" {
		return fmt.Errorf("logging in as the admin: %v", o)
	}
	first := importUsers(
		&usersv1.NewUser{Name: "Ada Lovelace", Email: "ada@example.com"},
		&usersv1.NewUser{Name: "Grace Hopper", Email: "grace@example.com"},
		&usersv1.NewUser{Name: "Barbara Liskov", Email: "barbara@example.com"},
	)
	if o := first(ctx, s); o.code != "OK" {
		return fmt.Errorf("importing the first users: %v", o)
	}
	fmt.Fprintf(out, `The page        %s/
Sign up there, or log in as %s with the password %q
Users as lines  curl -H "Authorization: Bearer %s" %s/users/
gRPC            %s, with reflection
Command line    cd examples && USERS_TOKEN=%s go run ./cmd/users -addr %s watch

Each request is printed here as it ends. Ctrl-C stops.

`, s.web, admin, adminPassword, s.token, s.web, s.address, s.token, s.address)
	<-ctx.Done()
	return nil
}
