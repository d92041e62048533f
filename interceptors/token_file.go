package interceptors

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rpcscope/rpcscope/errors"
)

// TokenFile makes a [TokenSource] of a file that somebody else keeps up to date, as
// Kubernetes does with the tokens of service accounts. Space around the token is
// taken away.
//
// The file is read again when a second has passed since, and when a server refused
// the token; so it does not matter how it is changed: rewritten, renamed into its
// place, or behind a symbolic link that now leads elsewhere. While it cannot be
// read the last token is kept, until a server refuses it. One of more than 64 KiB
// is an error.
//
// It panics if path is empty.
func TokenFile(path string) TokenSource {
	if path == "" {
		panic(`interceptors: TokenFile: the path is ""; want that of a file with a token`)
	}
	return &tokenFile{path: path}
}

const (
	tokenFilePause = time.Second
	maxTokenFile   = 64 << 10
)

type tokenFile struct {
	path string

	mu      sync.Mutex
	token   string // "" is none
	checked time.Time
}

func (f *tokenFile) Token(context.Context) (string, error) {
	f.mu.Lock()
	kept, now := f.token, time.Now()
	if kept != "" && now.Sub(f.checked) < tokenFilePause {
		f.mu.Unlock()
		return kept, nil
	}
	f.checked = now // others go on with what they have
	f.mu.Unlock()

	token, err := readToken(f.path)
	if err != nil && kept != "" {
		return kept, nil
	}
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.token = token
	return token, nil
}

// Invalidate has the file read again for the next call.
func (f *tokenFile) Invalidate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.token = ""
}

func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("interceptors: TokenFile: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("interceptors: TokenFile: %w", err)
	}
	if len(text) > maxTokenFile {
		return "", fmt.Errorf("interceptors: TokenFile: %s has more than %d bytes; want a file with nothing but a token", path, maxTokenFile)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("interceptors: TokenFile: %s is empty; want a file with a token", path)
	}
	return token, nil
}
