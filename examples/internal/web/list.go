package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

func (a *App) list(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	ids := r.URL.Query()["id"]
	if len(ids) == 0 {
		stream, err := a.users.ListUsers(ctx, &usersv1.ListUsersRequest{})
		lines(w, r, stream, err, func(got *usersv1.ListUsersResponse) any { return userOf(got.GetUser()) })
		return
	}
	stream, err := a.users.GetUsers(ctx, &usersv1.GetUsersRequest{Ids: ids})
	lines(w, r, stream, err, func(got *usersv1.GetUsersResponse) any { return userOf(got.GetUser()) })
}

// event is something that was done to a user, as the web sees it.
type event struct {
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
}

func (a *App) history(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	stream, err := a.users.ListEvents(ctx, &usersv1.ListEventsRequest{Id: r.PathValue("id")})
	lines(w, r, stream, err, func(got *usersv1.ListEventsResponse) any {
		return event{Time: got.GetTime().AsTime(), Actor: got.GetActor(), Action: got.GetAction()}
	})
}

// lines sends what stream receives, each message as a line of JSON, as soon as it is here. Until the first is here an error
// still becomes the status of the response.
func lines[M any](w http.ResponseWriter, r *http.Request, stream interface{ Recv() (M, error) }, err error, line func(M) any) {
	var first M
	if err == nil {
		first, err = stream.Recv()
	}
	if err != nil && err != io.EOF {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	for got := first; err == nil; got, err = stream.Recv() {
		if out.Encode(line(got)) != nil || flush() != nil {
			return // the client is gone, and cancelled the call
		}
	}
	if err != io.EOF {
		_ = out.Encode(failedWith(r, err))
	}
}
