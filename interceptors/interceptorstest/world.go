package interceptorstest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// world is a server and a client, with the interceptor on one side, and the
// calls that are made in it.
type world struct {
	situation
	s      *suite
	server *grpc.Server
	conn   *grpc.ClientConn
	desc   grpc.StreamDesc
	served chan struct{}
	calls  []*record
	label  string // of the goroutines that the interceptor starts
	gate   *gate  // where calls that are made together meet
}

// newID returns an id that no other test of the process has.
func newID() string { return strconv.FormatUint(lastID.Add(1), 10) }

var lastID atomic.Uint64

func newWorld(s *suite, c situation) (*world, error) {
	w := &world{situation: c, s: s, label: newID(), served: make(chan struct{})}
	for _, code := range c.ending.codes {
		w.calls = append(w.calls, w.newRecord(code))
	}
	if c.ending.together {
		w.gate = &gate{missing: len(w.calls), open: make(chan struct{})}
	}
	servers, clients := w.options()
	listener := bufconn.Listen(1 << 16)
	conn, err := grpc.NewClient("passthrough:///interceptorstest", append(interceptors.DialOptions(clients...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		return nil, fmt.Errorf("interceptorstest: %w", err)
	}
	w.conn = conn
	w.server = grpc.NewServer(interceptors.ServerOptions(servers...)...)
	w.server.RegisterService(w.service(), nil)
	go func() {
		defer close(w.served)
		_ = w.server.Serve(listener)
	}()
	return w, nil
}

func (w *world) close() {
	_ = w.conn.Close()
	w.server.Stop()
	<-w.served
}

func (w *world) options() (servers []interceptors.ServerOption, clients []interceptors.ClientOption) {
	for _, o := range append([]interceptors.Option{
		interceptors.WithTracerProvider(tracenoop.NewTracerProvider()), interceptors.WithMeterProvider(metricnoop.NewMeterProvider()),
		interceptors.WithLogger(slog.New(slog.DiscardHandler)), interceptors.WithPropagator(propagation.New()),
	}, w.s.siblings...) {
		servers, clients = append(servers, o), append(clients, o)
	}
	if w.side == interceptors.ServerSide {
		servers = append(servers, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			r, err := w.received(ctx)
			if err != nil {
				return err
			}
			return r.watch(ctx, call, next)
		}))
		return servers, clients
	}
	clients = append(clients, interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		r, ok := ctx.Value(recordKey{}).(*record)
		if !ok {
			return errUnknownCall
		}
		return r.watch(ctx, call, next)
	}))
	servers = append(servers, interceptors.Interceptor(func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		r, err := w.received(ctx)
		if err != nil {
			return err
		}
		return next(context.WithValue(ctx, recordKey{}, r))
	}))
	return servers, clients
}

// recordKey finds a call's record in the contexts of its caller and its handler.
type recordKey struct{}

var errUnknownCall = errors.Internal(errors.New("interceptorstest: an interceptor given to With or the function given to WithContext lost what marks the test's calls"))

func (w *world) received(ctx context.Context) (*record, error) {
	if id := metadata.ValueFromIncomingContext(ctx, idHeader); len(id) == 1 {
		for _, r := range w.calls {
			if r.id == id[0] {
				return r, nil
			}
		}
	}
	return nil, errUnknownCall
}

// service is a service whose one method has the world's kind.
func (w *world) service() *grpc.ServiceDesc {
	service, method, _ := strings.Cut(strings.TrimPrefix(w.s.method, "/"), "/")
	w.desc = grpc.StreamDesc{
		StreamName:    method,
		ClientStreams: w.kind == interceptors.ClientStream || w.kind == interceptors.BidiStream,
		ServerStreams: w.kind == interceptors.ServerStream || w.kind == interceptors.BidiStream,
		Handler: func(_ any, ss grpc.ServerStream) error {
			return w.handle(streamPeer{ss, w.s})
		},
	}
	if w.kind != interceptors.Unary {
		return &grpc.ServiceDesc{ServiceName: service, Streams: []grpc.StreamDesc{w.desc}}
	}
	return &grpc.ServiceDesc{ServiceName: service, Methods: []grpc.MethodDesc{{
		MethodName: method,
		Handler: func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := blank(w.s.request)
			if err := decode(in); err != nil {
				return nil, err
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{FullMethod: w.s.method}, func(ctx context.Context, req any) (any, error) {
				p := &unaryPeer{ctx: ctx, request: req}
				err := w.handle(p)
				return p.reply, err
			})
		},
	}}}
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

// call makes the call of r and notes what its caller gets.
func (w *world) call(ctx context.Context, r *record) (err error) {
	if w.kind == interceptors.Unary {
		request, reply := number(w.s.request, 1), blank(w.s.reply)
		r.note(func() { r.caller.sent = append(r.caller.sent, request) })
		if err := w.conn.Invoke(ctx, w.s.method, request, reply); err != nil {
			return err
		}
		r.note(func() { r.caller.got = append(r.caller.got, take(reply)) })
		return nil
	}
	cs, err := w.conn.NewStream(ctx, &w.desc, w.s.method)
	if err != nil {
		return err
	}
	for n := range r.requests() {
		m := number(w.s.request, n+1)
		r.note(func() { r.caller.sent = append(r.caller.sent, m) })
		if err := cs.SendMsg(m); err == io.EOF {
			break // the status comes from RecvMsg
		} else if err != nil {
			return err
		}
	}
	if err := cs.CloseSend(); err != nil || w.ending.stop == abandon {
		return err
	}
	for {
		m := blank(w.s.reply)
		if err := cs.RecvMsg(m); err == io.EOF && w.desc.ServerStreams {
			return nil
		} else if err != nil {
			return err
		}
		r.note(func() { r.caller.got = append(r.caller.got, take(m)) })
		if !w.desc.ServerStreams {
			return nil
		}
	}
}

// blank is an empty message of the type of m.
func blank(m proto.Message) proto.Message { return m.ProtoReflect().New().Interface() }

// take is what a receiver does that owns m: it uses it and writes something else
// into it. Under the race detector that finds interceptors that still read it.
func take(m proto.Message) proto.Message {
	taken := proto.Clone(m)
	proto.Reset(m)
	return taken
}

// numberField is the unknown field that holds a message's number, with the
// highest number that a field can have.
const numberField = protowire.MaxValidNumber

// number returns a copy of m that is the nth message.
func number(m proto.Message, n int) proto.Message {
	m = proto.Clone(m)
	field := protowire.AppendVarint(protowire.AppendTag(nil, numberField, protowire.VarintType), uint64(n)) //nolint:gosec // small
	m.ProtoReflect().SetUnknown(append(m.ProtoReflect().GetUnknown(), field...))
	return m
}

// gate keeps handlers until all of the calls have reached one.
type gate struct {
	mu      sync.Mutex
	missing int
	gone    map[*record]bool
	open    chan struct{}
}

// arrive waits for the others.
func (g *gate) arrive(r *record) {
	g.skip(r)
	select {
	case <-g.open:
	case <-r.release:
	}
}

// skip waits for r no longer: it has arrived, or never will.
func (g *gate) skip(r *record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone == nil {
		g.gone = map[*record]bool{}
	}
	if g.gone[r] {
		return
	}
	g.gone[r] = true
	if g.missing--; g.missing == 0 {
		close(g.open)
	}
}

// callContext returns what the call is made with, and what stops it.
func (r *record) callContext() (ctx context.Context, stop func()) {
	ctx = context.Background()
	if r.ending.stop == expire || r.ending.stop == expired {
		late := &deadline{Context: ctx, at: time.Now().Add(time.Hour), passed: make(chan struct{})}
		stop = sync.OnceFunc(func() { close(late.passed) })
		ctx = late
	} else {
		ctx, stop = context.WithCancel(ctx)
	}
	if r.s.context != nil {
		ctx = r.s.context(ctx)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, idHeader, r.id)
	return context.WithValue(ctx, recordKey{}, r), stop
}

// deadline is a context whose deadline passes when the test says so.
type deadline struct {
	context.Context
	at     time.Time
	passed chan struct{}
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }
func (d *deadline) Done() <-chan struct{}       { return d.passed }
func (d *deadline) Err() error {
	if isClosed(d.passed) {
		return context.DeadlineExceeded
	}
	return nil
}
