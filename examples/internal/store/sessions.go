package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

// Session is one log-in of one user.
type Session struct {
	ID      string
	User    User
	Expires time.Time
}

// Password returns the user with this address and the hash of that user's password; users.ErrNotFound if there is none.
func (s *Store) Password(ctx context.Context, email string) (User, string, error) {
	var r row
	var hash string
	err := s.db.QueryRowContext(ctx, `SELECT id, name, email, created_unix, role, password FROM users WHERE email_key = ?`, users.EmailKey(email)).
		Scan(&r.ID, &r.Name, &r.Email, &r.Created, &r.Role, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, "", users.ErrNotFound.With("id", email)
	}
	if err != nil {
		return User{}, "", database.Failed(ctx, "find user", err)
	}
	return r.user(), hash, nil
}

// OpenSession keeps a session, and forgets those that have expired.
func (s *Store) OpenSession(ctx context.Context, session Session, tokenHash []byte) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires_unix <= ?`, time.Now().UnixNano()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions (token_hash, id, user_id, expires_unix) VALUES (?, ?, ?, ?)`,
			tokenHash, session.ID, session.User.ID, session.Expires.UnixNano())
		return err
	})
	if err != nil {
		return database.Failed(ctx, "open session", err)
	}
	return nil
}

// Session returns the session whose token has this hash; users.ErrNoSession if there is none, or it has expired.
func (s *Store) Session(ctx context.Context, tokenHash []byte) (Session, error) {
	var found Session
	var r row
	var expires int64
	err := s.db.QueryRowContext(ctx, `SELECT sessions.id, sessions.expires_unix, users.id, name, email, created_unix, role
FROM sessions JOIN users ON users.id = sessions.user_id WHERE token_hash = ? AND expires_unix > ?`, tokenHash, time.Now().UnixNano()).
		Scan(&found.ID, &expires, &r.ID, &r.Name, &r.Email, &r.Created, &r.Role)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, users.ErrNoSession
	}
	if err != nil {
		return Session{}, database.Failed(ctx, "find session", err)
	}
	found.User, found.Expires = r.user(), time.Unix(0, expires).UTC()
	return found, nil
}

// CloseSession forgets the session with this id. It is no error if there is none.
func (s *Store) CloseSession(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE id = ?`, id); err != nil {
		return database.Failed(ctx, "close session", err)
	}
	return nil
}
