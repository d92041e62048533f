package interceptors

import (
	"io"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/errors"
)

// answeredStream notices when gRPC ends a server's stream by itself: when a
// message cannot be sent or read the status of that goes out at once, if there
// is still a caller, and what the handler returns later is not sent any more.
type answeredStream struct {
	grpc.ServerStream
	answer atomic.Pointer[error]
}

func (s *answeredStream) SendMsg(m any) error { return s.note(s.ServerStream.SendMsg(m)) }

func (s *answeredStream) RecvMsg(m any) error { return s.note(s.ServerStream.RecvMsg(m)) }

// note keeps the first error that was a status.
func (s *answeredStream) note(err error) error {
	if err != nil && err != io.EOF {
		s.endWith(err)
	}
	return err
}

// endWith says whether err is the first one.
func (s *answeredStream) endWith(err error) bool {
	return s.answer.CompareAndSwap(nil, &err)
}

// outcome is how the call ended when the handler returned err. Where that says
// the same it says more.
func (s *answeredStream) outcome(err error) error {
	if answer := s.answer.Load(); answer != nil && errors.Code(err) != errors.Code(*answer) {
		return *answer
	}
	return err
}
