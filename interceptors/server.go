package interceptors

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	otelpropagation "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// ServerOptions returns the options that install the suite on a server: one
// span, one duration point and one access log record per call, request id,
// typed errors and panic recovery, and inside of that the interceptors among
// opts, in their order.
//
//	grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(logger))...)
//
// Use them once per server. Interceptors that are given to grpc itself beside
// them, with [grpc.ChainUnaryInterceptor] and so on, run inside the suite when
// they come later in the list of options.
func ServerOptions(opts ...ServerOption) []grpc.ServerOption {
	c := config{exceptions: exceptionSignalsFromEnv()}
	for _, o := range opts {
		if o != nil {
			o.applyServer(&c)
		}
	}
	s := &server{newEngine(c, ServerSide)}
	options := []grpc.ServerOption{
		grpc.StatsHandler(serverStats{s}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	}
	if s.otelgrpc {
		// Behind ours, which has something to add before a span ends.
		options = append(options, grpc.StatsHandler(s.otelgrpcHandler()))
	}
	return options
}

type server struct{ *engine }

// serverStats sees what no interceptor sees: requests that are refused before
// one runs, unknown methods, and the moment a call has really ended.
//
// Events come in the order TagRPC, InHeader, Begin, InPayload ... End. An
// unknown method has no Begin and no End, only OutTrailer (rule 5), so that a
// call is taken up at Begin, or at OutTrailer where there was none.
type serverStats struct{ *server }

var _ stats.Handler = serverStats{}

func (serverStats) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connectionKey{}, newConnection(info.LocalAddr, info.RemoteAddr))
}

// connection is a server's, with its addresses formatted once for all calls.
type connection struct{ local, peer string }

type connectionKey struct{}

func newConnection(local, peer net.Addr) *connection {
	var c connection
	if local != nil {
		c.local = local.String()
	}
	if peer != nil {
		c.peer = peer.String()
	}
	return &c
}

func (serverStats) HandleConn(context.Context, stats.ConnStats) {}

func (s serverStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	growStack(s.engine == nil)
	r := &rpc{Context: ctx}
	r.call.FullMethod, r.call.m = info.FullMethodName, s.others[Unary]
	r.peer, _ = ctx.Value(connectionKey{}).(*connection) // an http.Server tells of none
	return r
}

func (s serverStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	r := rpcFromContext(ctx, ServerSide)
	if r == nil || r.engine() != s.engine {
		return // another handler's TagRPC lost our context
	}
	switch event := event.(type) {
	case *stats.InHeader:
		if r.peer == nil {
			r.peer = newConnection(event.LocalAddr, event.RemoteAddr)
		}
		s.receive(r, incoming(event.Header))
	case *stats.Begin:
		r.call.Kind = kindOf(event.IsClientStream, event.IsServerStream)
		r.call.start = event.BeginTime
		s.begin(ctx, r, true)
	case *stats.InPayload:
		r.message(ctx, message{received: true, id: r.call.received.Add(1), size: event.Length, compressed: event.CompressedLength})
	case *stats.OutPayload:
		r.message(ctx, message{id: r.call.sent.Add(1), size: event.Length, compressed: event.CompressedLength})
	case *stats.OutTrailer:
		if r.call.start.IsZero() {
			s.refuseUnknown(ctx, r)
		}
	case *stats.End:
		s.finished(r, event.Error)
	}
}

// receive takes over what the caller sent.
func (s *server) receive(r *rpc, header incoming) {
	foreign, own := s.propagators()
	r.extract(own, header)
	if foreign != nil {
		r.extract(foreign, header)
	}
	if r.id() == "" {
		r.Context = propagation.ContextWithRequestID(r.Context, propagation.NewRequestID())
		r.minted = true
	}
	r.previous = header.previousAttempts()
}

// extract is the propagator's Extract. Where that panics the call comes without.
func (r *rpc) extract(p otelpropagation.TextMapPropagator, header incoming) {
	defer survive(brokenPropagator, &r.call)
	r.Context = p.Extract(r.Context, header)
}

// begin starts the span. events is the context that the stats handlers share;
// otelgrpc's span is in it.
func (s *server) begin(events context.Context, r *rpc, known bool) {
	if s.otelgrpc {
		r.Context, r.spanned = trace.ContextWithSpan(r.Context, trace.SpanFromContext(events)), true
	}
	r.call.m = s.others[r.call.Kind]
	if known {
		// Only bidi methods can be those of a grpc.UnknownServiceHandler.
		if m := s.method(r, r.call.Kind == BidiStream); m != nil {
			r.call.m = m
		}
	}
	r.begin()
	if s.otelgrpc {
		r.call.ctx = events
	}
}

// method returns what all calls of r's method have in common, nil where there is
// no room for another one. doubtful says that a peer may have made it up.
func (s *server) method(r *rpc, doubtful bool) *method {
	return s.methods.get(methodKey{r.call.FullMethod, r.call.Kind, r.peer.local}, doubtful, func() *method {
		return newMethod(s.engine, strings.TrimPrefix(r.call.FullMethod, "/"), r.call.Kind, serverAddress(r.peer.local))
	})
}

// refuseUnknown observes a call of a method that the server does not have; grpc
// has refused it already.
func (s *server) refuseUnknown(ctx context.Context, r *rpc) {
	r.call.start = time.Now()
	s.begin(ctx, r, false)
	r.end(codes.Unimplemented, "unknown method", nil)
}

// finished ends the call with what went over the wire.
func (s *server) finished(r *rpc, err error) {
	if r.exited {
		r.end(codes.Internal, "handler exited", r.failure())
		return
	}
	st := status.Convert(err)
	if r.failure() == nil && err != nil {
		r.own = err // refused before the interceptors
	}
	r.end(st.Code(), st.Message(), r.failure())
}

func (s *server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	r := rpcFromContext(ctx, ServerSide)
	if r == nil || r.engine() != s.engine {
		return handler(ctx, req)
	}
	returned := false
	defer func() {
		if !returned {
			err = r.recovered(recover())
		}
		if err = s.reply(ctx, r, err); err != nil {
			resp = nil
		}
	}()
	r.call.ctx = ctx
	if len(s.chain) == 0 {
		resp, err = handler(ctx, req)
	} else {
		resp, err = s.unaryChain(ctx, r, req, handler)
	}
	returned = true
	return resp, err
}

func (s *server) unaryChain(ctx context.Context, r *rpc, req any, handler grpc.UnaryHandler) (any, error) {
	call := &r.call
	call.Request = req
	err := walk(ctx, s.chain, call, func(ctx context.Context) error {
		if err := run(call.receiveHooks(), call.Request); err != nil {
			return err
		}
		resp, err := handler(ctx, call.Request)
		if err != nil {
			return err
		}
		call.Response, r.own = resp, resp
		return run(call.sendHooks(), resp)
	})
	if err == nil {
		err = call.answers(r.own)
	}
	r.own = nil
	return call.Response, err
}

// answers tells whether Response is a reply of the method's: of the type of the
// handler's, if there is one, else of the one that the method's descriptor names.
func (c *Call) answers(handlers any) error {
	switch {
	case c.Response == nil:
		return errNoReply(c)
	case reflect.TypeOf(c.Response) == reflect.TypeOf(handlers):
		return nil
	}
	message, ok := c.Response.(proto.Message)
	want := fmt.Sprintf("%T", handlers)
	if handlers == nil {
		name, known := outputOf(c)
		if !ok || !known || message.ProtoReflect().Descriptor().FullName() == name {
			return nil // what is no message the codec judges
		}
		want = string(name)
	} else if m, both := handlers.(proto.Message); ok && both && m.ProtoReflect().Descriptor().FullName() == message.ProtoReflect().Descriptor().FullName() {
		return nil
	}
	return errors.Internal(fmt.Errorf("interceptors: %s: Call.Response is %T; want %s", c.FullMethod, c.Response, want))
}

// outputOf is the type of the method's replies, if the method is known.
func outputOf(c *Call) (name protoreflect.FullName, known bool) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(c.Service() + "." + c.Method()))
	if err != nil {
		return "", false
	}
	method, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return "", false
	}
	return method.Output().FullName(), true
}

func errNoReply(call *Call) error {
	return errors.Internal(errors.New("interceptors: " + call.FullMethod + ": an interceptor returned nil without calling next and without setting Call.Response"))
}

func errNoStream(call *Call) error {
	return errors.Internal(errors.New("interceptors: " + call.FullMethod + ": an interceptor returned nil without calling next, or after a panic in it: a stream cannot be answered without one"))
}

func (s *server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := ss.Context()
	r := rpcFromContext(ctx, ServerSide)
	if r == nil || r.engine() != s.engine {
		return handler(srv, ss)
	}
	answered := &answeredStream{ServerStream: ss}
	returned := false
	defer func() {
		if !returned {
			err = r.recovered(recover())
		} else {
			err = answered.outcome(err)
		}
		err = s.reply(ctx, r, err)
	}()
	r.call.ctx = ctx
	if srv != nil && r.call.m == s.others[r.call.Kind] {
		// One of the server's own that was first called when strangers had made
		// up too many: it has its name from the next call on.
		s.method(r, false)
	}
	if len(s.chain) == 0 {
		err = handler(srv, answered)
	} else {
		var last *serverStream
		err = walk(ctx, s.chain, &r.call, func(ctx context.Context) error {
			if last != nil && (r.call.Sent()+r.call.Received() > 0 || answered.answer.Load() != nil) {
				return last.err // a message that went by cannot be had again, nor can a status
			}
			wrapped := &serverStream{ServerStream: answered, ctx: ctx, call: &r.call}
			wrapped.err = answered.outcome(s.handle(ctx, r, srv, wrapped, answered, handler))
			if wrapped.err == nil {
				// What a hook refused ends the call even when the handler did not care.
				wrapped.err = wrapped.hook.get()
			}
			last = wrapped
			return wrapped.err
		})
		if err == nil && last == nil {
			err = errNoStream(&r.call)
		}
	}
	returned = true
	return err
}

func (s *server) handle(ctx context.Context, r *rpc, srv any, ss grpc.ServerStream, answered *answeredStream, handler grpc.StreamHandler) error {
	defer s.obey(ctx, r, answered)()
	return handler(srv, ss)
}

// reply makes the status that the caller gets of err, and tells the caller the
// request id: always where the call failed, else where it cannot know it (rule
// 19).
func (s *server) reply(ctx context.Context, r *rpc, err error) error {
	if r.exited {
		return err // there is nobody to return to
	}
	if err == nil {
		if !r.minted {
			return nil
		}
		md := metadata.MD{propagation.RequestIDHeader: {r.id()}}
		// Both fail only when there is no one left to tell.
		if r.call.Kind == Unary {
			_ = grpc.SetHeader(ctx, md)
		} else {
			_ = grpc.SetTrailer(ctx, md)
		}
		return nil
	}
	st := r.convert(ctx, err)
	if st.Code() == codes.Canceled && r.gaveUp(ctx) {
		st = r.convert(ctx, fmt.Errorf("%w: %v", context.DeadlineExceeded, err))
	}
	_ = grpc.SetTrailer(ctx, metadata.MD{propagation.RequestIDHeader: {r.id()}})
	return st.Err()
}

// gaveUp tells whether the caller cancelled the call because its deadline had
// passed. A client that keeps a deadline resets the stream when it has passed, and
// that is here about when the server's own timer, which began with the request's
// arrival, goes off: mostly a moment before.
func (r *rpc) gaveUp(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	if !ok || ctx.Err() != context.Canceled {
		return false
	}
	moment := max(deadline.Sub(r.call.start)/100, 2*time.Millisecond)
	return time.Until(deadline) < moment
}

// serverStream gives the handler the context and the hooks of the chain. It is
// made anew for every call of next.
type serverStream struct {
	grpc.ServerStream
	ctx  context.Context
	call *Call
	hook hookError
	err  error // what next returned
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendMsg(m any) error {
	if err := run(s.call.sendHooks(), m); err != nil {
		return s.hook.set(err)
	}
	return s.ServerStream.SendMsg(m)
}

func (s *serverStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := run(s.call.receiveHooks(), m); err != nil {
		return s.hook.set(err)
	}
	return nil
}
