package password_test

import (
	"strings"
	"testing"

	"github.com/rpcscope/rpcscope/examples/internal/password"
)

func TestHash(t *testing.T) {
	hash, err := password.Hash("correct horse", 10)
	if err != nil {
		t.Fatal(err)
	}
	again, err := password.Hash("correct horse", 10)
	if err != nil {
		t.Fatal(err)
	}
	if hash == again || strings.Contains(hash, "horse") {
		t.Errorf("got hashes %s and %s, want them salted and without the password", hash, again)
	}
	for text, want := range map[string]bool{"correct horse": true, "correct horsE": false, "": false} {
		if got := password.Matches(hash, text); got != want {
			t.Errorf("%q matches: got %v, want %v", text, got, want)
		}
	}
	for _, broken := range []string{
		"", "correct horse", strings.Replace(hash, "$10$", "$11$", 1), strings.Replace(hash, "$10$", "$ten$", 1), strings.Replace(hash, "$10$", "$0$", 1),
		strings.Replace(hash, "pbkdf2", "md5", 1), hash[:len(hash)-1], hash + "!", strings.Replace(hash, "$10$", "$10$!", 1),
	} {
		if password.Matches(broken, "correct horse") {
			t.Errorf("a password matches %q", broken)
		}
	}
}
