package interceptors

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	otelpropagation "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// DialOptions returns the options that install the suite on a client: one span,
// one duration point and one access log record per call however often gRPC
// retries it, trace context and request id carried along, statuses turned into
// typed errors, and inside of that the interceptors among opts, in their order.
//
//	grpc.NewClient(target, append(interceptors.DialOptions(), grpc.WithTransportCredentials(creds))...)
//
// The options may be used for several connections. Without interceptors of
// yours no call costs a goroutine; with them each stream has one until it ends.
func DialOptions(opts ...ClientOption) []grpc.DialOption {
	var c config
	for _, o := range opts {
		if o != nil {
			o.applyClient(&c)
		}
	}
	e := &client{engine: newEngine(c, ClientSide)}
	options := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(e.unary),
		grpc.WithChainStreamInterceptor(e.stream),
	}
	if e.watchesAttempts() {
		options = append(options, grpc.WithStatsHandler(clientStats{e}))
	}
	if e.otelgrpc {
		options = append(options, grpc.WithStatsHandler(e.otelgrpcHandler()))
	}
	return options
}

type client struct{ *engine }

// start begins a call: the request id that it will have, its span, its method.
func (c *client) start(ctx context.Context, cc *grpc.ClientConn, fullMethod string, kind Kind) *rpc {
	r := &rpc{own: cc}
	if c.watchesAttempts() {
		r.tries = new(tries)
	}
	r.call.FullMethod, r.call.Kind, r.call.Side = fullMethod, kind, ClientSide
	r.call.start = time.Now()

	// The application's own header comes before the context's id, and that
	// before a new one (rule 19).
	var id string
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		id = agreed(md[propagation.RequestIDHeader])
	}
	if id == "" && propagation.RequestID(ctx) == "" {
		id = propagation.NewRequestID()
	}
	r.Context = propagation.ContextWithRequestID(ctx, id) // as it is, if there is nothing to change

	target := cc.Target()
	r.call.m = c.methods.get(methodKey{fullMethod, kind, target}, false, func() *method {
		canonical := cc.CanonicalTarget()
		m := newMethod(c.engine, strings.TrimPrefix(fullMethod, "/"), kind, targetAddress(canonical))
		m.target = canonical
		return m
	})
	if r.call.m == nil {
		r.call.m = c.others[kind]
	}
	r.begin()
	return r
}

// agreed returns the one valid id that ids are, or nothing.
func agreed(ids []string) string {
	if len(ids) == 0 || !propagation.ValidRequestID(ids[0]) {
		return ""
	}
	for _, id := range ids[1:] {
		if id != ids[0] {
			return ""
		}
	}
	return ids[0]
}

// sendable returns the context that gRPC is called with: everything that
// travels is in its metadata, unless that is to be set for each attempt.
func (r *rpc) sendable(ctx context.Context) context.Context {
	ctx = r.call.counted(ctx)
	switch {
	case r.spanPerAttempt():
		return ctx
	case r.engine().otelgrpc:
		ctx = propagation.ContextWithDestination(ctx, r.call.m.target, r.call.FullMethod, r.engine().external)
	}
	return r.outgoing(ctx)
}

// outgoing returns ctx with everything that travels with the call in its
// metadata. It is applied to the context that the chain gives to each attempt,
// so nothing is sent twice.
func (r *rpc) outgoing(ctx context.Context) context.Context {
	foreign, own := r.engine().propagators()
	carrier := outgoings.Get().(*outgoing)
	*carrier = outgoing{target: r.call.m.target, method: r.call.FullMethod, external: r.engine().external, foreign: foreign != nil}
	carrier.app, _ = metadata.FromOutgoingContext(ctx)
	r.inject(ctx, own, carrier)
	if foreign != nil {
		r.inject(ctx, foreign, carrier) // and who knows what it keeps
		return carrier.context(ctx)
	}
	ctx = carrier.context(ctx)
	*carrier = outgoing{}
	outgoings.Put(carrier)
	return ctx
}

// inject is the propagator's Inject. Where that panics the call goes without.
func (r *rpc) inject(ctx context.Context, p otelpropagation.TextMapPropagator, carrier *outgoing) {
	defer survive(brokenPropagator, &r.call)
	p.Inject(ctx, carrier)
}

// brokenPropagator is what panicked where a call goes or comes without what travels
// with it.
const brokenPropagator = "WithPropagator: the propagator"

// endWith ends the call with err as the caller gets it.
func (r *rpc) endWith(err error) {
	if err == nil {
		r.end(codes.OK, "", nil)
		return
	}
	r.end(errors.Code(err), errors.Message(err), err)
}

func (c *client) unary(ctx context.Context, fullMethod string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) (err error) {
	r := c.start(ctx, cc, fullMethod, Unary)
	returned := false
	defer func() {
		if !returned { // a panic goes on to the caller, but not unseen
			r.panicked = true
			err = errors.Internal(errPanicked)
		}
		r.endWith(err)
	}()
	if len(c.chain) == 0 {
		err = c.invoke(r, r, req, reply, cc, invoker, opts)
	} else {
		err = c.unaryChain(r, req, reply, cc, invoker, opts)
	}
	returned = true
	return err
}

var errPanicked = errors.New("interceptors: left by a panic or runtime.Goexit")

func (c *client) invoke(ctx context.Context, r *rpc, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	if ctx.Err() == nil {
		r.call.sent.Store(1)
	}
	err := invoker(r.sendable(ctx), r.call.FullMethod, req, reply, cc, opts...)
	r.settle(err)
	if err != nil {
		return c.converter.FromRPC(ctx, err)
	}
	r.call.received.Store(1)
	return nil
}

func (c *client) unaryChain(r *rpc, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) (err error) {
	call := &r.call
	call.Request = req
	call.override(opts)
	opts, finish := splitOnFinish(opts)
	returned := false
	defer func() {
		if !returned {
			err = errors.Internal(errPanicked)
		}
		finish.tell(err)
	}()
	err = walk(r, c.chain, call, func(ctx context.Context) error {
		r, call, reply, opts := r, call, reply, opts
		if f := call.forkIn(ctx); f != nil {
			r, call = &f.rpc, &f.call
			reply, opts = f.targets(reply, opts)
		} else if call.repeated {
			freshen(reply, opts)
		}
		call.repeated = true
		if err := run(call.sendHooks(), call.Request); err != nil {
			return err
		}
		if err := c.invoke(ctx, r, call.Request, reply, cc, invoker, call.callOptions(opts, &call.header, &call.trailer)); err != nil {
			return err
		}
		call.Response = reply
		return run(call.receiveHooks(), reply)
	})
	if err == nil {
		err = fill(reply, call)
	}
	err = r.fromRPC(err)
	if call.hedged {
		call.added.winner.tell(opts, err)
	}
	returned = true
	return err
}

// onFinish are the caller's functions for the end of the call. gRPC, which takes each
// attempt for a call, is not told of them.
type onFinish []func(error)

// splitOnFinish returns opts without those functions, and these.
func splitOnFinish(opts []grpc.CallOption) ([]grpc.CallOption, onFinish) {
	is := func(o grpc.CallOption) bool { _, ok := o.(grpc.OnFinishCallOption); return ok }
	if !slices.ContainsFunc(opts, is) {
		return opts, nil
	}
	var finish onFinish
	for _, o := range opts {
		if o, ok := o.(grpc.OnFinishCallOption); ok {
			finish = append(finish, o.OnFinish)
		}
	}
	return slices.DeleteFunc(slices.Clone(opts), is), finish
}

// tell calls the functions, the first time.
func (f *onFinish) tell(err error) {
	all := *f
	*f = nil
	for _, finish := range all {
		finish(err)
	}
}

// callOptions are the caller's, those of the interceptors, and those with which
// header and trailer become what the server sent.
func (c *Call) callOptions(opts []grpc.CallOption, header, trailer *metadata.MD) []grpc.CallOption {
	all := append(make([]grpc.CallOption, 0, len(opts)+4), opts...)
	if c.added != nil {
		for _, o := range c.added.options {
			all = append(all, o.value)
		}
		all = yieldingTokens(c.ctx, all)
	}
	c.header, c.trailer = nil, nil
	return append(all, grpc.Header(header), grpc.Trailer(trailer))
}

// fill makes the caller's reply what the chain left in Call.Response.
func fill(reply any, call *Call) error {
	if same(call.Response, reply) {
		return nil
	}
	if call.Response == nil {
		return errNoReply(call)
	}
	want, got := reflect.TypeOf(reply), reflect.TypeOf(call.Response)
	if want != got || want.Kind() != reflect.Pointer || reflect.ValueOf(call.Response).IsNil() {
		return errors.Internal(fmt.Errorf("interceptors: %s: Call.Response is %T; want a non-nil %T", call.FullMethod, call.Response, reply))
	}
	if to, ok := reply.(proto.Message); ok {
		proto.Reset(to)
		proto.Merge(to, call.Response.(proto.Message))
		return nil
	}
	reflect.ValueOf(reply).Elem().Set(reflect.ValueOf(call.Response).Elem())
	return nil
}

// same tells whether a and b are one reply. What a codec may take and == panics
// for is compared by what it refers to, and what refers to nothing is the same.
func same(a, b any) bool {
	t := reflect.TypeOf(a)
	if t == nil || t != reflect.TypeOf(b) {
		return t == reflect.TypeOf(b)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return a == b
	case reflect.Map, reflect.Slice:
		return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
	}
	return true
}

func (c *client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, fullMethod string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	r := c.start(ctx, cc, fullMethod, kindOf(desc.ClientStreams, desc.ServerStreams))
	open := func(ctx context.Context, opts []grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(r.sendable(ctx), desc, cc, fullMethod, opts...)
	}
	if len(c.chain) > 0 {
		return newChainedStream(r, c.chain, desc, open, opts)
	}
	return newClientStream(r, desc, open, opts)
}

type opener func(ctx context.Context, opts []grpc.CallOption) (grpc.ClientStream, error)
