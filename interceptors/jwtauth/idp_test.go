package jwtauth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/rpcscope/rpcscope/interceptors/jwtauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const audience = "users-api"

// idp is an issuer of tokens with a real JWKS server on loopback.
type idp struct {
	t       *testing.T
	server  *httptest.Server
	fetches atomic.Int64
	logs    logs

	mu     sync.Mutex
	keys   []jwkset.JWK
	answer http.HandlerFunc // nil: the keys
}

// Keys are costly to make, and not what is tested.
var (
	rsaKey, otherRSA               = newRSA(), newRSA()
	ecKey, _                       = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _                    = ed25519.GenerateKey(rand.Reader)
	_, rogueED, _                  = ed25519.GenerateKey(rand.Reader)
	_                crypto.Signer = edKey
)

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func newIDP(t *testing.T, keys ...jwkset.JWK) *idp {
	p := &idp{t: t, keys: keys}
	if len(keys) == 0 {
		p.keys = []jwkset.JWK{p.jwk("rsa", &rsaKey.PublicKey, jwkset.AlgRS256), p.jwk("ec", &ecKey.PublicKey, jwkset.AlgES256)}
	}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		answer, set := p.answer, jwkset.JWKSMarshal{}
		for _, k := range p.keys {
			set.Keys = append(set.Keys, k.Marshal())
		}
		p.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(set)
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *idp) jwk(kid string, key any, alg jwkset.ALG, use ...jwkset.USE) jwkset.JWK {
	p.t.Helper()
	metadata := jwkset.JWKMetadataOptions{KID: kid, ALG: alg}
	if len(use) > 0 {
		metadata.USE = use[0]
	}
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: metadata, Marshal: jwkset.JWKMarshalOptions{Private: true}})
	if err != nil {
		p.t.Fatal(err)
	}
	return j
}

func (p *idp) publish(keys ...jwkset.JWK) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *idp) answers(with http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = with
}

func failing(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) }

// config accepts what the issuer issues, without leeway, and looks for new keys often.
func (p *idp) config() jwtauth.Config {
	return jwtauth.Config{JWKSURL: p.server.URL + "/keys", Issuer: "https://id.example.com", Audiences: []string{audience}, Leeway: -1,
		UnknownKeyEvery: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&p.logs, nil))}
}

// verifier is one that has the keys.
func (p *idp) verifier(change func(*jwtauth.Config)) *jwtauth.Verifier {
	p.t.Helper()
	v := p.verifierOf(change)
	if err := v.Ready(limit(p.t)); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *idp) verifierOf(change func(*jwtauth.Config)) *jwtauth.Verifier {
	p.t.Helper()
	c := p.config()
	if change != nil {
		change(&c)
	}
	v, err := jwtauth.New(context.Background(), c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = v.Close() })
	return v
}

// limit is done when the test ought to have ended long ago.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type claims = jwt.MapClaims

// good are the claims of a token that is accepted, with changes; nil removes one.
func good(changes claims) claims {
	c := claims{"iss": "https://id.example.com", "aud": audience, "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

type header = map[string]any

func sign(t *testing.T, method jwt.SigningMethod, key any, h header, c claims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, h)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// signed is a token as the issuer makes it.
func signed(t *testing.T, changes claims) string {
	t.Helper()
	return sign(t, jwt.SigningMethodRS256, rsaKey, header{"kid": "rsa"}, good(changes))
}

type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
