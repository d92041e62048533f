package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/propagation"
)

const (
	window    = 64               // users sent to us and not yet to the browser
	heartbeat = 15 * time.Second // between comments, so that nothing between here and the browser closes an idle stream
)

type watchStream = grpc.BidiStreamingClient[usersv1.WatchUsersRequest, usersv1.WatchUsersResponse]

// follow sends an event for each user created from now on.
func (a *App) follow(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(a.outgoing(r))
	defer cancel()
	defer context.AfterFunc(a.stopped, cancel)()

	stream, err := a.subscribe(ctx, r.URL.Query().Get("domain"))
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	events := &eventWriter{w: w, flush: http.NewResponseController(w).Flush}
	events.send("subscribed", map[string]string{
		"requestId": propagation.RequestID(ctx),
		"traceId":   trace.SpanContextFromContext(ctx).TraceID().String(),
	})
	if err := forward(ctx, stream, events); err != nil && ctx.Err() == nil {
		events.send("failed", failedWith(r, err))
	}
}

// subscribe returns a stream whose subscription is in force.
func (a *App) subscribe(ctx context.Context, domain string) (watchStream, error) {
	stream, err := a.users.WatchUsers(ctx)
	if err != nil {
		return nil, err
	}
	sub := &usersv1.WatchUsersRequest_Subscription{EmailDomain: domain, Window: window}
	// A failure to send is told by what is received.
	_ = stream.Send(&usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Subscribe{Subscribe: sub}})
	_, err = stream.Recv()
	return stream, err
}

// forward sends what stream receives, and acknowledges it, until one of the two ends.
func forward(ctx context.Context, stream watchStream, events *eventWriter) error {
	created, ended := make(chan *usersv1.WatchUsersResponse_Created), make(chan error, 1)
	go func() {
		for {
			got, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case created <- got.GetCreated():
			case <-ctx.Done():
			}
		}
	}()
	idle := time.NewTicker(heartbeat)
	defer idle.Stop()
	for events.err == nil {
		select {
		case c := <-created:
			events.send("created", userOf(c.GetUser()))
			ack := &usersv1.WatchUsersRequest_Ack{Sequence: c.GetSequence()}
			_ = stream.Send(&usersv1.WatchUsersRequest{Message: &usersv1.WatchUsersRequest_Ack_{Ack: ack}})
		case <-idle.C:
			events.comment("nothing new")
		case err := <-ended:
			return err
		}
	}
	return events.err
}

// eventWriter writes server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html. After an error
// it writes nothing.
type eventWriter struct {
	w     http.ResponseWriter
	flush func() error
	err   error
}

func (e *eventWriter) send(event string, data any) {
	line, err := json.Marshal(data)
	if err != nil {
		e.err = err
		return
	}
	e.write("event: %s\ndata: %s\n\n", event, line)
}

func (e *eventWriter) comment(text string) { e.write(": %s\n\n", text) }

func (e *eventWriter) write(format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, format, args...)
	}
	if e.err == nil {
		e.err = e.flush()
	}
}
