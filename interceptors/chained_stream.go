package interceptors

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

// chainedStream is a client's stream with interceptors around it. The chain
// has a goroutine of its own, in which next opens a stream and waits for its
// end, while the caller sends and receives; when the stream has ended, the
// caller waits for the chain, whose error is the one that it gets.
//
// While no message has been delivered, the chain may call next again: another
// stream is opened behind the caller's back.
type chainedStream struct {
	r      *rpc
	desc   *grpc.StreamDesc
	open   opener
	opts   []grpc.CallOption
	cancel context.CancelFunc

	opened chan struct{} // an attempt has a stream for the caller
	done   chan struct{} // the chain has returned: final and panicked are set

	final    error // what the caller gets at the end; io.EOF for OK
	panicked any

	mu        sync.Mutex
	attempt   *streamAttempt // the current one
	committed bool           // the caller has seen something of it

	request sync.Mutex // held while the one request of a server stream is sent
	first   any        // that request
}

// streamAttempt is one stream that next has opened.
type streamAttempt struct {
	grpc.ClientStream
	send, receive []scoped[func(any) error]

	header, trailer metadata.MD
	finished        atomic.Bool // gRPC has said so; header and trailer are set
	receiving       atomic.Bool

	once sync.Once
	over chan struct{}
	err  error // set when over is closed; nil for OK
}

func (a *streamAttempt) end(err error) {
	a.once.Do(func() {
		a.err = err
		close(a.over)
	})
}

func newChainedStream(r *rpc, chain []Interceptor, desc *grpc.StreamDesc, open opener, opts []grpc.CallOption) (grpc.ClientStream, error) {
	s := &chainedStream{
		r: r, desc: desc, open: open, opts: opts,
		opened: make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	r.call.override(opts)
	ctx, cancel := context.WithCancel(context.WithValue(r, chainedKey{}, s))
	s.cancel = cancel
	go s.run(ctx, chain)
	select {
	case <-s.opened:
	case <-s.done:
		if s.panicked != nil || s.current() == nil {
			return nil, s.outcome()
		}
	}
	return s, nil
}

// chainedKey finds the stream in the context of its chain.
type chainedKey struct{}

// run is the chain's goroutine.
func (s *chainedStream) run(ctx context.Context, chain []Interceptor) {
	defer close(s.done)
	defer s.cancel()
	returned := false
	defer func() {
		if !returned {
			s.panicked = recover()
			s.r.panicked = s.panicked != nil
			s.final = errors.Internal(errPanicked)
			s.r.endWith(s.final)
		}
	}()
	err := walk(ctx, chain, &s.r.call, s.next)
	if err == nil && s.current() == nil {
		err = errNoStream(&s.r.call)
	}
	err = s.r.fromRPC(err)
	if err == io.EOF {
		err = nil
	}
	s.r.endWith(err)
	if s.final = err; err == nil {
		s.final = io.EOF
	}
	returned = true
}

// outcome is what the caller gets once the chain is done. A panic of an
// interceptor goes on in the caller's goroutine, as it does for unary calls.
func (s *chainedStream) outcome() error {
	<-s.done
	if s.panicked != nil {
		panic(s.panicked)
	}
	return s.final
}

// next is the end of the chain: it opens a stream and returns when that has
// ended.
func (s *chainedStream) next(ctx context.Context) error {
	s.request.Lock()
	last := s.current()
	if last != nil && !s.replayable() {
		s.request.Unlock()
		return last.err
	}
	a, err := s.openAttempt(ctx)
	if err != nil {
		s.request.Unlock()
		return inTime(ctx, err)
	}
	if s.first != nil {
		// What fails here shows when the caller receives.
		_ = a.SendMsg(s.first)
	}
	s.mu.Lock()
	s.attempt = a
	s.mu.Unlock()
	s.request.Unlock()

	select {
	case s.opened <- struct{}{}:
	default: // the caller has not noticed the last one yet
	}
	<-a.over
	if a.finished.Load() {
		s.r.call.header, s.r.call.trailer = a.header, a.trailer
	}
	return inTime(ctx, a.err)
}

func (s *chainedStream) openAttempt(ctx context.Context) (*streamAttempt, error) {
	call := &s.r.call
	if call.repeated {
		freshen(nil, s.opts)
	}
	call.repeated = true
	a := &streamAttempt{send: call.sendHooks(), receive: call.receiveHooks(), over: make(chan struct{})}
	onFinish := grpc.OnFinish(func(err error) {
		a.finished.Store(true)
		s.r.settle(err)
		if err == nil && a.receiving.Load() {
			return // RecvMsg has the reply and will say so
		}
		a.end(s.r.fromRPC(err))
	})
	cs, err := s.open(ctx, append(call.callOptions(s.opts, &a.header, &a.trailer), onFinish))
	if err != nil {
		return nil, s.r.fromRPC(err)
	}
	a.ClientStream = cs
	if headers := call.headerHooks(); len(headers) > 0 {
		go awaitHeader(cs, headers)
	}
	return a, nil
}

// awaitHeader calls hooks when the server has sent headers for the stream. Asking
// for them commits gRPC to the attempt, which the headers themselves do as well,
// and ends a stream that ends without any, as if its caller had been reading.
func awaitHeader(cs grpc.ClientStream, hooks []scoped[func()]) {
	if md, err := cs.Header(); err != nil || md == nil {
		return
	}
	for _, h := range hooks {
		h.value()
	}
}

func (s *chainedStream) current() *streamAttempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempt
}

// replayable tells whether another stream can stand in for the one that
// failed: all that the caller sent is at hand and it has seen nothing yet. On
// streams of requests only the failure to open one can be made good.
func (s *chainedStream) replayable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.committed && !s.desc.ClientStreams
}

func (s *chainedStream) commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = true
}

func (s *chainedStream) SendMsg(m any) error {
	a := s.current()
	if err := run(a.send, m); err != nil {
		return s.refuse(a, err)
	}
	if !s.desc.ClientStreams {
		s.request.Lock()
		defer s.request.Unlock()
		s.first = m
		a = s.current()
	}
	err := a.SendMsg(m)
	if err == nil {
		s.r.call.sent.Add(1)
	} else if err != io.EOF {
		s.commit() // the caller gives up
	}
	return s.r.fromRPC(err)
}

func (s *chainedStream) CloseSend() error { return s.current().CloseSend() }

func (s *chainedStream) RecvMsg(m any) error {
	for {
		a := s.current()
		select {
		case <-s.done:
			return s.outcome()
		default:
		}
		a.receiving.Store(true)
		err := a.RecvMsg(m)
		a.receiving.Store(false)
		if err == nil {
			return s.received(a, m)
		}
		if err == io.EOF {
			a.end(nil)
		} else {
			a.end(s.r.fromRPC(err))
		}
		if !s.again(a) {
			return s.outcome()
		}
	}
}

// received delivers m to the caller.
func (s *chainedStream) received(a *streamAttempt, m any) error {
	s.commit()
	s.r.call.received.Add(1)
	if err := run(a.receive, m); err != nil {
		return s.refuse(a, err)
	}
	if s.desc.ServerStreams {
		return nil
	}
	a.end(nil)
	if err := s.outcome(); err != io.EOF {
		return err
	}
	return nil
}

// again waits for what the chain makes of the end of a, and tells whether it
// opened another stream.
func (s *chainedStream) again(a *streamAttempt) bool {
	for s.current() == a {
		select {
		case <-s.done:
			return false
		case <-s.opened:
		}
	}
	return true
}

// refuse ends the call with the error of a hook.
func (s *chainedStream) refuse(a *streamAttempt, err error) error {
	s.commit()
	a.end(s.r.fromRPC(err))
	s.cancel()
	return s.outcome()
}

// Header waits for the server's headers, as grpc.ClientStream says.
func (s *chainedStream) Header() (md metadata.MD, err error) {
	md, err = s.current().Header()
	return md, s.r.fromRPC(err)
}

func (s *chainedStream) Trailer() metadata.MD { return s.current().Trailer() }

func (s *chainedStream) Context() context.Context { return s.current().Context() }
