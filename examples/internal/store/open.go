package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/rpcscope/rpcscope/errors"
)

// Config says where the users are kept and who observes it. Its zero value is a database in memory, observed by the
// global providers.
type Config struct {
	Path           string // of the database file, made if there is none; empty: in memory, gone with Close
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
}

// Store is a database of users. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	metrics metric.Registration
}

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	db, err := otelsql.Open("sqlite", dsn(cfg.Path), cfg.instrumentation()...)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", cfg.Path, err)
	}
	if cfg.Path == "" {
		// The connection is the database: there is one, and it is kept.
		db.SetMaxOpenConns(1)
	} else {
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
	}
	s := &Store{db: db}
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %q: %w", cfg.Path, err), db.Close())
	}
	if s.metrics, err = otelsql.RegisterDBStatsMetrics(db, cfg.instrumentation()...); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the database once what is running has ended.
func (s *Store) Close() error {
	return errors.Join(s.metrics.Unregister(), s.db.Close())
}

// dsn returns the data source name of the file at path. A transaction takes the write lock when it begins, and waits
// for it: taken at the first write it could fail half-way, with no way to wait.
func dsn(path string) string {
	options := url.Values{
		"_txlock":       {"immediate"},
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"on"},
		"_dqs":          {"false"},
	}
	if path == "" {
		return "file::memory:?" + options.Encode()
	}
	options.Set("_journal_mode", "WAL") // readers do not wait for the writer
	options.Set("_synchronous", "NORMAL")
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: options.Encode()}).String()
}
