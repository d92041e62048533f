package store

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a database of users. It is safe for concurrent use.
type Store struct{ db *database.DB }

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg database.Config) (*Store, error) {
	db, err := database.Open(ctx, cfg, migrations)
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Close closes the database once what is running has ended.
func (s *Store) Close() error { return s.db.Close() }

// User is a user as it is kept.
type User struct {
	ID, Name, Email, Role string
	Created               time.Time
}

// Create adds a user. An address that is taken is users.ErrEmailTaken.
func (s *Store) Create(ctx context.Context, n users.New) (User, error) {
	created, err := s.insert(ctx, []users.New{n}, func(_ int, err error) error { return err })
	if err != nil {
		return User{}, database.Failed(ctx, "create user", err)
	}
	return created[0], nil
}

// Import adds users, all or none, and returns them in the same order. An address that is taken, or twice in added, is
// users.ErrEmailTaken with its position, see users.At.
func (s *Store) Import(ctx context.Context, added []users.New) ([]User, error) {
	created, err := s.insert(ctx, added, users.At)
	if err != nil {
		return nil, database.Failed(ctx, "import users", err)
	}
	return created, nil
}

// insert adds users in one transaction. refused makes the error for one that is refused of its position and the reason.
func (s *Store) insert(ctx context.Context, added []users.New, refused func(int, error) error) ([]User, error) {
	rows, repeated := newRows(added)
	if repeated >= 0 {
		return nil, refused(repeated, taken(added[repeated]))
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		var index int
		switch err := tx.QueryRowContext(ctx, selectTaken, string(list)).Scan(&index); {
		case err == nil:
			return refused(index, taken(added[index]))
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		_, err := tx.ExecContext(ctx, insertUsers, string(list))
		return err
	})
	if err != nil {
		return nil, err
	}
	created := make([]User, len(rows))
	for i, r := range rows {
		created[i] = r.user()
	}
	return created, nil
}

func taken(n users.New) error { return users.ErrEmailTaken.With("email", n.Email) }

const insertUsers = `INSERT INTO users (id, name, email, email_key, role, password, created_unix)
SELECT value->>'id', value->>'name', value->>'email', value->>'email_key', value->>'role', value->>'password', value->>'created_unix' FROM json_each(?) ORDER BY key`

const selectTaken = `SELECT new.key FROM json_each(?) AS new JOIN users ON users.email_key = new.value->>'email_key' ORDER BY new.key LIMIT 1`

// All returns every user, oldest first. It ends with the first error.
func (s *Store) All(ctx context.Context) iter.Seq2[User, error] {
	return database.Pages(ctx, "list users", func(after int64) (users []User, last int64, err error) {
		rows, err := s.read(ctx, `SELECT seq, id, name, email, role, created_unix FROM users WHERE seq > ? ORDER BY seq LIMIT ?`, after, database.Page)
		for _, r := range rows {
			users, last = append(users, r.user()), r.Seq
		}
		return users, last, err
	})
}

// Get returns the users with these ids, in this order. It ends with the first error; an id nobody has is
// users.ErrNotFound.
func (s *Store) Get(ctx context.Context, ids ...string) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for chunk := range slices.Chunk(ids, database.Page) {
			found, err := s.find(ctx, chunk)
			if err != nil {
				yield(User{}, database.Failed(ctx, "get users", err))
				return
			}
			for _, id := range chunk {
				r, ok := found[id]
				if !ok {
					yield(User{}, users.ErrNotFound.With("id", id))
					return
				}
				if !yield(r.user(), nil) {
					return
				}
			}
		}
	}
}

// Delete deletes the user with this id; users.ErrNotFound if nobody has it.
func (s *Store) Delete(ctx context.Context, id string) error {
	result, err := s.db.ExecContext(ctx, `DELETE FROM users WHERE id = ?`, id)
	if err != nil {
		return database.Failed(ctx, "delete user", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return cmp.Or(err, error(users.ErrNotFound.With("id", id)))
	}
	return nil
}

func (s *Store) find(ctx context.Context, ids []string) (map[string]row, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.read(ctx, `SELECT seq, id, name, email, role, created_unix FROM users WHERE id IN (SELECT value FROM json_each(?))`, string(list))
	if err != nil {
		return nil, err
	}
	found := make(map[string]row, len(rows))
	for _, r := range rows {
		found[r.ID] = r
	}
	return found, nil
}

func (s *Store) read(ctx context.Context, query string, args ...any) ([]row, error) {
	cursor, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer cursor.Close()
	var rows []row
	for cursor.Next() {
		var r row
		if err := cursor.Scan(&r.Seq, &r.ID, &r.Name, &r.Email, &r.Role, &r.Created); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, cursor.Err()
}

// row is a row of the table, and one of the JSON list that is inserted.
type row struct {
	Seq      int64  `json:"-"`
	ID       string `json:"id"`
	Name     string `json:"name"`
	Email    string `json:"email"`
	EmailKey string `json:"email_key"`
	Role     string `json:"role"`
	Password string `json:"password"`
	Created  int64  `json:"created_unix"`
}

// newRows returns the rows of added, and the position of the first whose address is that of another before it, or -1.
func newRows(added []users.New) (rows []row, repeated int) {
	now := time.Now().UnixNano()
	seen := make(map[string]bool, len(added))
	rows = make([]row, 0, len(added)) // not nil, which is no list in JSON
	for i, n := range added {
		key := users.EmailKey(n.Email)
		if seen[key] {
			return nil, i
		}
		seen[key] = true
		rows = append(rows, row{ID: cmp.Or(n.ID, users.NewID()), Name: n.Name, Email: n.Email, EmailKey: key, Role: cmp.Or(n.Role, users.RoleUser), Password: n.Password, Created: now})
	}
	return rows, -1
}

func (r row) user() User {
	return User{ID: r.ID, Name: r.Name, Email: r.Email, Role: r.Role, Created: time.Unix(0, r.Created).UTC()}
}
