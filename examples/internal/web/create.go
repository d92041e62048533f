package web

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

const maxBody = 64 << 10

func (a *App) create(w http.ResponseWriter, r *http.Request) {
	wanted, err := readUser(w, r)
	if err != nil {
		fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	created, err := a.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: wanted})
	if err != nil {
		fail(w, r, err)
		return
	}
	reply(w, http.StatusCreated, userOf(created.GetUser()))
}

func readUser(w http.ResponseWriter, r *http.Request) (*usersv1.NewUser, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, errors.InvalidArgument("Content-Type is %q, want application/json", r.Header.Get("Content-Type"))
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	body.DisallowUnknownFields()
	var in struct{ Name, Email string }
	if err := body.Decode(&in); err != nil {
		return nil, errors.Wrap(err, errors.InvalidArgument(`the body is not a JSON object such as {"name": "Ada", "email": "ada@example.com"}`))
	}
	return &usersv1.NewUser{Name: in.Name, Email: in.Email}, nil
}
