package interceptors

import (
	"io"

	"google.golang.org/grpc"
)

// clientStream is a stream without interceptors around it. It ends with the
// first of: opening it failed, gRPC says that it finished (which covers a done
// context and a closed connection when nobody reads), RecvMsg said so, or the
// one reply of a method without server streaming has come (rule 1).
type clientStream struct {
	grpc.ClientStream
	r             *rpc
	serverStreams bool
}

func newClientStream(r *rpc, desc *grpc.StreamDesc, open opener, opts []grpc.CallOption) (grpc.ClientStream, error) {
	onFinish := grpc.OnFinish(func(err error) {
		if err == nil && !desc.ServerStreams {
			r.call.received.Store(1) // without its reply the call would have failed
		}
		r.settle(err)
		r.endWith(r.fromRPC(err))
	})
	cs, err := open(r, append(opts[:len(opts):len(opts)], onFinish))
	if err != nil {
		err = r.fromRPC(err)
		r.endWith(err)
		return nil, err
	}
	return &clientStream{cs, r, desc.ServerStreams}, nil
}

// fromRPC makes a typed error of what gRPC returned; nil and io.EOF stay.
func (r *rpc) fromRPC(err error) error { return r.engine().converter.FromRPC(r, err) }

func (s *clientStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err == nil {
		s.r.call.sent.Add(1)
		return nil
	}
	// io.EOF is not the status: that comes from RecvMsg (rule 2). Any other
	// error has finished the stream.
	return s.r.fromRPC(err)
}

func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		if s.serverStreams {
			s.r.call.received.Add(1)
		} else {
			s.r.endWith(nil)
		}
		return nil
	case err == io.EOF:
		s.r.endWith(nil)
		return err
	}
	err = s.r.fromRPC(err)
	s.r.endWith(err)
	return err
}
