package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/propagation"
)

// statusWriter is what grpc's own transports have: the status is sent, and
// whoever waits for a message or for room to send one is woken up.
type statusWriter interface {
	WriteStatus(*status.Status) error
}

// obey makes a stream end when ctx does, which is the one that the interceptors
// gave to next: gRPC knows only its own, so that a handler which waits for a
// message would wait on. The caller gets the cause of ctx's end as its status.
// The function returned is called when the handler has returned.
//
// It starts no goroutine and costs nothing where nobody derived a context that
// can end by itself. The handler is not left behind: its next SendMsg or RecvMsg
// fails. Under a transport that is not grpc's own it has to watch its context.
func (s *server) obey(ctx context.Context, r *rpc, stream *answeredStream) (handled func()) {
	own := stream.ServerStream.Context()
	if ctx.Done() == own.Done() {
		return func() {}
	}
	transport, ok := grpc.ServerTransportStreamFromContext(own).(statusWriter)
	if !ok {
		return func() {}
	}
	end := func() {
		if own.Err() != nil {
			return // gRPC has ended it
		}
		st, _, failure := s.convert(ctx, context.Cause(ctx))
		if stream.endWith(failure) {
			_ = grpc.SetTrailer(own, metadata.MD{propagation.RequestIDHeader: {r.id()}})
			_ = transport.WriteStatus(st)
		}
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		end()
	})
	return func() {
		switch {
		case !stop():
			<-over // what went out is what the call ended with
		case ctx.Err() != nil:
			end() // the handler has noticed sooner than the function
		}
	}
}
