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
	var in struct{ Name, Email string }
	if err := read(w, r, &in, `{"name": "Ada", "email": "ada@example.com"}`); err != nil {
		fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	created, err := a.users.CreateUser(ctx, &usersv1.CreateUserRequest{User: &usersv1.NewUser{Name: in.Name, Email: in.Email}})
	if err != nil {
		fail(w, r, err)
		return
	}
	reply(w, http.StatusCreated, userOf(created.GetUser()))
}

// read decodes the body of r, a JSON object such as example.
func read(w http.ResponseWriter, r *http.Request, into any, example string) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errors.InvalidArgument("Content-Type is %q, want application/json", r.Header.Get("Content-Type"))
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil {
		return errors.Wrap(err, errors.InvalidArgument("the body is not a JSON object such as %s", example))
	}
	return nil
}

func (a *App) delete(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	if _, err := a.users.DeleteUser(ctx, &usersv1.DeleteUserRequest{Id: r.PathValue("id")}); err != nil {
		fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
