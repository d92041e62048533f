package interceptorstest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// Run of an interceptor that forgets to call next, in a process of its own: the
// subtests fail that have to, and say what is wrong.
func TestRunReports(t *testing.T) {
	if os.Getenv("INTERCEPTORSTEST_BROKEN") != "" {
		forgets := func(context.Context, *call, next) error { return nil }
		interceptorstest.Run(t, forgets, interceptorstest.Kinds(interceptors.BidiStream), interceptorstest.Sides(interceptors.ServerSide), nil)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunReports$", "-test.v")
	cmd.Env = append(os.Environ(), "INTERCEPTORSTEST_BROKEN=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the test passed or did not run (%v):\n%s", err, out)
	}
	for _, want := range []string{
		"--- FAIL: TestRunReports/server/bidi_stream/ok",
		"--- FAIL: TestRunReports/server/bidi_stream/error-mid-stream",
		": calls-next: it returned nil without calling next\n",
		"rule: an interceptor that lets calls happen calls next\n",
		"what to do: call next, or declare what it does instead with Rejects or MayAnswer\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestViolation(t *testing.T) {
	forgets := func(context.Context, *call, next) error { return nil }
	got := violations(t, interceptorstest.Check(forgets, interceptorstest.Endings("panic"),
		interceptorstest.Kinds(interceptors.ClientStream), interceptorstest.Sides(interceptors.ClientSide)))
	want := []*interceptorstest.Violation{{
		Obligation: "calls-next",
		Rule:       "an interceptor that lets calls happen calls next",
		Remedy:     "call next, or declare what it does instead with Rejects or MayAnswer",
		Side:       interceptors.ClientSide, Kind: interceptors.ClientStream, Ending: "panic",
		Got: "it returned nil without calling next",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("violations (-want +got):\n%s", diff)
	}
	if got, want := got[0].Error(), "client/client_stream/panic: calls-next: it returned nil without calling next; "+
		"an interceptor that lets calls happen calls next: call next, or declare what it does instead with Rejects or MayAnswer"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestWrongOptions(t *testing.T) {
	var noMessage *wrapperspb.StringValue
	tests := []struct {
		name   string
		option interceptorstest.Option
		want   string
	}{
		{"no side", interceptorstest.Sides(), "Sides: none given; want interceptors.ServerSide, interceptors.ClientSide or both"},
		{"undefined side", interceptorstest.Sides(7), "Sides: Side(7); want interceptors.ServerSide or interceptors.ClientSide"},
		{"no kind", interceptorstest.Kinds(), "Kinds: none given; want at least one of interceptors.Unary, ClientStream, ServerStream and BidiStream"},
		{"undefined kind", interceptorstest.Kinds(9), "Kinds: Kind(9); want interceptors.Unary, ClientStream, ServerStream or BidiStream"},
		{"rejects with OK", interceptorstest.Rejects(codes.OK), "Rejects: OK; want the code of an error"},
		{"recovers with OK", interceptorstest.Recovers(codes.OK), "Recovers: OK; want the code of an error"},
		{"method without slash", interceptorstest.WithMethod("users.v1.UserService/GetUser"), `WithMethod: "users.v1.UserService/GetUser"; want "/pkg.Service/Method"`},
		{"no method", interceptorstest.WithMethod("/users.v1.UserService/"), `WithMethod: "/users.v1.UserService/"; want "/pkg.Service/Method"`},
		{"no messages", interceptorstest.WithMessages(nil, noMessage), "WithMessages: <nil> and *wrapperspb.StringValue; want a request and a reply that are not nil"},
		{"nil messages", interceptorstest.WithMessages(wrapperspb.String(""), noMessage), "WithMessages: *wrapperspb.StringValue and *wrapperspb.StringValue; want a request and a reply that are not nil"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := interceptorstest.Check(noop, tt.option)
			if err == nil || err.Error() != "interceptorstest: "+tt.want {
				t.Errorf("got %v, want interceptorstest: %s", err, tt.want)
			}
		})
	}
	if err := interceptorstest.Check(nil); err == nil || err.Error() != "interceptorstest: the interceptor is nil; want the one to test" {
		t.Errorf("a nil interceptor: %v", err)
	}
}

// Calls that something else refuses are no fault of the interceptor's.
func TestCallsThatDoNotArrive(t *testing.T) {
	err := interceptorstest.Check(noop, interceptorstest.Endings("ok"), interceptorstest.Kinds(interceptors.Unary), interceptorstest.Sides(interceptors.ServerSide),
		interceptorstest.With(interceptors.Interceptor(func(context.Context, *call, next) error { return errors.New("not today") })))
	var v *interceptorstest.Violation
	if err == nil || errors.As(err, &v) {
		t.Fatalf("got %v, want an error that is no violation", err)
	}
	if want := "interceptorstest: server/unary/ok: a call did not get to the interceptor: "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "WithContext") {
		t.Errorf("got %v, want %s...", err, want)
	}
}
