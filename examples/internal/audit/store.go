package audit

import (
	"context"
	"crypto/rand"
	"embed"
	"iter"
	"strings"
	"time"

	"github.com/rpcscope/rpcscope/examples/internal/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Event is something that somebody did.
type Event struct {
	ID, Actor, Action, Subject, RequestID string
	Time                                  time.Time
}

// Store is a database of events. It is safe for concurrent use.
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

// Add keeps e, whose id and time it sets, and returns the id.
func (s *Store) Add(ctx context.Context, e Event) (string, error) {
	e.ID, e.Time = "e-"+strings.ToLower(rand.Text()[:16]), time.Now()
	_, err := s.db.ExecContext(ctx, `INSERT INTO events (id, time_unix, actor, action, subject, request_id) VALUES (?, ?, ?, ?, ?, ?)`,
		e.ID, e.Time.UnixNano(), e.Actor, e.Action, e.Subject, e.RequestID)
	if err != nil {
		return "", database.Failed(ctx, "record event", err)
	}
	return e.ID, nil
}

// Of returns the events of a subject, oldest first. It ends with the first error.
func (s *Store) Of(ctx context.Context, subject string) iter.Seq2[Event, error] {
	return database.Pages(ctx, "list events", func(after int64) ([]Event, int64, error) { return s.read(ctx, subject, after) })
}

// read returns a page of the events after one, and which is the last of them.
func (s *Store) read(ctx context.Context, subject string, after int64) (events []Event, last int64, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT seq, id, time_unix, actor, action, subject, request_id FROM events WHERE subject = ? AND seq > ? ORDER BY seq LIMIT ?`,
		subject, after, database.Page)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&last, &e.ID, &at, &e.Actor, &e.Action, &e.Subject, &e.RequestID); err != nil {
			return nil, 0, err
		}
		e.Time = time.Unix(0, at).UTC()
		events = append(events, e)
	}
	return events, last, rows.Err()
}
