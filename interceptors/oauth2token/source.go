package oauth2token

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/oauth2"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// New makes a source of a function that fetches a token, such as the method Token of a
// clientcredentials.Config. The function must not keep tokens: when a server has
// refused one, it is called for another.
//
// The HTTP client that golang.org/x/oauth2 is to use is in the context of the calls, under
// [oauth2.HTTPClient], or in one that fetch makes of it. New panics if fetch is nil.
func New(fetch func(context.Context) (*oauth2.Token, error)) *interceptors.TokenCache {
	if fetch == nil {
		panic("oauth2token: New: the function is nil; want one such as the method Token of a clientcredentials.Config")
	}
	return interceptors.CachedToken(func(ctx context.Context) (string, time.Time, error) {
		return bearer(fetch(ctx))
	})
}

// FromSource makes a source of one of golang.org/x/oauth2. As that does not know of contexts, a
// fetch that hangs is not ended, though calls that wait for it are.
//
// Most of those sources keep their token ([oauth2.ReuseTokenSource]), and go on
// returning it when a server has refused it: then the call ends with Unauthenticated.
// Prefer [New] where there is a function that fetches. FromSource panics if source is
// nil.
func FromSource(source oauth2.TokenSource) *interceptors.TokenCache {
	if source == nil {
		panic("oauth2token: FromSource: the source is nil")
	}
	return interceptors.CachedToken(func(context.Context) (string, time.Time, error) {
		return bearer(source.Token())
	})
}

// bearer is what there is to send of a token.
func bearer(t *oauth2.Token, err error) (token string, expires time.Time, _ error) {
	if err != nil {
		return "", time.Time{}, fmt.Errorf("oauth2token: %w", withoutBody(err))
	}
	if t == nil {
		return "", time.Time{}, errors.New("oauth2token: the source returned neither a token nor an error")
	}
	if kind := t.Type(); kind != "Bearer" {
		return "", time.Time{}, fmt.Errorf("oauth2token: the token's type is %q; want Bearer", kind)
	}
	return t.AccessToken, t.Expiry, nil
}

// withoutBody keeps the issuer's answer, which may quote anything, out of err's text.
func withoutBody(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return &refusal{refused}
	}
	return err
}

// refusal is an issuer's error without its body.
type refusal struct{ *oauth2.RetrieveError }

func (r *refusal) Error() string {
	status := "no response"
	if r.Response != nil {
		status = r.Response.Status
	}
	if r.ErrorCode == "" {
		return "the issuer refused: " + status
	}
	return fmt.Sprintf("the issuer refused: %s, %q", status, r.ErrorCode)
}

func (r *refusal) Unwrap() error { return r.RetrieveError }
