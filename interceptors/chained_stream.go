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
// While the caller has seen no message and no headers, the chain may call next again:
// another stream is opened behind the caller's back.
type chainedStream struct {
	r      *rpc
	desc   *grpc.StreamDesc
	open   opener
	opts   []grpc.CallOption
	finish onFinish
	cancel context.CancelFunc

	done chan struct{} // the chain has returned: final and panicked are set

	final    error // what the caller gets at the end; io.EOF for OK
	panicked any

	mu        sync.Mutex
	changed   sync.Cond      // of attempt and returned
	attempt   *streamAttempt // the current one
	committed bool           // the caller has seen something of it
	abandoned bool           // the chain has called next again; there may be no stream for that yet
	returned  bool           // done is closed

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

func (a *streamAttempt) isOver() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

func newChainedStream(r *rpc, chain []Interceptor, desc *grpc.StreamDesc, open opener, opts []grpc.CallOption) (grpc.ClientStream, error) {
	s := &chainedStream{r: r, desc: desc, open: open, done: make(chan struct{})}
	s.changed.L = &s.mu
	s.opts, s.finish = splitOnFinish(opts)
	r.call.override(opts)
	ctx, cancel := context.WithCancel(context.WithValue(r, chainedKey{}, s))
	s.cancel = cancel
	go s.run(ctx, chain)
	if !s.again(nil) {
		return nil, s.outcome()
	}
	select {
	case <-s.done:
		if s.panicked != nil {
			return nil, s.outcome()
		}
	default:
	}
	return s, nil
}

// chainedKey finds the stream in the context of its chain.
type chainedKey struct{}

// run is the chain's goroutine.
func (s *chainedStream) run(ctx context.Context, chain []Interceptor) {
	defer s.end()
	defer s.cancel()
	returned := false
	defer func() {
		if !returned {
			s.panicked = recover()
			s.r.panicked = s.panicked != nil
			s.final = errors.Internal(errPanicked)
			s.r.endWith(s.final)
			s.finish.tell(s.final)
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
	s.finish.tell(err)
	returned = true
}

func (s *chainedStream) end() {
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returned = true
	s.changed.Broadcast()
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
	a, err := s.replace(ctx)
	s.request.Unlock()
	if err != nil {
		return inTime(ctx, err)
	}
	<-a.over
	if a.finished.Load() {
		s.r.call.header, s.r.call.trailer = a.header, a.trailer
	}
	return inTime(ctx, a.err)
}

// replace makes a new attempt the current one, if there may be one.
func (s *chainedStream) replace(ctx context.Context) (*streamAttempt, error) {
	if last := s.current(); last != nil && !s.abandon() {
		return last, nil
	}
	if s.first != nil {
		if err := run(s.r.call.sendHooks(), s.first); err != nil {
			return nil, err
		}
	}
	a, err := s.openAttempt(ctx)
	if err != nil {
		return nil, err
	}
	if s.first != nil {
		// What fails here shows when the caller receives.
		_ = a.SendMsg(s.first)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt, s.abandoned = a, false
	s.changed.Broadcast()
	return a, nil
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

// abandon gives up the current attempt, unless it is one that must stay.
func (s *chainedStream) abandon() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed || s.desc.ClientStreams {
		return false
	}
	s.abandoned = true
	return true
}

func (s *chainedStream) commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = true
}

// commitTo shows the caller something of a, unless that was given up.
func (s *chainedStream) commitTo(a *streamAttempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt != a || s.abandoned {
		return false
	}
	s.committed = true
	return true
}

func (s *chainedStream) SendMsg(m any) error {
	a, refused, err := s.send(m)
	switch {
	case refused != nil:
		return s.refuse(a, refused)
	case err == nil:
		s.r.call.sent.Add(1)
	case err != io.EOF:
		s.commit() // the caller gives up
	}
	return s.r.fromRPC(err)
}

// send sends m in the current attempt, which for the one request of a server stream
// stays the same meanwhile; or says what a hook has against it.
func (s *chainedStream) send(m any) (a *streamAttempt, refused, err error) {
	if !s.desc.ClientStreams {
		s.request.Lock()
		defer s.request.Unlock()
	}
	a = s.current()
	if refused = run(a.send, m); refused != nil {
		return a, refused, nil
	}
	if !s.desc.ClientStreams {
		s.first = m
	}
	return a, nil, a.SendMsg(m)
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
		switch {
		case err == nil && s.commitTo(a):
			return s.received(a, m)
		case err == io.EOF:
			a.end(nil)
		case err != nil:
			a.end(s.r.fromRPC(err))
		}
		if !s.again(a) {
			return s.outcome()
		}
	}
}

// received delivers m, of an attempt that stays, to the caller.
func (s *chainedStream) received(a *streamAttempt, m any) error {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.attempt == a && !s.returned {
		s.changed.Wait()
	}
	return s.attempt != a
}

// refuse ends the call with the error of a hook.
func (s *chainedStream) refuse(a *streamAttempt, err error) error {
	s.commit()
	a.end(s.r.fromRPC(err))
	s.cancel()
	return s.outcome()
}

// Header waits for the server's headers, as grpc.ClientStream says: those of the
// attempt that the caller gets the messages of, which their delivery makes the last.
func (s *chainedStream) Header() (metadata.MD, error) {
	for {
		a := s.current()
		md, err := a.Header()
		if err != nil || md != nil && !a.isOver() && s.commitTo(a) {
			return md, s.r.fromRPC(err)
		}
		if s.again(a) {
			continue
		}
		if !s.commitTo(a) { // there was another attempt, which got no stream
			md = nil
		}
		return md, nil
	}
}

// Trailer is that of the last attempt, if it had a stream.
func (s *chainedStream) Trailer() metadata.MD {
	a := s.current()
	if !s.commitTo(a) {
		return nil
	}
	return a.Trailer()
}

// Context is that of the current attempt, which it makes the last, as in gRPC.
func (s *chainedStream) Context() context.Context {
	a := s.current()
	s.commitTo(a)
	return a.Context()
}
