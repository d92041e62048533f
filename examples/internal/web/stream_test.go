package web_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// slow is a users service that sends the user "second" when it is told to.
type slow struct {
	usersv1.UnimplementedUserServiceServer
	more  chan struct{}
	ended chan struct{} // is closed when the caller has gone
}

func (s slow) ListUsers(_ *usersv1.ListUsersRequest, stream grpc.ServerStreamingServer[usersv1.ListUsersResponse]) error {
	if err := stream.Send(&usersv1.ListUsersResponse{User: &usersv1.User{Id: "first"}}); err != nil {
		return err
	}
	select {
	case <-s.more:
		return stream.Send(&usersv1.ListUsersResponse{User: &usersv1.User{Id: "second"}})
	case <-stream.Context().Done():
		close(s.ended)
		return stream.Context().Err()
	}
}

// before returns the URL of a web app in front of s.
func before(t *testing.T, s slow) string {
	t.Helper()
	r := telemetrytest.New(t)
	pipe, server := bufconn.Listen(1<<20), grpc.NewServer(r.ServerOptions()...)
	usersv1.RegisterUserServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///users", append(r.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	app := httptest.NewServer(web.New(conn, web.Config{Observe: observe.Through(r.Telemetry(), nil)}))
	t.Cleanup(app.Close)
	return app.URL
}

// getLines returns the lines of the list as they arrive, until the end of the test.
func getLines(t *testing.T, ctx context.Context, url string) *bufio.Scanner {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/users/", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = response.Body.Close()
		client.CloseIdleConnections()
	})
	return bufio.NewScanner(response.Body)
}

// A user is on its way to the browser before the next one is there.
func TestListIsNotHeldBack(t *testing.T) {
	s := slow{more: make(chan struct{}), ended: make(chan struct{})}
	lines := getLines(t, t.Context(), before(t, s))
	for _, want := range []string{"first", "second"} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("line %q, %v, want %s", lines.Text(), lines.Err(), want)
		}
		if want == "first" {
			close(s.more)
		}
	}
}

// The call to the service ends when the browser goes away.
func TestListEndsWithBrowser(t *testing.T) {
	s := slow{more: make(chan struct{}), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := getLines(t, ctx, before(t, s))
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	cancel()
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second): // less than the web app's own timeout
		t.Error("the call goes on although nobody waits")
	}
}
