// Package sessions signs users up, in and out. A session's token is opaque: 130 random bits that mean nothing without the
// database, which has only their hash.
package sessions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/password"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/propagation"
)

// Config says how sessions are. Its zero value is right but for tests.
type Config struct {
	Lifetime time.Duration // 0: 12 h
	Cost     int           // of a password's hash; 0: password.Cost
}

// Sessions are the sessions of a store's users. It is safe for concurrent use.
type Sessions struct {
	store    *store.Store
	lifetime time.Duration
	cost     int
	nobody   string // hash of no password that anybody has
}

// New returns the sessions of the users of s.
func New(s *store.Store, cfg Config) (*Sessions, error) {
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 12 * time.Hour
	}
	if cfg.Cost == 0 {
		cfg.Cost = password.Cost
	}
	nobody, err := password.Hash(rand.Text(), cfg.Cost)
	return &Sessions{store: s, lifetime: cfg.Lifetime, cost: cfg.Cost, nobody: nobody}, err
}

const (
	minPassword = 10 // characters
	maxPassword = 100
)

// Validate returns nil, or users.ErrInvalid with a violation for each field that is wrong.
func Validate(n users.New, text string) error {
	err := n.Validate()
	if length := utf8.RuneCountInString(text); length >= minPassword && length <= maxPassword {
		return err
	}
	invalid := users.ErrInvalid
	var typed *errors.Error
	if errors.As(err, &typed) {
		invalid = typed
	}
	return invalid.WithField("password", "PASSWORD_INVALID", "want 10 to 100 characters")
}

// SignUp creates n, who is valid, with a password.
func (s *Sessions) SignUp(ctx context.Context, n users.New, text string) (store.User, error) {
	hash, err := password.Hash(text, s.cost)
	if err != nil {
		return store.User{}, err
	}
	n.Password = hash
	return s.store.Create(ctx, n)
}

// EnsureAdmin creates an admin with this address and password unless there is one, whose password it leaves as it is.
func (s *Sessions) EnsureAdmin(ctx context.Context, email, text string) error {
	admin := users.New{Name: "Admin", Email: email, Role: users.RoleAdmin}
	if err := Validate(admin, text); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	found, _, err := s.store.Password(ctx, email)
	switch {
	case errors.Is(err, users.ErrNotFound):
		_, err = s.SignUp(ctx, admin, text)
		return err
	case err == nil && found.Role != users.RoleAdmin:
		return fmt.Errorf("admin: %s is the address of a user who is none", email)
	}
	return err
}

// LogIn opens a session for the user with this address and password, and returns its token; users.ErrLoginFailed,
// whichever of the two is wrong, and after the same time.
func (s *Sessions) LogIn(ctx context.Context, email, text string) (string, store.Session, error) {
	user, hash, err := s.store.Password(ctx, email)
	if err != nil && !errors.Is(err, users.ErrNotFound) {
		return "", store.Session{}, err
	}
	if hash == "" {
		hash = s.nobody
	}
	if !password.Matches(hash, text) || user.ID == "" {
		return "", store.Session{}, users.ErrLoginFailed
	}
	return s.Open(ctx, user)
}

// Open opens a session for user, who has said enough about who that is.
func (s *Sessions) Open(ctx context.Context, user store.User) (string, store.Session, error) {
	token := rand.Text()
	session := store.Session{ID: "s-" + strings.ToLower(rand.Text()[:16]), User: user, Expires: time.Now().Add(s.lifetime)}
	return token, session, s.store.OpenSession(ctx, session, hashOf(token))
}

func hashOf(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// Identify returns who the session of a token is of; users.ErrNoSession if there is none, or it has expired. It is what
// interceptors.BearerToken wants.
func (s *Sessions) Identify(ctx context.Context, token string) (propagation.Identity, error) {
	found, err := s.store.Session(ctx, hashOf(token))
	if err != nil {
		return propagation.Identity{}, err
	}
	return propagation.Identity{
		UserID: found.User.ID, SessionID: found.ID, AuthMethod: "session", Roles: []string{found.User.Role}, ExpiresAt: found.Expires,
	}, nil
}

// Close ends the session with this id.
func (s *Sessions) Close(ctx context.Context, id string) error { return s.store.CloseSession(ctx, id) }
