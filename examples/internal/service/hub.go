package service

import (
	"strings"
	"sync"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/users"
)

// hub hands created users to the watchers. It never waits for one: a watcher whose queue is full is ended.
type hub struct {
	limit    int
	mu       sync.Mutex
	watchers map[*watcher]struct{} // nil once stopped
}

func newHub(limit int) *hub {
	return &hub{limit: limit, watchers: make(map[*watcher]struct{})}
}

// watch returns a new watcher, to be given to leave.
func (h *hub) watch(sub *usersv1.WatchUsersRequest_Subscription) (*watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		return nil, users.ErrStopping
	}
	w := &watcher{limit: h.limit, ready: make(chan struct{}, 1), ended: make(chan struct{})}
	w.subscribe(sub)
	h.watchers[w] = struct{}{}
	return w, nil
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// publish queues users, all of them together, so that every watcher gets them in the same order.
func (h *hub) publish(created ...*usersv1.User) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if !w.add(created) {
			delete(h.watchers, w)
		}
	}
}

func (h *hub) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.mu.Lock()
		w.end(users.ErrStopping)
		w.mu.Unlock()
	}
	h.watchers = nil
}

// watcher is the queue of one WatchUsers call.
type watcher struct {
	limit int
	ready chan struct{} // has a value when there are users to take
	ended chan struct{} // is closed when err is set

	mu     sync.Mutex
	domain string // "@" and the domain of the addresses wanted; empty: all
	queue  []*usersv1.User
	err    error
}

func (w *watcher) subscribe(sub *usersv1.WatchUsersRequest_Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.domain = ""
	if domain := sub.GetEmailDomain(); domain != "" {
		w.domain = "@" + users.EmailKey(domain)
	}
}

// add queues those of created that are wanted. It reports whether there was room.
func (w *watcher) add(created []*usersv1.User) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, user := range created {
		if !strings.HasSuffix(users.EmailKey(user.GetEmail()), w.domain) {
			continue
		}
		if len(w.queue) == w.limit {
			w.end(users.ErrWatcherTooSlow.With("max", w.limit))
			return false
		}
		w.queue = append(w.queue, user)
		w.signal()
	}
	return true
}

// end ends the watcher, once: the hub forgets those that have ended. w.mu is held.
func (w *watcher) end(err error) {
	w.queue, w.err = nil, err
	close(w.ended)
}

func (w *watcher) signal() {
	select {
	case w.ready <- struct{}{}:
	default: // it is signalled already
	}
}

// take returns up to n users of the queue.
func (w *watcher) take(n int) []*usersv1.User {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.queue[:min(n, len(w.queue))]
	w.queue = w.queue[len(taken):]
	if len(w.queue) > 0 {
		w.signal()
	} else {
		w.queue = nil // so that the array can be freed
	}
	return taken
}
