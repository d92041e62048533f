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
	stream, err := a.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: r.URL.Query()["id"]})
	if err != nil {
		fail(w, r, err)
		return
	}
	first, err := stream.Recv()
	if err != nil && err != io.EOF {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	for got := first; err == nil; got, err = stream.Recv() {
		if lines.Encode(userOf(got.GetUser())) != nil || flush() != nil {
			return // the client is gone, and cancelled ctx
		}
	}
	if err != io.EOF {
		_ = lines.Encode(failedWith(r, err))
	}
}
