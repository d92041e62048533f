package interceptorstest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

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
