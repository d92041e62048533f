package jwtauth_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors/jwtauth"
)

// A new key is fetched when the first token comes that it signed; one that was taken
// away is good for nothing from the next fetch on.
func TestRotation(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(nil)
	old, rotated := signed(t, nil), sign(t, jwt.SigningMethodRS256, otherRSA, header{"kid": "new"}, good(nil))
	if _, err := v.Verify(limit(t), rotated); errors.Code(err) != codes.Unauthenticated {
		t.Fatalf("before the rotation: %v, want Unauthenticated", err)
	}
	p.publish(p.jwk("rsa", &rsaKey.PublicKey, "RS256"), p.jwk("new", &otherRSA.PublicKey, "RS256"))
	eventually(t, "the new key to be accepted", func() bool { _, err := v.Verify(limit(t), rotated); return err == nil })
	if _, err := v.Verify(limit(t), old); err != nil {
		t.Errorf("the old key, while it is published: %v", err)
	}
	p.publish(p.jwk("new", &otherRSA.PublicKey, "RS256"))
	unknown := sign(t, jwt.SigningMethodRS256, rsaKey, header{"kid": "?"}, good(nil))
	eventually(t, "the old key to be refused", func() bool {
		_, _ = v.Verify(limit(t), unknown)
		_, err := v.Verify(limit(t), old)
		return errors.Code(err) == codes.Unauthenticated
	})
}

// eventually waits for what other goroutines are about to do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// Keys are fetched now and then without anybody asking.
func TestRefresh(t *testing.T) {
	p := newIDP(t)
	p.verifier(func(c *jwtauth.Config) { c.RefreshEvery = time.Millisecond })
	eventually(t, "five fetches", func() bool { return p.fetches.Load() >= 5 })
}

// However many tokens of unknown keys there are, fetching does not become more; they
// are refused, and those of known keys are not held up.
func TestUnknownKeysAreBounded(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(func(c *jwtauth.Config) { c.UnknownKeyEvery = time.Hour })
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		tokens[i] = sign(t, jwt.SigningMethodES256, ecKey, header{"kid": fmt.Sprint("made up ", i)}, good(nil))
	}
	known := signed(t, nil)
	begun := time.Now()
	for worker := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				if _, err := v.Verify(limit(t), tokens[(i+worker)%len(tokens)]); errors.Code(err) != codes.Unauthenticated {
					t.Errorf("a made-up key: %v, want Unauthenticated", err)
					return
				}
			}
			if _, err := v.Verify(limit(t), known); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times, want once", n)
	}
	if d := time.Since(begun); d > 15*time.Second {
		t.Errorf("16,000 refusals took %v", d)
	}
}

// Those that come while the keys are fetched wait for the same fetch, which does not
// end with the call that asked for it.
func TestOneFetchForAll(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(nil)
	<-time.After(2 * time.Millisecond) // UnknownKeyEvery
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.publish(p.jwk("new", &otherRSA.PublicKey, "RS256"))
	p.answers(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(begun) })
		<-goOn
		p.answers(nil)
		p.server.Config.Handler.ServeHTTP(w, r)
	})
	rotated := sign(t, jwt.SigningMethodRS256, otherRSA, header{"kid": "new"}, good(nil))
	ctx, cancel := context.WithCancel(limit(t))
	left := make(chan error, 1)
	go func() {
		_, err := v.Verify(ctx, rotated)
		left <- err
	}()
	<-begun
	cancel() // a caller that asks and goes away
	if err := <-left; errors.Code(err) != codes.Canceled {
		t.Errorf("who went away got %v", err)
	}
	before := p.fetches.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := v.Verify(limit(t), rotated); err != nil {
				t.Error(err)
			}
		})
	}
	close(goOn)
	wg.Wait()
	if n := p.fetches.Load() - before; n > 2 { // the one that is under way, counted again when it goes on, and one for who comes late
		t.Errorf("%d fetches for twenty tokens", n)
	}
}

// A service starts without the server of the keys; calls are Unavailable until there
// are keys, with a time to come again, and New and Verify do not wait long.
func TestDownAtTheStart(t *testing.T) {
	for name, down := range map[string]http.HandlerFunc{
		"failing": failing,
		"hanging": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			p.answers(down)
			begun := time.Now()
			v := p.verifierOf(func(c *jwtauth.Config) { c.FetchTimeout = 50 * time.Millisecond })
			if d := time.Since(begun); d > 40*time.Millisecond {
				t.Errorf("New took %v", d)
			}
			_, err := v.Verify(limit(t), signed(t, nil))
			if wait, ok := errors.RetryAfter(err); !errors.Is(err, jwtauth.ErrKeysUnavailable) || errors.Code(err) != codes.Unavailable || !ok || wait <= 0 {
				t.Errorf("got %v, want %v with a time to come again", err, jwtauth.ErrKeysUnavailable)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("Verify took %v", d)
			}
			soon, cancel := context.WithTimeout(limit(t), 100*time.Millisecond)
			defer cancel()
			if err := v.Ready(soon); !errors.Is(err, jwtauth.ErrKeysUnavailable) {
				t.Errorf("Ready: %v, want %v", err, jwtauth.ErrKeysUnavailable)
			}
			p.answers(nil)
			if err := v.Ready(limit(t)); err != nil {
				t.Fatalf("Ready, when it is up: %v", err)
			}
			if _, err := v.Verify(limit(t), signed(t, nil)); err != nil {
				t.Error(err)
			}
			if text := p.logs.String(); strings.Count(text, "cannot fetch keys") != 1 || strings.Count(text, "fetched again") != 1 {
				t.Errorf("want one record for each, got %s", text)
			}
		})
	}
}

// A call that comes with the keys on their way waits for them.
func TestFirstCallWaits(t *testing.T) {
	p := newIDP(t)
	goOn := make(chan struct{})
	p.answers(func(w http.ResponseWriter, r *http.Request) {
		<-goOn
		p.answers(nil)
		p.server.Config.Handler.ServeHTTP(w, r)
	})
	v := p.verifierOf(nil)
	done := make(chan error, 1)
	go func() {
		_, err := v.Verify(limit(t), signed(t, nil))
		done <- err
	}()
	eventually(t, "the fetch to begin", func() bool { return p.fetches.Load() > 0 })
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Keys outlive an outage, for a time; a key that is not among them may be a new one,
// so that its token is not refused as false.
func TestOutage(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(func(c *jwtauth.Config) { c.RefreshEvery = time.Millisecond })
	p.answers(failing)
	eventually(t, "the outage to be noticed", func() bool { return strings.Contains(p.logs.String(), "cannot fetch keys") })
	if _, err := v.Verify(limit(t), signed(t, nil)); err != nil {
		t.Errorf("a known key: %v", err)
	}
	if _, err := v.Verify(limit(t), sign(t, jwt.SigningMethodES256, ecKey, header{"kid": "new"}, good(nil))); !errors.Is(err, jwtauth.ErrKeysUnavailable) {
		t.Errorf("an unknown key: %v, want %v", err, jwtauth.ErrKeysUnavailable)
	}
	if text := p.logs.String(); !strings.Contains(text, "invalid HTTP status code: 502") || !strings.Contains(text, p.server.URL+"/keys") {
		t.Errorf("the log does not say what is wrong: %s", text)
	}
}

func TestStaleKeys(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(func(c *jwtauth.Config) { c.RefreshEvery, c.MaxStale = time.Millisecond, 50*time.Millisecond })
	p.answers(failing)
	eventually(t, "the keys to be too old", func() bool {
		_, err := v.Verify(limit(t), signed(t, nil))
		return errors.Is(err, jwtauth.ErrKeysUnavailable)
	})
	p.answers(nil)
	eventually(t, "the keys to be there again", func() bool { _, err := v.Verify(limit(t), signed(t, nil)); return err == nil })
}

// What is no key set takes the place of none.
func TestBadSets(t *testing.T) {
	var many strings.Builder
	many.WriteString(`{"keys":[`)
	for i := range 300 {
		fmt.Fprintf(&many, `{"kty":"OKP","crv":"Ed25519","kid":"%d","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},`, i)
	}
	tooMany := strings.TrimSuffix(many.String(), ",") + "]}"
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
	defer plain.Close()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		why    string
	}{
		"an error":          {failing, "502"},
		"no JSON":           {say("<html>"), "decode"},
		"no keys":           {say(`{}`), "of 0 keys in the set none"},
		"only secrets":      {say(`{"keys":[{"kty":"oct","kid":"s","k":"AAAA"}]}`), "of 1 keys in the set none"},
		"only of unknown":   {say(`{"keys":[{"kty":"PQC","kid":"s"}]}`), "of 0 keys in the set none"},
		"too many":          {say(tooMany), "300 keys in the set; want at most 256"},
		"too large":         {say(`{"keys":[` + strings.Repeat(" ", 2<<20) + `]}`), "unexpected EOF"},
		"endless":           {endless, "unexpected EOF"},
		"to plaintext":      {http.RedirectHandler("http://keys.example.com/", http.StatusFound).ServeHTTP, "redirected: http://keys.example.com: who is on the way"},
		"in circles":        {http.RedirectHandler("/keys", http.StatusFound).ServeHTTP, "redirected 10 times"},
		"a connection lost": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			v := p.verifier(func(c *jwtauth.Config) { c.RefreshEvery, c.JWKSURL = time.Millisecond, c.JWKSURL+"?secret=hunter2" })
			p.answers(test.answer)
			eventually(t, "the failure to be noticed", func() bool { return strings.Contains(p.logs.String(), "cannot fetch keys") })
			if _, err := v.Verify(limit(t), signed(t, nil)); err != nil {
				t.Errorf("the keys from before: %v", err)
			}
			if text := p.logs.String(); !strings.Contains(text, test.why) || strings.Contains(text, "hunter2") {
				t.Errorf("the log says %s, want %q and no secret", text, test.why)
			}
		})
	}
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func endless(w http.ResponseWriter, _ *http.Request) {
	_, err := w.Write([]byte(`{"keys":[`))
	for err == nil {
		_, err = w.Write(bytes.Repeat([]byte(" "), 1<<16))
	}
}

// Close, and the context given to New, end it; goleak sees that nothing is left.
func TestClose(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(nil)
	for range 2 {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.Verify(limit(t), signed(t, nil)); !errors.Is(err, jwtauth.ErrKeysUnavailable) {
		t.Errorf("after Close: %v, want %v", err, jwtauth.ErrKeysUnavailable)
	}
	if err := v.Ready(limit(t)); !errors.Is(err, jwtauth.ErrKeysUnavailable) {
		t.Errorf("Ready after Close: %v, want %v", err, jwtauth.ErrKeysUnavailable)
	}

	p.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(context.Background())
	hanging, err := jwtauth.New(ctx, p.config())
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- hanging.Ready(limit(t)) }()
	cancel()
	if err := <-waiting; !errors.Is(err, jwtauth.ErrKeysUnavailable) {
		t.Errorf("Ready, with New's context done: %v", err)
	}
	_ = hanging.Close()
}

// One's own client is used, and left as it is.
func TestHTTPClient(t *testing.T) {
	p := newIDP(t)
	transport := &counting{}
	client := &http.Client{Transport: transport}
	v := p.verifier(func(c *jwtauth.Config) { c.HTTPClient = client })
	if transport.n == 0 || client.CheckRedirect != nil || client.Transport != http.RoundTripper(transport) {
		t.Errorf("the client was used %d times and is %+v", transport.n, client)
	}
	_ = v.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

type counting struct{ n int }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return http.DefaultTransport.RoundTrip(r)
}
