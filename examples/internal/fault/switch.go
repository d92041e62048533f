package fault

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// forAll is how long a fault is for everybody, unless it is ended before: nobody has to remember that it is there.
const forAll = time.Minute

// Switch obeys Key, and holds the fault that somebody wants everybody to have. The zero value holds none, and a nil Switch
// hands no fault on. It is safe for concurrent use.
type Switch struct{ held atomic.Pointer[held] }

// held is a fault for everybody.
type held struct {
	wanted  string
	service string // whose; empty: this one's
	inject  Injector
	until   time.Time
}

// Inject is an Injector: it does what the incoming call asks for, then what is held.
func (s *Switch) Inject(ctx context.Context) error {
	for _, wanted := range metadata.ValueFromIncomingContext(ctx, Key) {
		if all, ok := strings.CutPrefix(wanted, "all:"); ok {
			return s.hold(all)
		}
	}
	if err := FromMetadata(ctx); err != nil {
		return err
	}
	if h := s.now(); h != nil && h.service == "" {
		return h.inject(ctx)
	}
	return nil
}

// Onward returns ctx for a call to the service of this name, with the faults that the incoming call asks of it, or everybody
// is to have.
func (s *Switch) Onward(ctx context.Context, service string) context.Context {
	if s == nil {
		return ctx
	}
	for _, wanted := range metadata.ValueFromIncomingContext(ctx, Key) {
		if strings.HasPrefix(wanted, "all:") {
			return ctx
		}
		if its, ok := strings.CutPrefix(wanted, service+":"); ok {
			ctx = metadata.AppendToOutgoingContext(ctx, Key, its)
		}
	}
	if h := s.now(); h != nil && h.service == service {
		ctx = metadata.AppendToOutgoingContext(ctx, Key, h.wanted)
	}
	return ctx
}

// hold holds what everybody is to have.
func (s *Switch) hold(wanted string) error {
	if wanted == "none" {
		s.held.Store(nil)
		return nil
	}
	h := &held{wanted: wanted, until: time.Now().Add(forAll)}
	if service, its, ok := strings.Cut(wanted, ":"); ok {
		h.service, h.wanted = service, its
	}
	var err error
	if h.inject, err = parse(h.wanted); err != nil {
		return errors.InvalidArgument("%s: all:%s: %v, or none", Key, wanted, err)
	}
	s.held.Store(h)
	return nil
}

// now returns what everybody has now; nil for nothing.
func (s *Switch) now() *held {
	if h := s.held.Load(); h != nil && time.Now().Before(h.until) {
		return h
	}
	return nil
}
