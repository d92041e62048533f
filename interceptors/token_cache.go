package interceptors

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rpcscope/rpcscope/errors"
)

// CachedToken makes a [TokenSource] of a function that fetches tokens:
//
//	source := interceptors.CachedToken(func(ctx context.Context) (string, time.Time, error) {
//		t, err := issuer.Issue(ctx, audience)
//		return t.Value, t.ExpiresAt, err
//	})
//
// fetch returns a token, and when it expires; the zero time is never. It is called
// when the first token is needed, and by the first call that finds the token
// within the last fifth of its life, or the last five minutes of a long one: then
// in the background, with everybody going on with the old token until shortly
// before it expires. There is one fetch at a time, for all who wait. It is not
// cancelled with the call that began it, whose values its context has, but has 30
// seconds.
//
// After a failure there is a pause of a quarter of a second, twice as long after
// each other up to 30 seconds, more or less. In it callers that need a token get
// the error of the failure again, with a RetryInfo; so a source in trouble is not
// asked for each call. A panic of fetch is a failure.
//
// It panics if fetch is nil.
func CachedToken(fetch func(ctx context.Context) (token string, expires time.Time, err error)) *TokenCache {
	if fetch == nil {
		panic("interceptors: CachedToken: the function is nil; want one that fetches a token")
	}
	return &TokenCache{fetch: fetch}
}

// TokenCache is a [TokenSource] that keeps a token while it lasts. [CachedToken] makes
// one; with the zero value and nil [Token] panics. It is safe for concurrent use, and has no goroutine but while it fetches.
type TokenCache struct {
	fetch func(context.Context) (string, time.Time, error)

	mu      sync.Mutex
	token   string    // "" is none
	renew   time.Time // from when it is fetched in the background; zero is never
	expired time.Time // from when it is not used any more; zero is never
	dropped time.Time // when Invalidate last took one away
	flight  *tokenFlight

	failures int
	failure  error
	retry    time.Time // not before
}

// tokenFlight is a fetch that is under way.
type tokenFlight struct {
	done  chan struct{}
	token string // both set when done is closed
	err   error
}

const (
	tokenFetchTimeout = 30 * time.Second
	tokenMinPause     = 250 * time.Millisecond
	tokenMaxPause     = 30 * time.Second
	tokenDropPause    = time.Second
)

// Token returns the token that it has, or waits for one, but not longer than ctx.
func (c *TokenCache) Token(ctx context.Context) (string, error) {
	f, token, err := c.now(ctx)
	if f == nil {
		return token, err
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Invalidate gives up the token: the next one who asks waits for another. As fetch
// may return the same one again, or one that is refused as well, it does so once a
// second at most. It does not end a fetch that is under way.
func (c *TokenCache) Invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.token != "" && now.Sub(c.dropped) >= tokenDropPause {
		c.token, c.dropped = "", now
	}
}

// now is what there is to return at once, or a fetch to wait for.
func (c *TokenCache) now(ctx context.Context) (wait *tokenFlight, token string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	usable := c.token != "" && (c.expired.IsZero() || now.Before(c.expired))
	if usable && (c.renew.IsZero() || now.Before(c.renew)) {
		return nil, c.token, nil
	}
	if c.flight == nil {
		if pause := c.retry.Sub(now); pause <= 0 {
			c.flight = &tokenFlight{done: make(chan struct{})}
			go c.run(context.WithoutCancel(ctx), c.flight)
		} else if !usable {
			return nil, "", ErrNoToken.WithCause(c.failure).WithRetry(pause)
		}
	}
	if usable {
		return nil, c.token, nil
	}
	return c.flight, "", nil
}

// run is the goroutine of a fetch.
func (c *TokenCache) run(ctx context.Context, f *tokenFlight) {
	ctx, cancel := context.WithTimeout(ctx, tokenFetchTimeout)
	defer cancel()
	var expires time.Time
	f.err = errors.New("interceptors: CachedToken: the function left with runtime.Goexit")
	defer func() { c.land(f, expires) }()
	f.token, expires, f.err = c.call(ctx)
}

func (c *TokenCache) call(ctx context.Context) (token string, expires time.Time, err error) {
	defer asError(&err)
	token, expires, err = c.fetch(ctx)
	if err != nil {
		return "", expires, err
	}
	if err = sendableToken(token); err != nil {
		return "", expires, err
	}
	if !expires.IsZero() && !time.Now().Before(expires) {
		return "", expires, fmt.Errorf("interceptors: CachedToken: the token that was fetched expired at %s, which is over", expires.Format(time.RFC3339))
	}
	return token, expires, nil
}

func (c *TokenCache) land(f *tokenFlight, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.flight = nil
	now := time.Now()
	if f.err != nil {
		pause := min(tokenMinPause<<min(c.failures, 16), tokenMaxPause)
		c.failures++
		c.failure, c.retry = f.err, now.Add(jittered(pause))
		return
	}
	c.failures, c.failure, c.retry = 0, nil, time.Time{}
	c.token, c.renew, c.expired = f.token, time.Time{}, time.Time{}
	if !expires.IsZero() {
		lasts := expires.Sub(now)
		c.renew = expires.Add(-min(lasts/5, 5*time.Minute))
		c.expired = expires.Add(-min(lasts/20, 10*time.Second))
	}
}
