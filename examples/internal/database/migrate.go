package database

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
)

// migrate applies the migrations the database has not seen, each in a transaction. PRAGMA user_version counts those applied.
func (d *DB) migrate(ctx context.Context, migrations fs.FS) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	var applied int
	if err := d.QueryRowContext(ctx, "PRAGMA user_version").Scan(&applied); err != nil {
		return err
	}
	if applied > len(files) {
		return fmt.Errorf("schema version is %d, want at most %d: a newer program made it", applied, len(files))
	}
	for i, file := range files[applied:] {
		if err := d.apply(ctx, migrations, file, applied+i+1); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func (d *DB) apply(ctx context.Context, migrations fs.FS, file string, version int) error {
	script, err := fs.ReadFile(migrations, file)
	if err != nil {
		return err
	}
	return d.InTx(ctx, func(tx *sql.Tx) error {
		// Two programs may start on one file: the second finds the work done.
		var now int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&now); err != nil || now >= version {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(script)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// InTx runs fn in a transaction, which is committed if fn returns nil.
func (d *DB) InTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := d.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after Commit
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}
