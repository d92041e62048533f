package users

import (
	"crypto/rand"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rpcscope/rpcscope/errors"
)

const (
	maxName  = 100 // characters
	maxEmail = 254 // bytes, RFC 5321 section 4.5.3.1.3 less the angle brackets
)

// New is a user to be created. Without an ID the store makes one, without a Role it is RoleUser, and without the hash of a
// Password the user cannot log in.
type New struct{ ID, Name, Email, Role, Password string }

// The roles of users.
const (
	RoleUser  = "user"
	RoleAdmin = "admin"
)

// NewID returns 80 random bits: "u-" and 16 letters and digits.
func NewID() string { return "u-" + strings.ToLower(rand.Text()[:16]) }

// EmailKey returns the form in which e-mail addresses are compared.
func EmailKey(email string) string { return strings.ToLower(email) }

// Validate returns nil, or ErrInvalid with a violation for each field that is wrong.
func (n New) Validate() error {
	err := ErrInvalid
	if what := wrongName(n.Name); what != "" {
		err = err.WithField("user.name", "NAME_INVALID", what)
	}
	if what := wrongEmail(n.Email); what != "" {
		err = err.WithField("user.email", "EMAIL_INVALID", what)
	}
	if err == ErrInvalid {
		return nil
	}
	return err
}

func wrongName(name string) string {
	switch length := utf8.RuneCountInString(name); {
	case strings.TrimSpace(name) == "":
		return "is empty, want a name"
	case length > maxName:
		return fmt.Sprintf("has %d characters, want at most %d", length, maxName)
	case strings.TrimSpace(name) != name:
		return "starts or ends with a space"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has a control character"
	}
	return ""
}

func wrongEmail(email string) string {
	if email == "" {
		return "is empty, want an address such as ada@example.com"
	}
	if len(email) > maxEmail {
		return fmt.Sprintf("has %d bytes, want at most %d", len(email), maxEmail)
	}
	address, err := mail.ParseAddress(email)
	if err != nil || address.Address != email || address.Name != "" {
		return "is no address such as ada@example.com"
	}
	return ""
}

// At returns err, which New.Validate or the store made of one user of an import, with the position of that user.
func At(index int, err error) error {
	var e *errors.Error
	if errors.As(err, &e) {
		return e.With("index", index)
	}
	return err
}
