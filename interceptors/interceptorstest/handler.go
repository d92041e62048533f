package interceptorstest

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// peer is what a handler of any kind talks to.
type peer interface {
	context() context.Context
	receive() (any, error)
	send(proto.Message) error
}

// serve is the handler.
func (r *record) serve(p peer) error {
	v := r.begin()
	if v.code != codes.OK && !r.ending.midStream {
		return failure(v.code)
	}
	for n := 1; ; n++ {
		m, err := p.receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		r.note(func() { v.got = append(v.got, m) })
		if n == 1 && (r.ending.midStream || r.ending.panics || r.ending.stop != never) {
			return r.interrupt(p, v)
		}
		if r.kind == interceptors.BidiStream {
			if err := r.answer(p, v, n); err != nil {
				return err
			}
		}
	}
	if r.kind == interceptors.BidiStream {
		return nil
	}
	for n := range r.replies() {
		if err := r.answer(p, v, n+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) begin() *service {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &service{code: r.code}
	if r.ending.failsOnce && len(r.services) > 0 {
		v.code = codes.OK
	}
	r.services = append(r.services, v)
	return v
}

// interrupt is what happens in the middle of a call.
func (r *record) interrupt(p peer, v *service) error {
	if r.kind == interceptors.ServerStream || r.kind == interceptors.BidiStream {
		if err := r.answer(p, v, 1); err != nil {
			return err
		}
	}
	switch {
	case r.ending.panics && r.side == interceptors.ServerSide:
		panic(thePanic)
	case r.ending.stop != never:
		r.once(r.reached)
		select {
		case <-p.context().Done():
			return p.context().Err()
		case <-r.release:
			return errors.Internal(errors.New("interceptorstest: nobody stopped the handler"))
		}
	case v.code != codes.OK:
		return failure(v.code)
	}
	if r.kind == interceptors.Unary || r.kind == interceptors.ClientStream {
		return r.answer(p, v, 1)
	}
	return nil
}

func (r *record) answer(p peer, v *service, n int) error {
	err := p.send(number(r.s.reply, n))
	if err == nil {
		r.note(func() { v.sent++ })
	}
	return err
}

func (w *world) handle(p peer) error {
	r := p.context().Value(recordKey{}).(*record)
	if w.gate != nil {
		w.gate.arrive(r)
	}
	return r.serve(p)
}

// unaryPeer is a unary call as a stream of one request and one reply.
type unaryPeer struct {
	ctx     context.Context
	request any
	reply   proto.Message
	taken   bool
}

func (p *unaryPeer) context() context.Context { return p.ctx }

func (p *unaryPeer) receive() (any, error) {
	if p.taken {
		return nil, io.EOF
	}
	p.taken = true
	if m, ok := p.request.(proto.Message); ok {
		return proto.Clone(m), nil
	}
	return p.request, nil
}

func (p *unaryPeer) send(m proto.Message) error {
	p.reply = m
	return nil
}

type streamPeer struct {
	grpc.ServerStream
	s *suite
}

func (p streamPeer) context() context.Context { return p.Context() }

func (p streamPeer) receive() (any, error) {
	m := blank(p.s.request)
	if err := p.RecvMsg(m); err != nil {
		return nil, err
	}
	return take(m), nil
}

func (p streamPeer) send(m proto.Message) error { return p.SendMsg(m) }

// messages is how many a stream has in each direction.
const messages = 3

func (r *record) requests() int {
	if r.kind == interceptors.ClientStream || r.kind == interceptors.BidiStream {
		return messages
	}
	return 1
}

func (r *record) replies() int {
	if r.kind == interceptors.ServerStream || r.kind == interceptors.BidiStream {
		return messages
	}
	return 1
}

// failure is what a handler fails with: an error with all that an interceptor
// might lose.
func failure(code codes.Code) error {
	return errors.Coded(code, "this error is part of the test").WithReason("interceptorstest", "PART_OF_THE_TEST")
}
