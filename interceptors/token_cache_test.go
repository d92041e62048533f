package interceptors_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// issuer hands out tokens t1, t2 ... that live for a while, and take a while.
type issuer struct {
	lifetime, takes time.Duration
	issued          atomic.Int64
	fail            atomic.Pointer[error]
	ctx             atomic.Pointer[context.Context]
}

func (i *issuer) issue(ctx context.Context) (string, time.Time, error) {
	n := i.issued.Add(1)
	i.ctx.Store(&ctx)
	if i.takes > 0 {
		select {
		case <-time.After(i.takes):
		case <-ctx.Done():
			return "", time.Time{}, ctx.Err()
		}
	}
	if err := i.fail.Load(); err != nil && *err != nil {
		return "", time.Time{}, *err
	}
	if i.lifetime == 0 {
		return fmt.Sprint("t", n), time.Time{}, nil
	}
	return fmt.Sprint("t", n), time.Now().Add(i.lifetime), nil
}

func (i *issuer) fails(err error) { i.fail.Store(&err) }

func wantToken(t *testing.T, source interceptors.TokenSource, want string) {
	t.Helper()
	if got, err := source.Token(context.Background()); got != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// Rule 28: a token is kept, fetched again in the background in the last fifth of its
// life, and waited for when it is about to expire.
func TestRule28CachedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{lifetime: 1000 * time.Second, takes: time.Second}
		c := interceptors.CachedToken(i.issue)
		wantToken(t, c, "t1")
		<-time.After(799 * time.Second)
		wantToken(t, c, "t1")
		if n := i.issued.Load(); n != 1 {
			t.Errorf("%d tokens were fetched, want 1", n)
		}
		<-time.After(time.Second) // in the last fifth
		before := time.Now()
		wantToken(t, c, "t1")
		if waited := time.Since(before); waited != 0 {
			t.Errorf("the early refresh held a call for %v", waited)
		}
		<-time.After(2 * time.Second)
		wantToken(t, c, "t2")
		<-time.After(995 * time.Second) // 4 s before its end, with nobody asking in between
		before = time.Now()
		wantToken(t, c, "t3")
		if waited := time.Since(before); waited != time.Second {
			t.Errorf("waited %v for a new token, want the second it takes", waited)
		}
		if n := i.issued.Load(); n != 3 {
			t.Errorf("%d tokens were fetched, want 3", n)
		}
	})
}

// A token that does not expire is kept.
func TestCachedTokenForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := interceptors.CachedToken(i.issue)
		for range 3 {
			wantToken(t, c, "t1")
			<-time.After(1000 * time.Hour)
		}
	})
}

// Rule 28: many callers are one fetch, which does not end with the one who began
// it.
func TestRule28SingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		i := &issuer{takes: time.Minute / 4}
		c := interceptors.CachedToken(i.issue)
		first, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "first"))
		gone := make(chan error)
		go func() {
			_, err := c.Token(first)
			gone <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantToken(t, c, "t1") })
		}
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller got %v, want its own end", err)
		}
		wg.Wait()
		if n := i.issued.Load(); n != 1 {
			t.Errorf("%d fetches for 51 callers, want 1", n)
		}
		if got := (*i.ctx.Load()).Value(key{}); got != "first" {
			t.Errorf("the fetch has the value %v, want its caller's", got)
		}
	})
}

// A fetch that hangs is ended after 30 seconds.
func TestCachedTokenHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{takes: time.Hour}
		c := interceptors.CachedToken(i.issue)
		before := time.Now()
		if _, err := c.Token(context.Background()); !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != 30*time.Second {
			t.Errorf("got %v after %v, want DeadlineExceeded after 30 s", err, time.Since(before))
		}
	})
}

// Rule 28: an issuer in trouble is asked less and less often, and a token that
// still is good is used on.
func TestRule28Backoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{lifetime: 1000 * time.Second}
		c := interceptors.CachedToken(i.issue)
		wantToken(t, c, "t1")
		i.fails(errors.New("away"))
		<-time.After(850 * time.Second)
		for range 100 {
			wantToken(t, c, "t1")
			synctest.Wait()
		}
		if n := i.issued.Load(); n != 2 {
			t.Errorf("100 calls while the issuer is away asked it %d times, want once", n-1)
		}
		<-time.After(150 * time.Second) // expired
		before := i.issued.Load()
		var failed int
		for range 600 { // ten minutes
			_, err := c.Token(context.Background())
			if err == nil || !strings.Contains(err.Error(), "away") {
				t.Fatalf("got %v, want the issuer's error", err)
			}
			if after, ok := errors.RetryAfter(err); ok {
				failed++
				if after <= 0 || after > 45*time.Second || !errors.Is(err, interceptors.ErrNoToken) {
					t.Fatalf("in a pause: %v, after %v", err, after)
				}
			}
			<-time.After(time.Second)
		}
		if n := i.issued.Load() - before; n < 10 || n > 60 || failed == 0 {
			t.Errorf("the issuer was asked %d times in ten minutes, want 10 to 60", n)
		}
		i.fails(nil)
		<-time.After(time.Minute)
		wantToken(t, c, fmt.Sprint("t", i.issued.Load()+1))
	})
}

// Rule 28: a refused token is given up, but not more often than once a second.
func TestRule28Invalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{lifetime: time.Hour}
		c := interceptors.CachedToken(i.issue)
		c.Invalidate() // nothing there
		wantToken(t, c, "t1")
		c.Invalidate()
		wantToken(t, c, "t2")
		c.Invalidate()
		wantToken(t, c, "t2")
		<-time.After(time.Second)
		c.Invalidate()
		wantToken(t, c, "t3")
	})
}

func TestCachedTokenFailures(t *testing.T) {
	tests := map[string]struct {
		fetch func(context.Context) (string, time.Time, error)
		want  string
	}{
		"panic":  {func(context.Context) (string, time.Time, error) { panic("oops") }, "panic: oops"},
		"goexit": {func(context.Context) (string, time.Time, error) { runtime.Goexit(); return "", time.Time{}, nil }, "runtime.Goexit"},
		"empty":  {func(context.Context) (string, time.Time, error) { return "", time.Time{}, nil }, "empty token"},
		"over": {func(context.Context) (string, time.Time, error) {
			return "x", time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), nil
		}, "expired at 1999-01-01T00:00:00Z"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := interceptors.CachedToken(test.fetch).Token(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCachedTokenConcurrentSafe(t *testing.T) {
	i := &issuer{lifetime: time.Hour}
	c := interceptors.CachedToken(i.issue)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if _, err := c.Token(t.Context()); err != nil {
					t.Error(err)
				}
				c.Invalidate()
			}
		})
	}
	wg.Wait()
}
