package jwtauth_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/jwtauth"
	"github.com/rpcscope/rpcscope/propagation"
)

var sameIdentity = cmp.Options{cmpopts.IgnoreUnexported(propagation.Identity{}), cmpopts.EquateApproxTime(time.Second)}

func TestVerify(t *testing.T) {
	p := newIDP(t)
	end := time.Now().Add(time.Hour)
	plain := propagation.Identity{UserID: "ada", AuthMethod: "jwt", ExpiresAt: end}
	with := func(change func(*propagation.Identity)) propagation.Identity {
		id := plain
		change(&id)
		return id
	}
	for name, test := range map[string]struct {
		token  string
		change func(*jwtauth.Config)
		want   propagation.Identity
	}{
		"RS256":              {token: signed(t, nil), want: plain},
		"ES256":              {token: sign(t, jwt.SigningMethodES256, ecKey, header{"kid": "ec"}, good(nil)), want: plain},
		"one of audiences":   {token: signed(t, claims{"aud": []string{"x", audience}}), want: plain},
		"a former one":       {token: signed(t, claims{"aud": "users"}), change: func(c *jwtauth.Config) { c.Audiences = []string{audience, "users"} }, want: plain},
		"not before":         {token: signed(t, claims{"nbf": time.Now().Add(-time.Second).Unix()}), want: plain},
		"expired, leeway":    {token: signed(t, claims{"exp": time.Now().Add(-5 * time.Second).Unix()}), change: func(c *jwtauth.Config) { c.Leeway = 0 }, want: with(func(id *propagation.Identity) { id.ExpiresAt = time.Now().Add(25 * time.Second) })},
		"not before, leeway": {token: signed(t, claims{"nbf": time.Now().Add(5 * time.Second).Unix()}), change: func(c *jwtauth.Config) { c.Leeway = 10 * time.Second }, want: with(func(id *propagation.Identity) { id.ExpiresAt = end.Add(10 * time.Second) })},
		"claims": {
			token: signed(t, claims{"tenant_id": "acme", "sid": "s1", "roles": []string{"admin", "user"}, "scope": "users.read users.write"}),
			want: with(func(id *propagation.Identity) {
				id.TenantID, id.SessionID, id.Roles, id.Scopes = "acme", "s1", []string{"admin", "user"}, []string{"users.read", "users.write"}
			}),
		},
		"scp":        {token: signed(t, claims{"scp": []string{"a", "b"}}), want: with(func(id *propagation.Identity) { id.Scopes = []string{"a", "b"} })},
		"scope wins": {token: signed(t, claims{"scope": "a", "scp": "b"}), want: with(func(id *propagation.Identity) { id.Scopes = []string{"a"} })},
		"other claims": {
			token: signed(t, claims{"https://example.com/org": "acme", "realm_access": claims{"roles": []string{"admin"}, "a.b": claims{"c": "x"}}, "email": "ada@example.com", "permissions": []string{"p"}}),
			change: func(c *jwtauth.Config) {
				c.Claims = jwtauth.Claims{User: "email", Tenant: "https://example.com/org", Session: "realm_access.a.b.c", Roles: "realm_access.roles", Scopes: "permissions"}
			},
			want: with(func(id *propagation.Identity) {
				id.UserID, id.TenantID, id.SessionID, id.Roles, id.Scopes = "ada@example.com", "acme", "x", []string{"admin"}, []string{"p"}
			}),
		},
		"own function": {
			token: signed(t, claims{"sub": nil, "client": "billing"}),
			change: func(c *jwtauth.Config) {
				c.Identity = func(claims map[string]any) (propagation.Identity, error) {
					return propagation.Identity{UserID: claims["client"].(string), AuthMethod: "client"}, nil
				}
			},
			want: with(func(id *propagation.Identity) { id.UserID, id.AuthMethod = "billing", "client" }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := p.verifier(test.change).Verify(limit(t), test.token)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, id, sameIdentity); diff != "" {
				t.Errorf("the identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	p := newIDP(t)
	p.publish(append(p.keys, p.jwk("ed", edKey.Public(), "EdDSA"), p.jwk("shared", []byte("0123456789abcdef0123456789abcdef"), "HS256"),
		p.jwk("encryption", &otherRSA.PublicKey, "RSA-OAEP", "enc"), p.jwk("private", otherRSA, "RS256"))...)
	v := p.verifier(nil)
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rs256, es256 := jwt.SigningMethodRS256, jwt.SigningMethodES256
	kid := header{"kid": "rsa"}
	now := time.Now()
	parts := strings.Split(signed(t, nil), ".")
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	malformed := "the token is not accepted: it is malformed"
	for name, test := range map[string]struct {
		token string
		why   string
	}{
		"no token":               {"", malformed},
		"one part":               {"abc", malformed},
		"four parts":             {signed(t, nil) + ".x", malformed},
		"no JSON":                {segment("x") + "." + parts[1] + "." + parts[2], malformed},
		"claims are no object":   {parts[0] + "." + segment("[1]") + "." + parts[2], malformed},
		"padding":                {parts[0] + "=." + parts[1] + "." + parts[2], malformed},
		"no algorithm":           {segment(`{"kid":"rsa"}`) + "." + parts[1] + "." + parts[2], "algorithm is not known"},
		"unknown algorithm":      {segment(`{"kid":"rsa","alg":"XX"}`) + "." + parts[1] + "." + parts[2], "algorithm is not known"},
		"none":                   {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, good(nil)), "algorithm is none; want one of RS256, ES256"},
		"HMAC of the public key": {sign(t, jwt.SigningMethodHS256, public, kid, good(nil)), "algorithm is HS256"},
		"HMAC of a shared key":   {sign(t, jwt.SigningMethodHS256, []byte("0123456789abcdef0123456789abcdef"), header{"kid": "shared"}, good(nil)), "algorithm is HS256"},
		"not among those wanted": {sign(t, jwt.SigningMethodEdDSA, edKey, header{"kid": "ed"}, good(nil)), "algorithm is EdDSA"},
		"another RSA":            {sign(t, jwt.SigningMethodPS256, rsaKey, kid, good(nil)), "algorithm is PS256"},
		"of another key":         {sign(t, es256, ecKey, kid, good(nil)), "not that of its key"},
		"signed by another":      {sign(t, rs256, otherRSA, kid, good(nil)), "its signature is not valid"},
		"changed":                {parts[0] + "." + segment(`{"iss":"https://id.example.com","aud":"users-api","sub":"eve","exp":9999999999}`) + "." + parts[2], "its signature is not valid"},
		"no signature":           {parts[0] + "." + parts[1] + ".", "its signature is not valid"},
		"unknown key":            {sign(t, rs256, rsaKey, header{"kid": "other"}, good(nil)), "key is not known"},
		"no key, of several":     {sign(t, rs256, rsaKey, nil, good(nil)), "key is not known"},
		"key id is a number":     {sign(t, rs256, rsaKey, header{"kid": 7}, good(nil)), "key is not known"},
		"shared key":             {sign(t, rs256, rsaKey, header{"kid": "shared"}, good(nil)), "key is not known"},
		"key for encryption":     {sign(t, rs256, otherRSA, header{"kid": "encryption"}, good(nil)), "key is not known"},
		"key is not public":      {sign(t, rs256, otherRSA, header{"kid": "private"}, good(nil)), "key is not known"},
		"own key":                {sign(t, rs256, otherRSA, header{"kid": "rsa", "jwk": header{"kty": "RSA"}, "jku": p.server.URL}, good(nil)), "its signature is not valid"},
		"extensions":             {sign(t, rs256, rsaKey, header{"kid": "rsa", "crit": []string{"b64"}, "b64": false}, good(nil)), "crit"},
		"another issuer":         {signed(t, claims{"iss": "https://id.example.org"}), "its issuer is another"},
		"issuer and a slash":     {signed(t, claims{"iss": "https://id.example.com/"}), "its issuer is another"},
		"no issuer":              {signed(t, claims{"iss": nil}), "iss, aud or exp is missing"},
		"another audience":       {signed(t, claims{"aud": "billing-api"}), "another audience"},
		"no audience":            {signed(t, claims{"aud": nil}), "iss, aud or exp is missing"},
		"empty audience":         {signed(t, claims{"aud": []string{}}), "iss, aud or exp is missing"},
		"no end":                 {signed(t, claims{"exp": nil}), "iss, aud or exp is missing"},
		"end is a string":        {signed(t, claims{"exp": "tomorrow"}), "not accepted"},
		"not valid yet":          {signed(t, claims{"nbf": now.Add(time.Minute).Unix()}), "it is not valid yet"},
		"expired, not for us":    {signed(t, claims{"exp": now.Add(-time.Minute).Unix(), "aud": "billing-api"}), "another audience"},
		"nobody's":               {signed(t, claims{"sub": nil}), "has no claim sub"},
		"nobody":                 {signed(t, claims{"sub": ""}), "has no claim sub"},
		"user is a number":       {signed(t, claims{"sub": 7}), "claim sub has a float64 in it; want a string"},
		"roles are numbers":      {signed(t, claims{"roles": []int{7}}), "claim roles has a float64 in it; want an array of strings"},
		"roles are an object":    {signed(t, claims{"roles": claims{"admin": true}}), "claim roles has a map"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(limit(t), test.token)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if code := errors.Code(err); code != codes.Unauthenticated && code != codes.Unknown { // a plain one is Unauthenticated to Authenticate
				t.Errorf("got %v, want a refusal", err)
			}
			if errors.Is(err, interceptors.ErrIdentityExpired) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("got %v, want %q", err, test.why)
			}
			for part := range strings.SplitSeq(test.token, ".") {
				if len(part) > 8 && strings.Contains(fmt.Sprintf("%+v", err), part) {
					t.Errorf("the error quotes the token: %v", err)
				}
			}
		})
	}
	for name, end := range map[string]any{"expired": now.Add(-time.Second).Unix(), "now": float64(now.UnixNano()) / 1e9, "long ago": 1, "before all times": -math.MaxFloat64} {
		if _, err := v.Verify(limit(t), signed(t, claims{"exp": end})); !errors.Is(err, interceptors.ErrIdentityExpired) {
			t.Errorf("%s: got %v, want %v", name, err, interceptors.ErrIdentityExpired)
		}
	}
}

// The only key of a set may be meant without saying so, and may have no name.
func TestTheOnlyKey(t *testing.T) {
	p := newIDP(t)
	p.publish(p.jwk("", edKey.Public(), "EdDSA"))
	v := p.verifier(func(c *jwtauth.Config) { c.Algorithms = []string{"EdDSA"} })
	if _, err := v.Verify(limit(t), sign(t, jwt.SigningMethodEdDSA, edKey, nil, good(nil))); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(limit(t), sign(t, jwt.SigningMethodEdDSA, rogueED, nil, good(nil))); err == nil {
		t.Error("a token that another key signed is accepted")
	}
}

func TestConfigMistakes(t *testing.T) {
	p := newIDP(t)
	for want, change := range map[string]func(*jwtauth.Config){
		"JWKSURL: it is not the URL of a key set; want https://":    func(c *jwtauth.Config) { c.JWKSURL = "" },
		"JWKSURL: it is not the URL of a key set; want https://h":   func(c *jwtauth.Config) { c.JWKSURL = "id.example.com/keys" },
		"JWKSURL: it is not the URL of a key set; want https://ho":  func(c *jwtauth.Config) { c.JWKSURL = "https:///keys" },
		"JWKSURL: it is not the URL of a key set; want https://hos": func(c *jwtauth.Config) { c.JWKSURL = "ftp://id.example.com" },
		"JWKSURL: http://id.example.com: who is on the way":         func(c *jwtauth.Config) { c.JWKSURL = "http://id.example.com/keys" },
		"JWKSURL: http://127.0.0.1.example.com: who is on the way":  func(c *jwtauth.Config) { c.JWKSURL = "http://127.0.0.1.example.com/keys" },
		"Issuer is empty":                                                   func(c *jwtauth.Config) { c.Issuer = "" },
		"Audiences: []; want at least one":                                  func(c *jwtauth.Config) { c.Audiences = nil },
		`Audiences: ["a" ""]; want at least one`:                            func(c *jwtauth.Config) { c.Audiences = []string{"a", ""} },
		`Algorithms: "none" is not one of public keys; want some of RS256`:  func(c *jwtauth.Config) { c.Algorithms = []string{"RS256", "none"} },
		`Algorithms: "HS256" is not one of public keys; want some of RS256`: func(c *jwtauth.Config) { c.Algorithms = []string{"HS256"} },
		`Algorithms: "rs256" is not one of public keys`:                     func(c *jwtauth.Config) { c.Algorithms = []string{"rs256"} },
		"RefreshEvery: -1s; want":                                           func(c *jwtauth.Config) { c.RefreshEvery = -time.Second },
		"UnknownKeyEvery: -1s; want":                                        func(c *jwtauth.Config) { c.UnknownKeyEvery = -time.Second },
		"FetchTimeout: -1s; want":                                           func(c *jwtauth.Config) { c.FetchTimeout = -time.Second },
		"MaxStale: -1s; want":                                               func(c *jwtauth.Config) { c.MaxStale = -time.Second },
	} {
		c := p.config()
		change(&c)
		v, err := jwtauth.New(context.Background(), c)
		if err == nil || !strings.HasPrefix(err.Error(), "jwtauth: "+want) || v != nil {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, url := range []string{"https://id.example.com/keys", "http://localhost:1/keys", "http://127.0.0.2/keys", "http://[::1]:8080/keys"} {
		c := p.config()
		c.JWKSURL, c.FetchTimeout = url, time.Nanosecond // it does not get as far as a connection
		v, err := jwtauth.New(context.Background(), c)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		_ = v.Close()
	}
}
