package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// cookie has the token of a browser's session, which scripts do not see.
const cookie = "session"

// tokenOf returns the token that came with r, as a program sends it or as a browser does; empty if there is none.
func tokenOf(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	if c, err := r.Cookie(cookie); err == nil {
		return c.Value
	}
	return ""
}

// session is a session as the web sees it. Token is told once, to programs; browsers have the cookie.
type session struct {
	User    user      `json:"user"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token,omitempty"`
}

func sessionOf(s *usersv1.Session) session {
	return session{User: userOf(s.GetUser()), Expires: s.GetExpireTime().AsTime(), Token: s.GetToken()}
}

func (a *App) signUp(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name, Email, Password string }
	if err := read(w, r, &in, `{"name": "Ada", "email": "ada@example.com", "password": "..."}`); err != nil {
		fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	got, err := a.sessions.SignUp(ctx, &usersv1.SignUpRequest{User: &usersv1.NewUser{Name: in.Name, Email: in.Email}, Password: in.Password})
	opened(w, r, http.StatusCreated, got.GetSession(), err)
}

func (a *App) logIn(w http.ResponseWriter, r *http.Request) {
	var in struct{ Email, Password string }
	if err := read(w, r, &in, `{"email": "ada@example.com", "password": "..."}`); err != nil {
		fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	got, err := a.sessions.LogIn(ctx, &usersv1.LogInRequest{Email: in.Email, Password: in.Password})
	opened(w, r, http.StatusOK, got.GetSession(), err)
}

// opened answers with a session that was opened.
func opened(w http.ResponseWriter, r *http.Request, status int, s *usersv1.Session, err error) {
	if err != nil {
		fail(w, r, err)
		return
	}
	keep(w, r, s.GetToken(), s.GetExpireTime().AsTime())
	reply(w, status, sessionOf(s))
}

// keep sets the cookie; without a token it takes it away.
func keep(w http.ResponseWriter, r *http.Request, token string, until time.Time) {
	c := &http.Cookie{
		Name: cookie, Value: token, Path: "/", Expires: until,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (a *App) session(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	got, err := a.sessions.GetSession(ctx, &usersv1.GetSessionRequest{})
	if err != nil {
		fail(w, r, err)
		return
	}
	reply(w, http.StatusOK, sessionOf(got.GetSession()))
}

func (a *App) logOut(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(a.outgoing(r), a.cfg.Timeout)
	defer cancel()
	if _, err := a.sessions.LogOut(ctx, &usersv1.LogOutRequest{}); err != nil {
		fail(w, r, err)
		return
	}
	keep(w, r, "", time.Time{})
	w.WriteHeader(http.StatusNoContent)
}
