package interceptors

import "sync"

// firstMessage decides between the answer to a stream, its headers or its first
// message, and the time that it had for that.
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

// received is called with the headers and with every message.
func (f *firstMessage) received() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late {
		return errAttemptTimeout
	}
	f.come = true
	return nil
}
