package jwtauth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Config says which tokens are accepted, and where their keys are. Fields that are
// zero have the default that is named there; those without one are required.
type Config struct {
	// JWKSURL is where the JSON Web Key Set is: https, or http on a loopback
	// address. Who can change the keys can be anybody.
	JWKSURL string
	// AllowPlaintext lets JWKSURL be http on any host.
	AllowPlaintext bool

	// Issuer is what iss must be.
	Issuer string
	// Audiences are the names of this service: aud must have one of them.
	Audiences []string
	// Algorithms are the signing algorithms to accept, of RS256, RS384, RS512,
	// PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA. Default: RS256 and ES256.
	Algorithms []string
	// Leeway is how far the clocks of issuer and server may be apart. Default: 30 s;
	// negative: nothing.
	Leeway time.Duration

	// Claims says which claims make the identity, see [Claims].
	Claims Claims
	// Identity, if it is not nil, makes the identity of the claims instead, of a token
	// that has passed all checks; for what its errors mean see
	// [interceptors.Authenticator]. AuthMethod and ExpiresAt that it leaves empty are
	// filled. It is called by many goroutines at the same time.
	Identity func(claims map[string]any) (propagation.Identity, error)

	// RefreshEvery is how often the keys are fetched. Default: 15 min.
	RefreshEvery time.Duration
	// UnknownKeyEvery is how often they are fetched at most because of keys that are
	// not among them, or because fetching failed. Default: 10 s.
	UnknownKeyEvery time.Duration
	// FetchTimeout is how long fetching may take. Default: 5 s.
	FetchTimeout time.Duration
	// MaxStale is how long keys are good for when they cannot be fetched again.
	// Default: 24 h.
	MaxStale time.Duration
	// HTTPClient fetches the keys; it is copied. Default: one without kept-alive
	// connections, through the proxy of the environment.
	HTTPClient *http.Client
	// Logger is told when fetching begins to fail and when it works again. Default:
	// [slog.Default].
	Logger *slog.Logger
}

// ErrKeysUnavailable says that a token could not be looked at because there are no
// keys, or perhaps not all.
var ErrKeysUnavailable = errors.Define(codes.Unavailable, "rpcscope", "JWKS_UNAVAILABLE", "authentication is not possible at present")

// Verifier verifies tokens. It is safe for concurrent use. The zero value is not
// useful: make one with [New], and [Verifier.Close] it.
type Verifier struct {
	interceptors.Authenticator // of Verify

	config Config
	parser *jwt.Parser
	keys   *keys
}

// New makes a Verifier and begins to fetch the keys, without waiting for them. It
// fails only where the configuration is wrong. The Verifier works until it is closed
// or ctx is done.
func New(ctx context.Context, c Config) (*Verifier, error) {
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	v := &Verifier{config: c, keys: newKeys(ctx, &c), parser: jwt.NewParser(
		jwt.WithValidMethods(c.Algorithms), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audiences...),
		jwt.WithExpirationRequired(), jwt.WithLeeway(c.Leeway), jwt.WithStrictDecoding())}
	v.Authenticator = interceptors.BearerToken(v.Verify)
	return v, nil
}

func (c *Config) setDefaults() {
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"RS256", "ES256"}
	}
	c.Algorithms, c.Audiences = slices.Clone(c.Algorithms), slices.Clone(c.Audiences)
	c.Leeway = max(cmp.Or(c.Leeway, 30*time.Second), 0)
	c.RefreshEvery = cmp.Or(c.RefreshEvery, 15*time.Minute)
	c.UnknownKeyEvery = cmp.Or(c.UnknownKeyEvery, 10*time.Second)
	c.FetchTimeout = cmp.Or(c.FetchTimeout, 5*time.Second)
	c.MaxStale = cmp.Or(c.MaxStale, 24*time.Hour)
	c.Claims.setDefaults()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (c *Config) check() error {
	if err := checkURL(c.JWKSURL, c.AllowPlaintext); err != nil {
		return fmt.Errorf("jwtauth: JWKSURL: %w", err)
	}
	if c.Issuer == "" {
		return errors.New(`jwtauth: Issuer is empty; want what iss is, such as "https://id.example.com"`)
	}
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
		return fmt.Errorf("jwtauth: Audiences: %q; want at least one name of this service, and none that is empty", c.Audiences)
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("jwtauth: Algorithms: %q is not one of public keys; want some of %s", a, strings.Join(algorithms, ", "))
		}
	}
	for _, d := range []struct {
		name string
		time.Duration
	}{{"RefreshEvery", c.RefreshEvery}, {"UnknownKeyEvery", c.UnknownKeyEvery}, {"FetchTimeout", c.FetchTimeout}, {"MaxStale", c.MaxStale}} {
		if d.Duration < 0 {
			return fmt.Errorf("jwtauth: %s: %v; want a time above zero, or zero for the default", d.name, d.Duration)
		}
	}
	return nil
}

// Ready returns nil when there are keys, and waits for them until ctx is done: then
// it returns why there are none, an [ErrKeysUnavailable].
func (v *Verifier) Ready(ctx context.Context) error { return v.keys.ready(ctx) }

// Close stops fetching keys, and returns when that has ended. Tokens are
// [ErrKeysUnavailable] afterwards. It always returns nil, and may be called again.
func (v *Verifier) Close() error {
	v.keys.close()
	return nil
}

// Verify returns who the token was issued for. Its errors are those of an
// [interceptors.Authenticator]: [interceptors.ErrIdentityExpired] for a token that is
// right but for its end, [interceptors.ErrUnauthenticated] for others that are not
// accepted, and [ErrKeysUnavailable].
func (v *Verifier) Verify(ctx context.Context, token string) (propagation.Identity, error) {
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok {
			return nil, errCritical
		}
		return v.keys.find(ctx, t)
	})
	if err != nil && ctx.Err() != nil {
		return propagation.Identity{}, ctx.Err() // it says nothing about the token
	}
	if err != nil {
		return propagation.Identity{}, v.refusal(parsed, err)
	}
	id, err := v.identity(claims)
	if err != nil {
		return propagation.Identity{}, err
	}
	id.AuthMethod = cmp.Or(id.AuthMethod, "jwt")
	if end, err := claims.GetExpirationTime(); err == nil && id.ExpiresAt.IsZero() {
		id.ExpiresAt = end.Add(v.config.Leeway)
	}
	return id, nil
}

func (v *Verifier) identity(claims jwt.MapClaims) (propagation.Identity, error) {
	if v.config.Identity != nil {
		return v.config.Identity(claims)
	}
	return v.config.Claims.identity(claims)
}

var (
	errCritical   = errors.New("the token has extensions that must be understood (crit)")
	errUnknownKey = errors.New("the token's key is not known")
)

// refusal says why the token is not accepted, without anything that is in it.
func (v *Verifier) refusal(token *jwt.Token, err error) error {
	if unavailable, ok := errors.AsType[*errors.Error](err); ok {
		return unavailable
	}
	why := "it is malformed"
	switch {
	case token != nil && token.Method != nil && !slices.Contains(v.config.Algorithms, token.Method.Alg()):
		why = "its algorithm is " + token.Method.Alg() + "; want one of " + strings.Join(v.config.Algorithms, ", ")
	case errors.Is(err, errCritical), errors.Is(err, errUnknownKey):
		return interceptors.ErrUnauthenticated.WithCause(fmt.Errorf("jwtauth: %w", err))
	case errors.Is(err, jwt.ErrTokenMalformed):
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		why = "its signature is not valid"
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		why = "its algorithm is not known, or not that of its key"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		why = "iss, aud or exp is missing"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		why = "its issuer is another"
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		why = "it is for another audience"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		why = "it is not valid yet"
	case errors.Is(err, jwt.ErrTokenExpired):
		return interceptors.ErrIdentityExpired
	}
	return interceptors.ErrUnauthenticated.WithCause(errors.New("jwtauth: the token is not accepted: " + why))
}
