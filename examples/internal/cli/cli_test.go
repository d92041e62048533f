package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/examples/internal/cli"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/examples/internal/sessions"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns the address of a users service and what records it. The clients' own telemetry goes nowhere.
func start(t *testing.T) (string, *telemetrytest.Recorder) {
	t.Helper()
	return startWith(t, service.Config{Open: true})
}

func startWith(t *testing.T, cfg service.Config) (string, *telemetrytest.Recorder) {
	t.Helper()
	for _, signal := range []string{"METRICS", "LOGS"} {
		t.Setenv("OTEL_"+signal+"_EXPORTER", "none")
	}
	collector := telemetrytest.NewCollector(t, telemetrytest.OK)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.Endpoint())
	r := telemetrytest.New(t)
	cfg.Faults, cfg.Observe = true, observe.Through(r.Telemetry(), nil)
	address, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, cfg) })
	return address, r
}

// result is what a run of the program leaves.
type result struct {
	code        int
	out, errOut string
}

func run(ctx context.Context, stdin string, args ...string) result {
	var out, errOut bytes.Buffer
	code := cli.Run(ctx, args, strings.NewReader(stdin), &out, &errOut)
	return result{code, out.String(), errOut.String()}
}

// names returns the names of the users that were printed as JSON.
func names(t *testing.T, out string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(out) {
		var user struct{ Name string }
		if err := json.Unmarshal([]byte(line), &user); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, user.Name)
	}
	return list
}

func TestCreateAndGet(t *testing.T) {
	address, _ := start(t)
	created := run(t.Context(), "", "-addr", address, "create", "Ada Lovelace", "ada@example.com", "--timeout=5s", "--wait")
	if want := regexp.MustCompile(`^u-\w{16}  \S+T\S+Z  Ada Lovelace +ada@example\.com\n$`); created.code != 0 || !want.MatchString(created.out) {
		t.Fatalf("create: %+v, want a line like %v", created, want)
	}
	id, _, _ := strings.Cut(created.out, " ")
	got := run(t.Context(), "", "get", id, "-addr", address)
	if diff := cmp.Diff(result{0, created.out, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
	all := run(t.Context(), "", "get", "-json", "-addr", address)
	if diff := cmp.Diff([]string{"Ada Lovelace"}, names(t, all.out)); all.code != 0 || diff != "" {
		t.Errorf("get -json: %+v (-want +got):\n%s", all, diff)
	}
}

func TestImport(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
		wantErr  string
	}{
		{"nothing", "", nil, ""},
		{"blanks", " \n", nil, ""},
		{"CSV", "Ada,ada@example.com\n\"Bob, Jr\", bob@example.com\n", []string{"Ada", "Bob, Jr"}, ""},
		{"CSV with a heading", "\nName,Email\nAda,ada@example.com", []string{"Ada"}, ""},
		{"JSON", "{\"name\":\"Ada\",\"email\":\"ada@example.com\"}\n\n{\"name\":\"Bob\",\"email\":\"bob@example.com\"}", []string{"Ada", "Bob"}, ""},
		{"CSV with another column", "Ada,ada@example.com\nBob,bob@example.com,x\n", nil, "record on line 2: wrong number of fields, want NAME,EMAIL"},
		{"JSON with another field", `{"nick":"Ada"}`, nil, `object 0, counted from 0: json: unknown field "nick"`},
		{"JSON cut short", `{"name":"Ada","email":"a@example.com"}{"na`, nil, "object 1, counted from 0: unexpected EOF"},
		{"one is refused", "Ada,ada@example.com\nBob,bob", nil, "users: INVALID_ARGUMENT USER_INVALID: the user is not valid\n  user      number 1 of the import, counted from 0\n  user.email is no address"},
		{"one is there twice", "Ada,ada@example.com\nAda,Ada@example.com", nil, "users: ALREADY_EXISTS USER_EMAIL_TAKEN: the e-mail address Ada@example.com is taken\n"},
		{"too many", strings.Repeat("Ada,ada@example.com\n", 1001), nil, "users: RESOURCE_EXHAUSTED IMPORT_TOO_LARGE: an import takes at most 1000 users\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address, _ := start(t)
			got := run(t.Context(), test.in, "-addr", address, "import")
			if (got.code == 0) != (test.wantErr == "") || !strings.Contains(got.errOut, test.wantErr) {
				t.Errorf("import: %+v, want error %q", got, test.wantErr)
			}
			all := run(t.Context(), "", "-addr", address, "-json", "get")
			if diff := cmp.Diff(test.want, names(t, all.out)); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
}

// endless is a file whose lines are all wrong.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "x,x\n"), nil }

// The service refuses while the client is still sending: the client stops, and says why.
func TestImportRefusedEarly(t *testing.T) {
	address, _ := start(t)
	var out, errOut bytes.Buffer
	code := cli.Run(t.Context(), []string{"-addr", address, "-timeout", "20s", "import"}, endless{}, &out, &errOut)
	if code != 1 || !strings.Contains(errOut.String(), "users: INVALID_ARGUMENT USER_INVALID: ") {
		t.Errorf("exit code %d, %q, want 1 and USER_INVALID", code, &errOut)
	}
}

func TestImportFile(t *testing.T) {
	address, _ := start(t)
	path := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(path, []byte("Ada,ada@example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := result{0, "users imported: 1\n", ""}
	if diff := cmp.Diff(want, run(t.Context(), "", "-addr", address, "import", path), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := run(t.Context(), "", "-addr", address, "import", path+"x"); got.code != 1 || !strings.Contains(got.errOut, "no such file") {
		t.Errorf("a file that is not there: %+v", got)
	}
}

// An error names code and reason, and the ids by which the service's span and log record are found.
func TestErrors(t *testing.T) {
	address, r := start(t)
	got := run(t.Context(), "", "-addr", address, "get", "u-0")
	want := regexp.MustCompile("^users: NOT_FOUND USER_NOT_FOUND: user u-0 not found\n  request   (\\S+)\n  trace     ([0-9a-f]{32})\n  `users get` .*\n$")
	ids := want.FindStringSubmatch(got.errOut)
	if got.code != 1 || got.out != "" || ids == nil {
		t.Fatalf("get: %+v, want %v", got, want)
	}
	span := r.Spans().Named("users.v1.UserService/GetUsers").One()
	if id := span.Attr("request.id").AsString(); id != ids[1] {
		t.Errorf("request %s, but the service's span has %s", ids[1], id)
	}
	if id := span.SpanContext().TraceID().String(); id != ids[2] {
		t.Errorf("trace %s, but the service's span has %s", ids[2], id)
	}
}

func TestMetadataAndTimeout(t *testing.T) {
	address, _ := start(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"panic", []string{"-H", "x-fault=panic", "get"}, "users: INTERNAL: internal error\n"},
		{"two headers", []string{"-H", "x-fault=delay=1ms", "-H", "x-fault=error", "get"}, "users: UNKNOWN: unknown error\n"},
		{"timeout", []string{"-H", "x-fault=delay=1h", "-timeout", "100ms", "create", "Ada", "ada@example.com"}, "users: DEADLINE_EXCEEDED: "},
		{"timeout of a watch", []string{"-timeout", "100ms", "watch"}, "users: DEADLINE_EXCEEDED: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := run(t.Context(), "", append(test.args, "-addr", address)...); got.code != 1 || !strings.Contains(got.errOut, test.want) {
				t.Errorf("%+v, want %q", got, test.want)
			}
		})
	}
}

func TestWait(t *testing.T) {
	_, _ = start(t) // for its environment
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := run(t.Context(), "", "-addr", nobody, "get"); got.code != 1 || !strings.Contains(got.errOut, "users: UNAVAILABLE: ") {
		t.Errorf("nobody listens: %+v, want UNAVAILABLE at once", got)
	}
	if got := run(t.Context(), "", "-addr", nobody, "-wait", "-timeout", "100ms", "get"); got.code != 1 || !strings.Contains(got.errOut, "users: DEADLINE_EXCEEDED: ") {
		t.Errorf("nobody listens, waiting: %+v, want DEADLINE_EXCEEDED", got)
	}
}

func TestWatch(t *testing.T) {
	address, _ := start(t)
	ctx, interrupt := context.WithCancel(t.Context())
	out := make(writer, 100)
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"-addr", address, "watch", "-domain", "example.com"}, nil, out, out)
	}()
	out.find(t, "watching")
	for _, user := range [][2]string{{"Other", "x@example.org"}, {"Ada", "ada@example.com"}} {
		if got := run(t.Context(), "", "-addr", address, "create", user[0], user[1]); got.code != 0 {
			t.Fatalf("create: %+v", got)
		}
	}
	if got := out.find(t, ""); !strings.Contains(got, "ada@example.com") {
		t.Errorf("watch prints %q, want Ada", got)
	}
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d after an interrupt, want 0; it printed %q", code, out.rest())
	}
}

func TestWatchCount(t *testing.T) {
	address, _ := start(t)
	out := make(writer, 100)
	ended := make(chan int, 1)
	go func() { ended <- cli.Run(t.Context(), []string{"-addr", address, "watch", "-n", "20"}, nil, out, out) }()
	out.find(t, "watching")
	in := strings.Builder{}
	for i := range 20 { // more than the window
		in.WriteString("P,p" + string(rune('a'+i)) + "@example.com\n")
	}
	if got := run(t.Context(), in.String(), "-addr", address, "import"); got.code != 0 {
		t.Fatalf("import: %+v", got)
	}
	if code := <-ended; code != 0 || len(out) != 20 {
		t.Errorf("exit code %d and %d lines, want 0 and 20", code, len(out))
	}
}

// writer hands on what is written to it.
type writer chan string

func (w writer) Write(p []byte) (int, error) { w <- string(p); return len(p), nil }

func (w writer) find(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case got := <-w:
			if strings.Contains(got, text) {
				return got
			}
		case <-timeout:
			t.Fatalf("nothing printed with %q", text)
		}
	}
}

func (w writer) rest() (all string) {
	for len(w) > 0 {
		all += <-w
	}
	return all
}

func TestUsage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "there is no command: want signup, login,"},
		{"unknown command", []string{"purge"}, `command "purge", want signup, login,`},
		{"create", []string{"create", "Ada"}, "create has 1 arguments, want a name and an e-mail address"},
		{"import", []string{"import", "a", "b"}, "import has 2 arguments, want one file or none"},
		{"watch", []string{"watch", "x"}, "watch has 1 arguments, want none"},
		{"metadata", []string{"-H", "x", "get"}, `invalid value "x" for flag -H: want key=value`},
		{"flag", []string{"-x"}, "flag provided but not defined: -x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := run(t.Context(), "", test.args...); got.code != 2 || !strings.Contains(got.errOut, test.want) {
				t.Errorf("%+v, want code 2 and %q", got, test.want)
			}
		})
	}
	if got := run(t.Context(), "", "-help"); got.code != 0 || !strings.Contains(got.errOut, "create NAME EMAIL") || !strings.Contains(got.errOut, "-timeout") {
		t.Errorf("-help: %+v, want the commands and the flags", got)
	}
}

func TestAddressFromEnvironment(t *testing.T) {
	address, _ := start(t)
	t.Setenv("USERS_ADDR", address)
	if got := run(t.Context(), "", "get"); got.code != 0 {
		t.Errorf("%+v, want code 0", got)
	}
}

// Signing up, in and out, and what admins may do.
func TestSessions(t *testing.T) {
	const secret = "correct horse battery"
	address, _ := startWith(t, service.Config{Admin: "root@example.com", AdminPassword: secret, Sessions: sessions.Config{Cost: 10}})
	t.Setenv("USERS_ADDR", address)
	must := func(stdin string, args ...string) string {
		t.Helper()
		r := run(t.Context(), stdin, args...)
		if r.code != 0 {
			t.Fatalf("%q: code %d, want 0\n%s", args, r.code, r.errOut)
		}
		return r.out
	}
	ada := strings.TrimSpace(must(secret+"\n", "signup", "Ada", "ada@example.com"))
	if got := names(t, must("", "-token", ada, "-json", "whoami")); !slices.Equal(got, []string{"Ada"}) {
		t.Errorf("whoami: got %q, want Ada", got)
	}
	if r := run(t.Context(), "\n", "login", "ada@example.com"); r.code != 1 || !strings.Contains(r.errOut, "there is no password") {
		t.Errorf("without a password: got code %d\n%s", r.code, r.errOut)
	}
	t.Setenv("USERS_PASSWORD", secret)
	t.Setenv("USERS_TOKEN", strings.TrimSpace(must("", "login", "root@example.com")))
	if got := names(t, must("", "-json", "get")); !slices.Equal(got, []string{"Admin", "Ada"}) {
		t.Errorf("get: got %q, want Admin and Ada", got)
	}
	var user struct{ ID string }
	if err := json.Unmarshal([]byte(must("", "-token", ada, "-json", "whoami")), &user); err != nil {
		t.Fatal(err)
	}
	must("", "delete", user.ID)
	must("", "logout")
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"logged out", "users: UNAUTHENTICATED NO_SESSION: the session is over: log in again\n", []string{"get"}},
		{"deleted", "users: UNAUTHENTICATED NO_SESSION:", []string{"-token", ada, "whoami"}},
		{"no token", "users: UNAUTHENTICATED NO_CREDENTIALS:", []string{"-token", "", "get"}},
		{"wrong password", "users: UNAUTHENTICATED LOGIN_FAILED:", []string{"login", "ada@example.com"}},
		{"no events", "users: UNAUTHENTICATED NO_SESSION:", []string{"history", user.ID}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := run(t.Context(), "", tt.args...); r.code != 1 || !strings.Contains(r.errOut, tt.want) || strings.Contains(r.errOut, ada) {
				t.Errorf("got code %d, want 1 and %q\n%s", r.code, tt.want, r.errOut)
			}
		})
	}
	if r := run(t.Context(), "", "-help"); strings.Contains(r.errOut, os.Getenv("USERS_TOKEN")) {
		t.Errorf("the help prints the token:\n%s", r.errOut)
	}
	bob := strings.TrimSpace(must("", "signup", "Bob", "bob@example.com"))
	if r := run(t.Context(), "", "-token", bob, "get"); !strings.Contains(r.errOut, "PERMISSION_DENIED") || !strings.Contains(r.errOut, "that is for admins") {
		t.Errorf("a user lists everybody: %s", r.errOut)
	}
}
