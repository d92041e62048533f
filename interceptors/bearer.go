package interceptors

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// MaxTokenBytes is the length of the longest token that [BearerToken] takes.
const MaxTokenBytes = 16 << 10

// BearerToken is an [Authenticator] for calls with a bearer token,
// "authorization: Bearer ..." (RFC 6750, section 2.1); the scheme may be in
// upper or lower case. verify gets the token, without the scheme, and returns
// whose it is; for what its errors mean see [Authenticator]. An AuthMethod that
// it leaves empty is "bearer".
//
// verify is not called, and the call has [ErrNoCredentials], without the header
// and where it has another scheme. It is not called either, and the call is
// [ErrUnauthenticated], where there are several such headers, where the token is
// empty, longer than [MaxTokenBytes], or has a space or a comma in it.
//
// The token is in no error, log or span: it is taken out of verify's errors where
// they quote it, or a part of it between dots. One of up to three bytes is taken
// out where it stands as a word of its own: within another word nobody could tell
// it from the text. An error that quotes the token loses its details. The same goes
// for what verify panics with.
//
// A nil verify panics.
func BearerToken(verify func(ctx context.Context, token string) (propagation.Identity, error)) Authenticator {
	if verify == nil {
		panic("interceptors: BearerToken: verify is nil; want a function that says whose token it is")
	}
	return AuthenticatorFunc(func(ctx context.Context, _ *Call) (propagation.Identity, error) {
		token, err := bearerToken(ctx)
		if err != nil {
			return propagation.Identity{}, err
		}
		defer panicWithout(token)
		id, err := verify(ctx, token)
		if err != nil {
			return propagation.Identity{}, withoutToken(err, token)
		}
		if id.AuthMethod == "" {
			id.AuthMethod = "bearer"
		}
		return id, nil
	})
}

const (
	authorizationHeader = "authorization"
	bearerScheme        = "bearer"
)

// bearerToken is the token of the call. Its errors quote nothing: the scheme may
// have been forgotten, and what stands in its place is the token.
func bearerToken(ctx context.Context) (string, error) {
	value, err := onlyValue(ctx, authorizationHeader)
	if err != nil {
		return "", err
	}
	scheme, token, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, bearerScheme) {
		return "", errNoBearer
	}
	token = strings.Trim(token, " ")
	switch {
	case token == "":
		return "", malformed("the bearer token is empty")
	case len(token) > MaxTokenBytes:
		return "", malformed("the bearer token has %d bytes; want at most %d", len(token), MaxTokenBytes)
	case strings.ContainsAny(token, " ,\t"):
		return "", malformed("the bearer token has a space or a comma in it")
	}
	return token, nil
}

var errNoBearer = ErrNoCredentials.WithCause(errors.New("interceptors: the authorization header has another scheme than Bearer"))

// onlyValue is the value of the header, of which there must be one.
func onlyValue(ctx context.Context, header string) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, header)
	switch len(values) {
	case 0:
		return "", ErrNoCredentials.WithCause(fmt.Errorf("interceptors: there is no %s header", header))
	case 1:
		return values[0], nil
	}
	return "", malformed("there are %d %s headers; want one", len(values), header)
}

func malformed(format string, args ...any) error {
	return ErrUnauthenticated.WithCause(fmt.Errorf("interceptors: "+format, args...))
}

// panicWithout is deferred: it lets a panic go on, without the token in its value. The
// frames that panicked stay on the stack.
func panicWithout(token string) {
	v := recover()
	if v == nil { // none, or runtime.Goexit, which goes on
		return
	}
	if err, ok := v.(error); ok {
		panic(withoutToken(err, token))
	}
	text := fmt.Sprint(v)
	if clean := withoutToken(errors.New(text), token).Error(); clean != text {
		v = clean
	}
	panic(v)
}

// withoutToken is err without the token in its texts (rule 29).
func withoutToken(err error, token string) error {
	if len(token) <= shortToken {
		return withCleanTexts(err, func(text string) string { return withoutWord(text, token) })
	}
	secrets := []string{token}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= 16 {
			secrets = append(secrets, part)
		}
	}
	return withCleanTexts(err, func(text string) string {
		for _, s := range secrets {
			text = strings.ReplaceAll(text, s, redaction)
		}
		return text
	})
}

const (
	redaction  = "[redacted]"
	shortToken = 3 // bytes, which words have in them by chance
)

// withoutWord is text without word where no letter or digit is beside it.
func withoutWord(text, word string) string {
	var b strings.Builder
	for at := 0; at < len(text); {
		end := at + len(word)
		if strings.HasPrefix(text[at:], word) && !endsInWord(text[:at]) && !beginsWithWord(text[end:]) {
			b.WriteString(redaction)
			at = end
			continue
		}
		b.WriteByte(text[at])
		at++
	}
	return b.String()
}

func endsInWord(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

func beginsWithWord(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// withCleanTexts is err, with its texts cleaned if that changes any.
func withCleanTexts(err error, clean func(string) string) error {
	private, public := err.Error(), errors.Message(err)
	if text := fmt.Sprintln(private, public, metadataOf(err)); clean(text) == text {
		return err
	}
	cause := errors.New(clean(private))
	if !coded(err) && !unanswered(errors.Code(err)) {
		return cause
	}
	domain, reason := errors.Reason(err)
	coded := errors.Coded(errors.Code(err), "%s", clean(public)).WithReason(clean(domain), clean(reason)).WithCause(cause)
	if wait, ok := errors.RetryAfter(err); ok {
		coded = coded.WithRetry(wait)
	}
	return coded
}

// metadataOf is what of the error reaches the wire beside its message.
func metadataOf(err error) any {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return fmt.Sprintln(e.Domain(), e.Reason(), e.Metadata(), e.Details())
	}
	return nil
}
