// Package password hashes passwords so that who steals the hashes has to guess, and each guess takes long.
package password

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Cost is the number of iterations that OWASP asks of PBKDF2 with SHA-256: about 0.1 s.
const Cost = 600_000

const (
	scheme  = "pbkdf2-sha256"
	saltLen = 16
	keyLen  = 32
)

// Hash returns the hash of a password, which takes cost iterations to make and to compare.
func Hash(password string, cost int) (string, error) {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails
	key, err := pbkdf2.Key(sha256.New, password, salt, cost, keyLen)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s$%d$%s$%s", scheme, cost, encode(salt), encode(key)), nil
}

// Matches reports whether hash is that of password. It takes the time that hash says, whatever the password.
func Matches(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 4 || parts[0] != scheme {
		return false
	}
	cost, err := strconv.Atoi(parts[1])
	if err != nil {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	got, err := pbkdf2.Key(sha256.New, password, salt, cost, keyLen)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}

func encode(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }
