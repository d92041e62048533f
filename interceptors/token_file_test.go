package interceptors_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Rule 28: however the file is changed, calls have the new token a second later.
func TestRule28TokenFile(t *testing.T) {
	changes := map[string]func(t *testing.T, dir, path, token string){
		"rewritten": func(t *testing.T, _, path, token string) { write(t, path, token) },
		"renamed": func(t *testing.T, dir, path, token string) {
			write(t, filepath.Join(dir, "new"), token)
			if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
				t.Fatal(err)
			}
		},
		"behind a link": kubernetes,
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "token")
			synctest.Test(t, func(t *testing.T) {
				change(t, dir, path, "one\n")
				source := interceptors.TokenFile(path)
				wantToken(t, source, "one")
				change(t, dir, path, " two \n")
				<-time.After(time.Second - 1)
				wantToken(t, source, "one") // it is not read for each call
				<-time.After(1)
				wantToken(t, source, "two")
			})
		})
	}
}

// kubernetes changes a projected token as the kubelet does: token is a link to
// ..data/token, and ..data one to a folder with a time for a name.
func kubernetes(t *testing.T, dir, path, token string) {
	t.Helper()
	folder := filepath.Join(dir, "..2026_"+strings.TrimSpace(token))
	err := os.Mkdir(folder, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "token"), token)
	data, fresh := filepath.Join(dir, "..data"), filepath.Join(dir, "..data_tmp")
	old, _ := os.Readlink(data)
	if err := os.Symlink(filepath.Base(folder), fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, data); err != nil {
		t.Fatal(err)
	}
	if old == "" {
		err = os.Symlink(filepath.Join("..data", "token"), path)
	} else {
		err = os.RemoveAll(filepath.Join(dir, old))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// While there is no file the last token is kept, until a server refuses it.
func TestRule28TokenFileGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		source := interceptors.TokenFile(path)
		if _, err := source.Token(context.Background()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want that %s does not exist", err, path)
		}
		write(t, path, "one")
		wantToken(t, source, "one")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		wantToken(t, source, "one")
		source.(interface{ Invalidate() }).Invalidate()
		if _, err := source.Token(context.Background()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the refusal: %v, want that the file does not exist", err)
		}
		write(t, path, "two")
		wantToken(t, source, "two")
		write(t, path, "three")
		source.(interface{ Invalidate() }).Invalidate()
		wantToken(t, source, "three") // at once
	})
}

func TestTokenFileErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{
		" \n":                      "is empty; want a file with a token",
		strings.Repeat("x", 1<<17): "has more than 65536 bytes; want a file with nothing but a token",
	} {
		write(t, path, text)
		if _, err := interceptors.TokenFile(path).Token(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %s %s", err, path, want)
		}
	}
	if _, err := interceptors.TokenFile(t.TempDir()).Token(t.Context()); err == nil {
		t.Error("a folder is a token")
	}
}
