package interceptors

import "sync"

// firstMessage decides between the first message of a stream, which the caller's
// goroutine receives, and the time that it had for that.
type firstMessage struct {
	mu   sync.Mutex
	come bool
	late bool
}

// giveUp is called when the time is up.
func (f *firstMessage) giveUp(cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.come {
		f.late = true
		cancel()
	}
}

func (f *firstMessage) isLate() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.late
}

// received is called with every message.
func (f *firstMessage) received() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late {
		return errAttemptTimeout
	}
	f.come = true
	return nil
}
