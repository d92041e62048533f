package jwtauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/rpcscope/rpcscope/errors"
)

// What is more than any issuer has is a mistake, or worse.
const (
	maxSetBytes = 1 << 20
	maxKeys     = 256
)

// source is where key sets come from.
type source struct {
	url     string
	timeout time.Duration
	client  *http.Client
}

func newSource(c *Config) source {
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = limited{client.Transport}
	follow := client.CheckRedirect
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if err := checkURL(r.URL.String(), c.AllowPlaintext); err != nil {
			return fmt.Errorf("redirected: %w", err)
		}
		if follow != nil {
			return follow(r, via)
		}
		if len(via) >= 10 {
			return errors.New("redirected 10 times")
		}
		return nil
	}
	return source{url: c.JWKSURL, timeout: c.FetchTimeout, client: &client}
}

// fetch returns the keys that signatures can be verified with.
func (s *source) fetch(ctx context.Context) ([]jwkset.JWK, error) {
	all := jwkset.NewMemoryStorage()
	// This fetches once, and begins nothing that goes on.
	_, err := jwkset.NewStorageFromHTTP(s.url, jwkset.HTTPClientStorageOptions{Client: s.client, Ctx: ctx, HTTPTimeout: s.timeout, Storage: all})
	if err != nil {
		return nil, s.failed(err)
	}
	set, _ := all.KeyReadAll(ctx) // in memory: never fails
	var usable []jwkset.JWK
	for _, key := range set {
		if key.Marshal().USE != jwkset.UseEnc && public(key.Key()) {
			usable = append(usable, key)
		}
	}
	switch {
	case len(usable) == 0:
		return nil, s.failed(fmt.Errorf("of %d keys in the set none is for verifying signatures", len(set)))
	case len(usable) > maxKeys:
		return nil, s.failed(fmt.Errorf("%d keys in the set; want at most %d", len(usable), maxKeys))
	}
	return usable, nil
}

// failed is err without what a URL may have that is secret.
func (s *source) failed(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	u, _ := url.Parse(s.url)
	return fmt.Errorf("jwtauth: keys from %s://%s%s: %w", u.Scheme, u.Host, u.Path, err)
}

// public tells a key that signatures are verified with from a secret.
func public(key any) bool {
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// checkURL returns why keys from there could not be trusted.
func checkURL(text string, plaintext bool) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("it is not the URL of a key set; want https://host/path") // not quoted: it may have a secret
	}
	if u.Scheme == "http" && !plaintext && !loopback(u.Hostname()) {
		return fmt.Errorf("http://%s: who is on the way could change the keys; want https, or AllowPlaintext", u.Host)
	}
	return nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// limited reads of an answer what a key set may have at most.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxSetBytes), answer.Body}
	return answer, nil
}
