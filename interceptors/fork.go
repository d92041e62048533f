package interceptors

import (
	"context"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// fork is an attempt at a unary call that runs beside others. It has a Call, a
// reply and targets of call options of its own, so that nothing is written by
// two.
type fork struct {
	rpc
	of *Call

	header, trailer metadata.MD
	peer            peer.Peer
}

// fork returns another attempt at the call; its rpc is the context to run it
// with.
func (c *Call) fork(ctx context.Context) *fork {
	f := &fork{of: c}
	f.Context = ctx
	f.call.FullMethod, f.call.Kind, f.call.Side, f.call.depth = c.FullMethod, c.Kind, c.Side, c.depth
	f.call.Request, f.call.start, f.call.m, f.call.ctx = c.Request, c.start, c.m, ctx
	f.call.added = &added{options: c.added.options[:len(c.added.options):len(c.added.options)], fork: f, overrides: c.added.overrides, deadline: c.added.deadline}
	if r := rpcFromContext(ctx, c.Side); r != nil {
		f.own, f.observed = r.own, r.observed
		if r.tries != nil {
			f.tries = new(tries)
		}
	}
	return f
}

// forkIn is the fork of c that ctx belongs to, if there are any.
func (c *Call) forkIn(ctx context.Context) *fork {
	if !c.hedged {
		return nil
	}
	r := rpcFromContext(ctx, c.Side)
	if r == nil || r.call.added == nil {
		return nil
	}
	if f := r.call.added.fork; f != nil && f.of == c {
		return f
	}
	return nil
}

func (c *Call) isFork() bool { return c.added != nil && c.added.fork != nil }

// attempted is the Call of the attempt that ctx belongs to: c, or a fork's.
func (c *Call) attempted(ctx context.Context) *Call {
	if f := c.forkIn(ctx); f != nil {
		return &f.call
	}
	return c
}

// targets are a reply and call options that fill nothing of the caller's.
func (f *fork) targets(reply any, opts []grpc.CallOption) (any, []grpc.CallOption) {
	own := make([]grpc.CallOption, 0, len(opts))
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption:
			o = grpc.Header(&f.header)
		case grpc.TrailerCallOption:
			o = grpc.Trailer(&f.trailer)
		case grpc.PeerCallOption:
			o = grpc.Peer(&f.peer)
		case grpc.OnFinishCallOption:
			continue // the call ends once
		}
		own = append(own, o)
	}
	if !fillable(reply) {
		return reply, own
	}
	if message, ok := reply.(proto.Message); ok {
		return message.ProtoReflect().New().Interface(), own
	}
	return reflect.New(reflect.TypeOf(reply).Elem()).Interface(), own
}

// fillable tells whether there is something to read a reply into. What to say
// where there is not is gRPC's.
func fillable(reply any) bool {
	v := reflect.ValueOf(reply)
	return v.Kind() == reflect.Pointer && !v.IsNil()
}

// tell fills the targets of the caller's options; f is the attempt that counts,
// nil where there was none.
func (f *fork) tell(opts []grpc.CallOption, err error) {
	if f == nil {
		f = new(fork)
	}
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = f.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = f.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = f.peer
		case grpc.OnFinishCallOption:
			o.OnFinish(err)
		}
	}
}

// freshen makes what an attempt may have written as it was before it: the next
// one may fail before it writes anything.
func freshen(reply any, opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = nil
		case grpc.TrailerCallOption:
			*o.TrailerAddr = nil
		case grpc.PeerCallOption:
			*o.PeerAddr = peer.Peer{}
		}
	}
	if !fillable(reply) {
		return
	}
	if message, ok := reply.(proto.Message); ok {
		proto.Reset(message)
	} else {
		reflect.ValueOf(reply).Elem().SetZero()
	}
}
