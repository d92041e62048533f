package service

import (
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

const maxWindow = 1000

type watchStream = grpc.BidiStreamingServer[usersv1.WatchUsersRequest, usersv1.WatchUsersResponse]

// WatchUsers implements usersv1.UserServiceServer.
func (s *Service) WatchUsers(stream watchStream) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	sub := first.GetSubscribe()
	if sub == nil {
		return users.ErrWatchInvalid.WithField("subscribe", "REQUIRED", "is missing: the first message is a subscription")
	}
	w, err := s.hub.watch(sub)
	if err != nil {
		return err
	}
	defer s.hub.leave(w)

	c := &conversation{stream: stream, watcher: w}
	if err := c.subscribe(sub); err != nil {
		return err
	}
	return c.run(incoming(stream))
}

// incoming returns what stream receives, the last value an error. Its goroutine ends with the stream, at the latest when
// the handler has returned.
func incoming(stream watchStream) <-chan received {
	c := make(chan received)
	go func() {
		for {
			req, err := stream.Recv()
			select {
			case c <- received{req, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

type received struct {
	request *usersv1.WatchUsersRequest
	err     error
}

// conversation is the state of one WatchUsers call.
type conversation struct {
	stream      watchStream
	watcher     *watcher
	window      int64 // 0: no limit
	sent, acked int64
}

func (c *conversation) run(requests <-chan received) error {
	ctx := c.stream.Context()
	for {
		ready := c.watcher.ready
		if c.room() == 0 {
			ready = nil // not before the next acknowledgement
		}
		select {
		case r := <-requests:
			if errors.Is(r.err, io.EOF) {
				return c.send(math.MaxInt)
			}
			if r.err != nil {
				return r.err
			}
			if err := c.handle(r.request); err != nil {
				return err
			}
		case <-ready:
			if err := c.send(c.room()); err != nil {
				return err
			}
		case <-c.watcher.ended:
			return c.watcher.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// room returns how many users may be sent now.
func (c *conversation) room() int {
	if c.window == 0 {
		return math.MaxInt
	}
	return int(max(0, c.window-(c.sent-c.acked)))
}

func (c *conversation) send(n int) error {
	for _, user := range c.watcher.take(n) {
		c.sent++
		created := &usersv1.WatchUsersResponse_Created{Sequence: c.sent, User: user}
		if err := c.stream.Send(&usersv1.WatchUsersResponse{Message: &usersv1.WatchUsersResponse_Created_{Created: created}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversation) handle(req *usersv1.WatchUsersRequest) error {
	switch m := req.GetMessage().(type) {
	case *usersv1.WatchUsersRequest_Subscribe:
		return c.subscribe(m.Subscribe)
	case *usersv1.WatchUsersRequest_Ack_:
		return c.ack(m.Ack.GetSequence())
	}
	return users.ErrWatchInvalid.WithField("message", "REQUIRED", "is empty, want a subscription or an acknowledgement")
}

func (c *conversation) subscribe(sub *usersv1.WatchUsersRequest_Subscription) error {
	if w := sub.GetWindow(); w < 0 || w > maxWindow {
		return users.ErrWatchInvalid.WithField("subscribe.window", "OUT_OF_RANGE", "want 0 to 1000")
	}
	c.window = int64(sub.GetWindow())
	c.watcher.subscribe(sub)
	subscribed := &usersv1.WatchUsersResponse_Subscribed{Time: timestamppb.New(time.Now())}
	return c.stream.Send(&usersv1.WatchUsersResponse{Message: &usersv1.WatchUsersResponse_Subscribed_{Subscribed: subscribed}})
}

func (c *conversation) ack(sequence int64) error {
	if sequence < c.acked || sequence > c.sent {
		return users.ErrWatchInvalid.WithField("ack.sequence", "OUT_OF_RANGE", "is not that of a user sent after the last acknowledgement")
	}
	c.acked = sequence
	return nil
}
