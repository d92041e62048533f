package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// list sends each user as it arrives. Until the first is here an error still becomes the status of the response.
func (a *App) list(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	receive, err := a.ask(ctx, r.URL.Query()["id"])
	if err != nil {
		fail(w, r, err)
		return
	}
	first, err := receive()
	if err != nil && err != io.EOF {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	for got := first; err == nil; got, err = receive() {
		if lines.Encode(userOf(got)) != nil || flush() != nil {
			return // the client is gone, and cancelled ctx
		}
	}
	if err != io.EOF {
		_ = lines.Encode(failedWith(r, err))
	}
}

// ask asks for the users with these ids, all without, and returns what receives the next.
func (a *App) ask(ctx context.Context, ids []string) (receive func() (*usersv1.User, error), err error) {
	if len(ids) == 0 {
		stream, err := a.users.ListUsers(ctx, &usersv1.ListUsersRequest{})
		return func() (*usersv1.User, error) {
			got, err := stream.Recv()
			return got.GetUser(), err
		}, err
	}
	stream, err := a.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: ids})
	return func() (*usersv1.User, error) {
		got, err := stream.Recv()
		return got.GetUser(), err
	}, err
}
