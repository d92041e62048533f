package interceptors_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rpcscope/rpcscope/interceptors"
)

func TestMethods(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		method   string
		want     bool
	}{
		{[]string{"/pkg.Svc/Get"}, "/pkg.Svc/Get", true},
		{[]string{"/pkg.Svc/Get"}, "/pkg.Svc/GetAll", false},
		{[]string{"/pkg.Svc/Get"}, "pkg.Svc/Get", false},
		{[]string{"/pkg.Svc/*"}, "/pkg.Svc/Get", true},
		{[]string{"/pkg.Svc/*"}, "/pkg.Svc2/Get", false},
		{[]string{"/pkg.Svc/*"}, "/other/pkg.Svc/Get", false},
		{[]string{"/pkg.Svc/*"}, "pkg.Svc/Get", false},
		{[]string{"/a.B/C", "/d.E/*"}, "/d.E/F", true},
		{[]string{"/a.B/C", "/d.E/*"}, "/a.B/D", false},
		{[]string{"/a.B/C", "*"}, "/x.Y/Z", true},
		{[]string{"*"}, "", true},
	} {
		m := interceptors.Methods(test.patterns...)
		call := &interceptors.Call{FullMethod: test.method}
		if got := m(call); got != test.want {
			t.Errorf("Methods(%q) on %q: %v, want %v", test.patterns, test.method, got, test.want)
		}
		if got := interceptors.Not(m)(call); got == test.want {
			t.Errorf("Not(Methods(%q)) on %q: %v, want %v", test.patterns, test.method, got, !test.want)
		}
	}
	if interceptors.Not(nil)(&interceptors.Call{}) {
		t.Error("Not(nil) matches, want nothing: a nil matcher matches every call")
	}
}

func TestMethodsPanicsOnWhatCanMatchNothing(t *testing.T) {
	for _, pattern := range []string{"", "/", "pkg.Svc/Get", "/pkg.Svc", "/pkg.Svc/", "//Get", "/pkg.*/Get", "/*/Get", "/pkg.Svc/Get*", "/pkg.Svc /Get", "**", "/*"} {
		t.Run(pattern, func(t *testing.T) {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, fmt.Sprintf("%q", pattern)) || !strings.Contains(text, "/pkg.Service/Method") {
					t.Errorf("Methods(%q): recovered %q, want a panic that names the pattern and what is allowed", pattern, text)
				}
			}()
			interceptors.Methods("/fine.Svc/Get", pattern)
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("Methods() did not panic")
		}
	}()
	interceptors.Methods()
}

func TestKindAndSideStrings(t *testing.T) {
	want := map[fmt.Stringer]string{
		interceptors.Unary: "unary", interceptors.ClientStream: "client_stream", interceptors.ServerStream: "server_stream",
		interceptors.BidiStream: "bidi_stream", interceptors.Kind(9): "Kind(9)",
		interceptors.ServerSide: "server", interceptors.ClientSide: "client", interceptors.Side(9): "Side(9)",
	}
	for v, s := range want {
		if v.String() != s {
			t.Errorf("got %q, want %q", v.String(), s)
		}
	}
}

// A Call that the engine did not make works, so that an interceptor can be
// tested with a literal.
func TestZeroCall(t *testing.T) {
	var c interceptors.Call
	if c.Service() != "" || c.Method() != "" || c.Target() != "" || c.Sent() != 0 || c.Received() != 0 || c.Metadata() != nil || c.Header() != nil || c.Trailer() != nil {
		t.Errorf("the zero Call is not empty: %+v", &c)
	}
	if err := c.SetHeader(nil); err == nil {
		t.Error("SetHeader of a call that is not served returned nil")
	}
	c.AddCallOptions()
	c.OnSend(nil)
	c.OnReceive(nil)
}
