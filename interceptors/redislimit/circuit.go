package redislimit

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// errPaused is why nothing was asked.
var errPaused = errors.New("redislimit: Redis did not answer and is not asked for a moment")

const (
	patience = 3           // failures in a row
	pause    = time.Second // give or take a quarter
)

// circuit keeps calls from waiting for a Redis that does not answer. The zero
// value is one that lets ask.
type circuit struct {
	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	trying   bool // one call asks, to see whether it answers again
}

// result is what became of asking.
type result uint8

const (
	answered result = iota
	failed
	unknown
)

// enter says whether to ask. If so, leave has to be called.
func (c *circuit) enter(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < patience {
		return true
	}
	if c.trying || now.Before(c.until) {
		return false
	}
	c.trying = true
	return true
}

func (c *circuit) leave(r result, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trying = false
	switch r {
	case answered:
		c.failures = 0
	case failed:
		if c.failures++; c.failures >= patience {
			c.until = now.Add(pause*3/4 + rand.N(pause/2))
		}
	}
}
