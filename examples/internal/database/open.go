package database

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/rpcscope/rpcscope/errors"
)

// Config says where the data is kept and who observes it. Its zero value is a database in memory, observed by the global
// providers.
type Config struct {
	Path           string // of the database file, made if there is none; empty: in memory, gone with Close
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
}

// DB is a database. It is safe for concurrent use.
type DB struct {
	*sql.DB
	metrics metric.Registration
}

// Open opens the database and brings its schema up to date: by the files of migrations, in the order of their names.
func Open(ctx context.Context, cfg Config, migrations fs.FS) (*DB, error) {
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
	d := &DB{DB: db}
	if err := d.migrate(ctx, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %q: %w", cfg.Path, err), db.Close())
	}
	if d.metrics, err = otelsql.RegisterDBStatsMetrics(db, cfg.instrumentation()...); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// Close closes the database once what is running has ended.
func (d *DB) Close() error {
	return errors.Join(d.metrics.Unregister(), d.DB.Close())
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
