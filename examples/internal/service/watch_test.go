package service_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

type watchStream = grpc.BidiStreamingClient[usersv1.WatchUsersRequest, usersv1.WatchUsersResponse]

func subscribe(domain string, window int32) *usersv1.WatchUsersRequest {
	sub := &usersv1.WatchUsersRequest_Subscription{EmailDomain: domain, Window: window}
	return &usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Subscribe{Subscribe: sub}}
}

func ack(sequence int64) *usersv1.WatchUsersRequest {
	return &usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Ack_{Ack: &usersv1.WatchUsersRequest_Ack{Sequence: sequence}}}
}

func send(t *testing.T, stream watchStream, req *usersv1.WatchUsersRequest) {
	t.Helper()
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
}

// next returns the next message as text.
func next(t *testing.T, stream watchStream) string {
	t.Helper()
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if reply.GetSubscribed() != nil {
		return "subscribed"
	}
	return fmt.Sprint(reply.GetCreated().GetSequence(), " ", reply.GetCreated().GetUser().GetName())
}

func expect(t *testing.T, stream watchStream, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, next(t, stream))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("received (-want +got):\n%s", diff)
	}
}

// watch returns a stream whose first subscription is in force.
func watch(t *testing.T, ctx context.Context, client usersv1.UserServiceClient, domain string, window int32) watchStream {
	t.Helper()
	stream, err := client.WatchUsers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, subscribe(domain, window))
	expect(t, stream, "subscribed")
	return stream
}

func TestWatchUsers(t *testing.T) {
	_, client := start(t, nil)
	create(t, client, newUser("Before"))
	stream := watch(t, timeout(t), client, "", 0)
	create(t, client, newUser("Ada"))
	expect(t, stream, "1 Ada")
	if _, err := importAll(t, client, newUser("Bob"), newUser("Cy")); err != nil {
		t.Fatal(err)
	}
	expect(t, stream, "2 Bob", "3 Cy")

	send(t, stream, subscribe("Example.ORG", 0))
	expect(t, stream, "subscribed")
	create(t, client, newUser("Dan"))
	create(t, client, &usersv1.NewUser{Name: "Eve", Email: "eve@example.org"})
	expect(t, stream, "4 Eve")

	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("after the sending side was closed: %v, want %v", err, io.EOF)
	}
}

func TestWatchUsersWindow(t *testing.T) {
	_, client := start(t, nil)
	stream := watch(t, timeout(t), client, "", 2)
	if _, err := importAll(t, client, people(5)...); err != nil {
		t.Fatal(err)
	}
	expect(t, stream, "1 P0", "2 P1")
	// Nothing more is sent before the acknowledgement: were there a third, it would come before the answer to this.
	send(t, stream, subscribe("", 2))
	expect(t, stream, "subscribed")
	send(t, stream, ack(1))
	expect(t, stream, "3 P2")
	send(t, stream, subscribe("", 2))
	expect(t, stream, "subscribed")
	// Nobody will acknowledge any more: the rest is sent, then the stream ends.
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	expect(t, stream, "4 P3", "5 P4")
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("at the end: %v, want %v", err, io.EOF)
	}
}

// A watcher that does not keep up delays nobody. It is ended when its queue is full, and told so.
func TestWatchUsersTooSlow(t *testing.T) {
	_, client := start(t, nil)
	slow := watch(t, timeout(t), client, "", 1)
	quick := watch(t, timeout(t), client, "", 0)
	for i := range 5 {
		list := people(1000)
		for j, n := range list {
			n.Email = fmt.Sprintf("p%d.%d@example.com", i, j)
		}
		if _, err := importAll(t, client, list...); err != nil {
			t.Fatal(err)
		}
		for range list {
			next(t, quick)
		}
	}
	expect(t, slow, "1 P0")
	if _, err := slow.Recv(); !errors.Is(err, users.ErrWatcherTooSlow) {
		t.Errorf("error = %v, want %v", err, users.ErrWatcherTooSlow)
	}
	create(t, client, newUser("Ada"))
	expect(t, quick, "5001 Ada")
}

func TestWatchUsersRefused(t *testing.T) {
	tests := []struct {
		name      string
		requests  []*usersv1.WatchUsersRequest
		wantField string
	}{
		{"nothing said", []*usersv1.WatchUsersRequest{{}}, "subscribe REQUIRED"},
		{"acknowledgement first", []*usersv1.WatchUsersRequest{ack(0)}, "subscribe REQUIRED"},
		{"window below 0", []*usersv1.WatchUsersRequest{subscribe("", -1)}, "subscribe.window OUT_OF_RANGE"},
		{"window above 1000", []*usersv1.WatchUsersRequest{subscribe("", 1001)}, "subscribe.window OUT_OF_RANGE"},
		{"nothing said later", []*usersv1.WatchUsersRequest{subscribe("", 1), {}}, "message REQUIRED"},
		{"acknowledges what was not sent", []*usersv1.WatchUsersRequest{subscribe("", 1), ack(1)}, "ack.sequence OUT_OF_RANGE"},
		{"acknowledges below 0", []*usersv1.WatchUsersRequest{subscribe("", 1), ack(-1)}, "ack.sequence OUT_OF_RANGE"},
	}
	_, client := start(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream, err := client.WatchUsers(timeout(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, req := range test.requests {
				send(t, stream, req)
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if !errors.Is(err, users.ErrWatchInvalid) {
				t.Fatalf("error = %v, want %v", err, users.ErrWatchInvalid)
			}
			if diff := cmp.Diff([]string{test.wantField}, fields(err)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWatchUsersEnds(t *testing.T) {
	t.Run("closed before anything is said", func(t *testing.T) {
		_, client := start(t, nil)
		stream, err := client.WatchUsers(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("error = %v, want %v", err, io.EOF)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		_, client := start(t, nil)
		ctx, cancel := context.WithCancel(timeout(t))
		stream := watch(t, ctx, client, "", 0)
		cancel()
		if _, err := stream.Recv(); errors.Code(err) != codes.Canceled {
			t.Errorf("error = %v, want %v", err, codes.Canceled)
		}
	})
	t.Run("the server stops", func(t *testing.T) {
		svc, client := start(t, nil)
		stream := watch(t, timeout(t), client, "", 1)
		svc.Stop()
		if _, err := stream.Recv(); !errors.Is(err, users.ErrStopping) {
			t.Errorf("error = %v, want %v", err, users.ErrStopping)
		}
		late, err := client.WatchUsers(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		send(t, late, subscribe("", 0))
		if _, err := late.Recv(); !errors.Is(err, users.ErrStopping) {
			t.Errorf("a new watcher: %v, want %v", err, users.ErrStopping)
		}
	})
}
