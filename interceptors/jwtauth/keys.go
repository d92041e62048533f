package jwtauth

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/rpcscope/rpcscope/errors"
)

// keys is a key set that one goroutine keeps fresh.
type keys struct {
	config *Config
	source source
	logger *slog.Logger

	known  *jwkset.MemoryJWKSet
	lookUp keyfunc.Keyfunc

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // the goroutine has left
	wanted chan struct{} // asks for the next fetch, as soon as there may be one

	mu       sync.Mutex
	fetching bool
	ended    chan struct{} // closed when the next fetch has ended
	tried    time.Time     // when the last fetch ended
	fetched  time.Time     // when the last one that succeeded did; zero: never
	err      error         // of the last fetch
}

func newKeys(ctx context.Context, c *Config) *keys {
	k := &keys{config: c, source: newSource(c), logger: c.Logger, known: jwkset.NewMemoryStorage(),
		done: make(chan struct{}), wanted: make(chan struct{}, 1), ended: make(chan struct{}), fetching: true}
	k.ctx, k.cancel = context.WithCancel(ctx)
	k.lookUp, _ = keyfunc.New(keyfunc.Options{Storage: k.known}) // fails without storage only
	go k.run()
	return k
}

func (k *keys) close() {
	k.cancel()
	<-k.done
}

// run fetches until the context is done.
func (k *keys) run() {
	defer close(k.done)
	for {
		next := time.NewTimer(k.fetch())
		select {
		case <-k.ctx.Done():
			next.Stop()
			return
		case <-next.C:
		case <-k.wanted:
			next.Stop()
			k.mu.Lock()
			soonest := time.NewTimer(time.Until(k.tried.Add(k.config.UnknownKeyEvery)))
			k.mu.Unlock()
			select {
			case <-k.ctx.Done():
				soonest.Stop()
				return
			case <-soonest.C:
			}
		}
	}
}

// fetch returns when to fetch again.
func (k *keys) fetch() time.Duration {
	k.mu.Lock()
	k.fetching = true
	select {
	case <-k.wanted: // this is it
	default:
	}
	k.mu.Unlock()

	set, err := k.source.fetch(k.ctx)
	if err == nil {
		_ = k.known.KeyReplaceAll(k.ctx, set) // in memory: never fails
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.err
	k.tried, k.err, k.fetching = time.Now(), err, false
	close(k.ended)
	k.ended = make(chan struct{})
	if err != nil {
		if before == nil && k.ctx.Err() == nil {
			k.logger.WarnContext(k.ctx, "jwtauth: cannot fetch keys; tokens are verified with those there are", "error", err, "keys_of", k.fetched)
		}
		return k.config.UnknownKeyEvery
	}
	if before != nil {
		k.logger.InfoContext(k.ctx, "jwtauth: keys are fetched again", "keys", len(set))
	}
	k.fetched = k.tried
	// Servers that were started together do not ask together.
	return k.config.RefreshEvery - rand.N(k.config.RefreshEvery/10+1)
}

// find returns the key of a token.
func (k *keys) find(ctx context.Context, token *jwt.Token) (any, error) {
	if err := k.usable(); err != nil {
		k.again(ctx)
		if err := k.usable(); err != nil {
			return nil, err
		}
	}
	if kid, ok := token.Header[jwkset.HeaderKID].(string); ok {
		if !k.has(ctx, kid) && !k.again(ctx) {
			return nil, unavailable(errors.New("jwtauth: the keys are still being fetched"))
		}
		if !k.has(ctx, kid) {
			return nil, k.unknown()
		}
	} else if set, _ := k.known.KeyReadAll(ctx); len(set) != 1 {
		// OpenID Connect Core, section 10.1: the only one may be meant without saying so.
		return nil, errUnknownKey
	}
	return k.lookUp.KeyfuncCtx(ctx)(token)
}

func (k *keys) has(ctx context.Context, kid string) bool {
	_, err := k.known.KeyRead(ctx, kid)
	return err == nil
}

// usable returns nil while there are keys that may be used.
func (k *keys) usable() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ctx.Err() != nil:
		return unavailable(errors.New("jwtauth: the Verifier is closed"))
	case k.fetched.IsZero() && k.err == nil:
		return unavailable(errors.New("jwtauth: the keys have not been fetched yet"))
	case k.fetched.IsZero():
		return unavailable(k.err)
	case k.err != nil && time.Since(k.fetched) > k.config.MaxStale:
		return unavailable(fmt.Errorf("jwtauth: the keys are of %s: %w", k.fetched.UTC().Format(time.RFC3339), k.err))
	}
	return nil
}

// unknown says what it means that a key is not among those there are: nothing, where
// there may be newer ones.
func (k *keys) unknown() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return unavailable(k.err)
	}
	return errUnknownKey
}

func unavailable(cause error) error {
	return ErrKeysUnavailable.WithCause(cause).WithRetry(time.Second)
}

// again sees to it that the keys are fetched again, and waits for that where it
// happens at once. It returns false where it did not end in time.
func (k *keys) again(ctx context.Context) bool {
	k.mu.Lock()
	ended := k.ended
	now := k.fetching || time.Since(k.tried) >= k.config.UnknownKeyEvery
	if !k.fetching {
		select {
		case k.wanted <- struct{}{}:
		default:
		}
	}
	k.mu.Unlock()
	if !now {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, k.config.FetchTimeout)
	defer cancel()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
	case <-k.ctx.Done():
	}
	return false
}

func (k *keys) ready(ctx context.Context) error {
	for {
		k.mu.Lock()
		ended := k.ended
		k.mu.Unlock()
		err := k.usable()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return err
		case <-k.ctx.Done():
			return k.usable()
		}
	}
}
