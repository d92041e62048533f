package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/store"
	"github.com/rpcscope/rpcscope/examples/internal/users"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs test on a database in memory and on one in a file.
func each(t *testing.T, test func(*testing.T, *store.Store)) {
	for name, path := range map[string]string{"memory": "", "file": filepath.Join(t.TempDir(), "users?#%.db")} {
		t.Run(name, func(t *testing.T) { test(t, open(t, database.Config{Path: path})) })
	}
}

func open(t *testing.T, cfg database.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func person(i int) users.New {
	return users.New{Name: fmt.Sprintf("Person %d", i), Email: fmt.Sprintf("p%d@example.com", i)}
}

func people(n int) []users.New {
	list := make([]users.New, n)
	for i := range list {
		list[i] = person(i)
	}
	return list
}

func collect(t *testing.T, seq func(func(store.User, error) bool)) []store.User {
	t.Helper()
	var got []store.User
	for u, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, u)
	}
	return got
}

func TestCreateThenGet(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		before := time.Now()
		ada, err := s.Create(t.Context(), users.New{Name: "Ada", Email: "Ada@Example.com"})
		if err != nil {
			t.Fatal(err)
		}
		want := store.User{ID: ada.ID, Name: "Ada", Email: "Ada@Example.com", Role: users.RoleUser, Created: before}
		if diff := cmp.Diff(want, ada, cmpopts.EquateApproxTime(time.Minute)); diff != "" || ada.ID == "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}
		got := collect(t, s.Get(t.Context(), ada.ID, ada.ID))
		if diff := cmp.Diff([]store.User{ada, ada}, got); diff != "" {
			t.Errorf("the user asked for twice (-want +got):\n%s", diff)
		}
	})
}

func TestEmailIsUnique(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if _, err := s.Create(t.Context(), users.New{Name: "Ada", Email: "ada@example.com"}); err != nil {
			t.Fatal(err)
		}
		_, err := s.Create(t.Context(), users.New{Name: "Other", Email: "ADA@example.com"})
		if !errors.Is(err, users.ErrEmailTaken) {
			t.Errorf("error = %v, want %v", err, users.ErrEmailTaken)
		}
		if got := collect(t, s.All(t.Context())); len(got) != 1 {
			t.Errorf("%d users, want the first alone", len(got))
		}
	})
}

func TestImportIsAllOrNothing(t *testing.T) {
	tests := []struct {
		name      string
		list      []users.New
		want      error
		wantIndex string
		wantUsers int
	}{
		{"none", nil, nil, "", 1},
		{"all", people(250), nil, "", 251},
		{"one is taken", append(people(3), users.New{Name: "Ada", Email: "ADA@example.com"}), users.ErrEmailTaken, "3", 1},
		{"one is there twice", append(people(2), person(0)), users.ErrEmailTaken, "2", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			each(t, func(t *testing.T, s *store.Store) {
				if _, err := s.Create(t.Context(), users.New{Name: "Ada", Email: "ada@example.com"}); err != nil {
					t.Fatal(err)
				}
				created, err := s.Import(t.Context(), test.list)
				if !errors.Is(err, test.want) {
					t.Fatalf("error = %v, want %v", err, test.want)
				}
				var e *errors.Error
				if errors.As(err, &e) && e.Metadata()["index"] != test.wantIndex {
					t.Errorf("index = %q, want %q", e.Metadata()["index"], test.wantIndex)
				}
				all := collect(t, s.All(t.Context()))
				if len(all) != test.wantUsers {
					t.Errorf("%d users, want %d", len(all), test.wantUsers)
				}
				if diff := cmp.Diff(created, all[1:], cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("users in the order of the import (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestGetUnknown(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ada, err := s.Create(t.Context(), person(0))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for u, err := range s.Get(t.Context(), ada.ID, "u-nobody", ada.ID) {
			got = append(got, fmt.Sprint(u.ID, errors.Is(err, users.ErrNotFound), errors.Message(err)))
		}
		want := []string{fmt.Sprint(ada.ID, false, ""), fmt.Sprint("", true, "user u-nobody not found")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A reader that is slow, or stops, holds nothing that a writer waits for.
func TestReaderHoldsNoLock(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if _, err := s.Import(t.Context(), people(150)); err != nil {
			t.Fatal(err)
		}
		read := 0
		for _, err := range s.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if read++; read == 10 {
				if _, err := s.Create(t.Context(), person(1000)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if read != 151 {
			t.Errorf("read %d users, want the one created meanwhile too: 151", read)
		}
		for _, err := range s.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if _, err := s.Create(t.Context(), person(1001)); err != nil {
			t.Error(err)
		}
	})
}

func TestContextIsHonoured(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if _, err := s.Create(t.Context(), person(0)); err != nil {
			t.Fatal(err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		if _, err := s.Create(cancelled, person(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("create, cancelled: %v, want %v", err, context.Canceled)
		}
		if _, err := s.Import(expired, people(2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("import, expired: %v, want %v", err, context.DeadlineExceeded)
		}
		for _, err := range s.All(expired) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("list, expired: %v, want %v", err, context.DeadlineExceeded)
			}
		}
		for _, err := range s.Get(cancelled, "u-1") {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("get, cancelled: %v, want %v", err, context.Canceled)
			}
		}
		if got := collect(t, s.All(t.Context())); len(got) != 1 {
			t.Errorf("%d users, want 1: the database in memory survives, and nothing was added", len(got))
		}
	})
}

func TestConcurrentSafe(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		const writers, each = 8, 10
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if _, err := s.Create(t.Context(), person(w*each+i)); err != nil {
						t.Error(err)
					}
					for _, err := range s.All(t.Context()) {
						if err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		if got := collect(t, s.All(t.Context())); len(got) != writers*each {
			t.Errorf("%d users, want %d", len(got), writers*each)
		}
	})
}

func TestOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.db")
	first, err := store.Open(t.Context(), database.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ada, err := first.Create(t.Context(), person(0))
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, database.Config{Path: path}) // while the first is open
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.User{ada}, collect(t, second.All(t.Context()))); diff != "" {
		t.Errorf("opened again (-want +got):\n%s", diff)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var mode string
	if err := db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode = %q, %v, want wal", mode, err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), database.Config{Path: path}); err == nil {
		t.Error("a schema from the future was opened")
	}
	if _, err := store.Open(t.Context(), database.Config{Path: filepath.Join(t.TempDir(), "no", "such", "folder.db")}); err == nil {
		t.Error("a database in a folder that does not exist was opened")
	}
}

// One span a statement, beneath the caller's, and none outside a request: not for migrations, rows or connections.
func TestSpans(t *testing.T) {
	recorder := telemetrytest.New(t)
	provider := recorder.Telemetry().TracerProvider()
	s := open(t, database.Config{TracerProvider: provider})
	if _, err := s.Create(t.Context(), person(0)); err != nil {
		t.Fatal(err)
	}
	if got := recorder.Spans().All(); len(got) != 0 {
		t.Fatalf("%d spans outside a request, the first %q, want none", len(got), got[0].Name())
	}

	ctx, parent := provider.Tracer("test").Start(t.Context(), "request")
	if _, err := s.Create(ctx, person(1)); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(ctx, person(1)); err == nil {
		t.Fatal("the same user was created twice")
	}
	parent.End()
	request := recorder.Spans().Named("request").One()
	var names []string
	for _, span := range recorder.Spans().Kind(trace.SpanKindClient).All() {
		names = append(names, span.Name())
		span.ChildOf(request).Has(attribute.String("db.system.name", "sqlite"))
	}
	want := []string{"BEGIN", "SELECT users", "INSERT users", "COMMIT", "SELECT users", "BEGIN", "SELECT users", "ROLLBACK"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
