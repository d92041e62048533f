package interceptors

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Kind tells which of gRPC's four kinds of RPC a call is. The zero value is
// [Unary].
type Kind uint8

// The kinds of RPC, named after who streams.
const (
	Unary        Kind = iota // one request, one reply
	ClientStream             // many requests, one reply
	ServerStream             // one request, many replies
	BidiStream               // many of both, independently
)

var kindNames = [...]string{"unary", "client_stream", "server_stream", "bidi_stream"}

// String returns "unary", "client_stream", "server_stream" or "bidi_stream".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

func kindOf(clientStreams, serverStreams bool) Kind {
	switch {
	case clientStreams && serverStreams:
		return BidiStream
	case serverStreams:
		return ServerStream
	case clientStreams:
		return ClientStream
	}
	return Unary
}

// Side tells whether a call is seen by the server that handles it or by the
// client that makes it. The zero value is [ServerSide].
type Side uint8

// The two sides of a call.
const (
	ServerSide Side = iota
	ClientSide
)

// String returns "server" or "client".
func (s Side) String() string {
	switch s {
	case ServerSide:
		return "server"
	case ClientSide:
		return "client"
	}
	return fmt.Sprintf("Side(%d)", uint8(s))
}

// Call is one RPC as its interceptors see it. There is one Call per RPC and
// side, shared by every interceptor of the chain and by every attempt of a
// retry.
//
// The exported fields and the registering methods (AddCallOptions, OnSend,
// OnReceive) belong to the interceptor that is running: use them before next
// is called or after it returned. The counters and Start are safe for
// concurrent use. A Call that the engine did not make (a literal, in a test of
// an interceptor) works too: its counters are zero and it knows no peer.
type Call struct {
	// FullMethod is the method as it is on the wire: "/users.v1.UserService/GetUser".
	FullMethod string
	Kind       Kind
	Side       Side
	repeated   bool  // the transport was called already
	hedged     bool  // there are forks
	depth      int32 // how many interceptors are on the stack

	// Request is the request of a unary call; an interceptor may replace it
	// before it calls next. It is nil on streams, see [Call.OnSend] and
	// [Call.OnReceive].
	Request any

	// Response is the reply of a unary call, set when next has returned nil. An
	// interceptor may replace it with another of the same type, or set it without
	// calling next; the reply that a client's caller passed in is then filled from
	// it. One of another type ends the call with Internal. It is nil on streams.
	Response any

	start    time.Time
	m        *method // nil if the engine did not make the Call
	sent     atomic.Int64
	received atomic.Int64

	// Everything below belongs to the goroutine that runs the chain.
	ctx     context.Context // the innermost context the chain has reached
	added   *added          // nil while there is nothing
	header  metadata.MD
	trailer metadata.MD
}

// added is what interceptors registered. A call that lasts should not have to
// hold room for it.
type added struct {
	options []scoped[grpc.CallOption]
	send    []scoped[func(any) error]
	receive []scoped[func(any) error]
	header  []scoped[func()]

	attributes []attribute.KeyValue
	fork       *fork // what the Call is to the one that it is an attempt of
	winner     *fork // of a Call that is hedged: the attempt that counts
	overrides  overrides
	deadline   deadline // zero unless Timeout or MaxTimeout has seen the call
	anonymous  bool     // Authenticate has let the call happen without an identity
}

func (c *Call) add() *added {
	if c.added == nil {
		c.added = new(added)
	}
	return c.added
}

func (c *Call) sendHooks() []scoped[func(any) error] {
	if c.added == nil {
		return nil
	}
	return c.added.send
}

func (c *Call) receiveHooks() []scoped[func(any) error] {
	if c.added == nil {
		return nil
	}
	return c.added.receive
}

func (c *Call) headerHooks() []scoped[func()] {
	if c.added == nil {
		return nil
	}
	return c.added.header
}

// scoped is something an interceptor registered, with the depth it stood at:
// when an interceptor nearer to the caller calls next again, what deeper ones
// registered during the previous attempt is forgotten, as they will register
// it anew.
type scoped[T any] struct {
	depth int32
	value T
}

func forget[T any](s []scoped[T], depth int32) []scoped[T] {
	n := len(s)
	for n > 0 && s[n-1].depth > depth {
		n--
	}
	return s[:n:n] // what is registered next must not overwrite what a stream still uses
}

// enter is called when the interceptor at depth calls next with ctx.
func (c *Call) enter(ctx context.Context, depth int32) {
	c.ctx = ctx
	c.depth = depth
	if a := c.added; a != nil {
		a.options = forget(a.options, depth)
		a.send = forget(a.send, depth)
		a.receive = forget(a.receive, depth)
		a.header = forget(a.header, depth)
	}
}

// Service returns the fully qualified name of the service:
// "users.v1.UserService".
func (c *Call) Service() string {
	service, _ := splitMethod(c.FullMethod)
	return service
}

// Method returns the name of the method without its service: "GetUser".
func (c *Call) Method() string {
	_, method := splitMethod(c.FullMethod)
	return method
}

func splitMethod(fullMethod string) (service, method string) {
	name := strings.TrimPrefix(fullMethod, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// Target returns the canonical dial target of the client's connection, such as
// "dns:///users:50051". It is empty on a server.
func (c *Call) Target() string {
	if c.m == nil {
		return ""
	}
	return c.m.target
}

// Start returns when the call began.
func (c *Call) Start() time.Time { return c.start }

// Sent returns how many messages this side has sent so far, which is to say
// handed to gRPC. It is safe for concurrent use.
func (c *Call) Sent() int64 { return c.sent.Load() }

// Received returns how many messages this side has received so far. It is safe
// for concurrent use.
func (c *Call) Received() int64 { return c.received.Load() }

// Metadata returns a copy of the call's request metadata: on a server what the
// client sent, on a client what the application and the interceptors so far
// are about to send. To change what a client sends, give next a context made
// with [metadata.NewOutgoingContext] or [metadata.AppendToOutgoingContext].
func (c *Call) Metadata() metadata.MD {
	if c.ctx == nil {
		return nil
	}
	var md metadata.MD
	if c.Side == ServerSide {
		md, _ = metadata.FromIncomingContext(c.ctx)
	} else {
		md, _ = metadata.FromOutgoingContext(c.ctx)
	}
	return md
}

// SetHeader adds md to the headers that the server sends with its first
// message or with the status, whichever comes first. It fails once they have
// been sent, and on a client.
func (c *Call) SetHeader(md metadata.MD) error {
	if err := c.serverOnly("SetHeader"); err != nil {
		return err
	}
	return grpc.SetHeader(c.ctx, md)
}

// SetTrailer adds md to the trailers that the server sends with the status. It
// fails once they have been sent, and on a client.
func (c *Call) SetTrailer(md metadata.MD) error {
	if err := c.serverOnly("SetTrailer"); err != nil {
		return err
	}
	return grpc.SetTrailer(c.ctx, md)
}

func (c *Call) serverOnly(method string) error {
	if c.Side != ServerSide || c.ctx == nil {
		return fmt.Errorf("interceptors: Call.%s: %s is not being served here: a %s-side call has no %s to set", method, c.FullMethod, c.Side, strings.ToLower(method[len("Set"):]))
	}
	return nil
}

// Header returns the headers that the server sent: on a client, once next has
// returned; nil before that, on a server, and where the server sent none.
func (c *Call) Header() metadata.MD { return c.header }

// Trailer returns the trailers that the server sent: on a client, once next
// has returned; nil before that, on a server, and where the server sent none.
func (c *Call) Trailer() metadata.MD { return c.trailer }

// AddCallOptions adds opts to those of the client's call: credentials,
// compression, wait-for-ready and so on. They come after the caller's own, so
// they win where an option can be given only once. It has no effect on a
// server and after next has been called. A nil option is skipped.
func (c *Call) AddCallOptions(opts ...grpc.CallOption) {
	for _, o := range opts {
		if o != nil {
			a := c.add()
			a.options = append(a.options, scoped[grpc.CallOption]{c.depth, o})
		}
	}
}

// AddAttributes adds attrs to the call's span and to its record in the access
// log, at the call's end, and never to a metric. Of several with the same key
// the last one counts; only the method, kind, address, code and message counts of a
// record stay what they are. Use it before the interceptor returns; it has no effect
// on a call that is not observed, see [WithFilter].
func (c *Call) AddAttributes(attrs ...attribute.KeyValue) {
	a := c.add()
	a.attributes = append(a.attributes, attrs...)
}

// OnSend registers f to be called with every message this side is about to
// send, on every kind of RPC: a client's requests, a server's replies. An error
// from f ends the call with it and the message is not sent. Functions run in
// the order they were registered, on the goroutine that sends. Register before
// calling next. A nil f is ignored.
func (c *Call) OnSend(f func(msg any) error) {
	if f != nil {
		a := c.add()
		a.send = append(a.send, scoped[func(any) error]{c.depth, f})
	}
}

// OnReceive registers f to be called with every message this side has
// received, on every kind of RPC, before the application sees it. An error
// from f ends the call with it. Functions run in the order they were
// registered, on the goroutine that receives. Register before calling next. A
// nil f is ignored.
func (c *Call) OnReceive(f func(msg any) error) {
	if f != nil {
		a := c.add()
		a.receive = append(a.receive, scoped[func(any) error]{c.depth, f})
	}
}

// onHeader registers f to be called, on a goroutine of its own, when the server has
// sent headers for a stream of the client's. It is meant for few calls.
func (c *Call) onHeader(f func()) {
	a := c.add()
	a.header = append(a.header, scoped[func()]{c.depth, f})
}

func run(hooks []scoped[func(any) error], msg any) error {
	for _, h := range hooks {
		if err := h.value(msg); err != nil {
			return err
		}
	}
	return nil
}
