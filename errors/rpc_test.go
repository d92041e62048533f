package errors_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/rpcscope/rpcscope/errors"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A stub is a service with one method of each kind; all of them run handle, the
// streaming ones after a message has gone in either direction.
type stub struct {
	handle func(ctx context.Context) error
}

var serviceDesc = grpc.ServiceDesc{
	ServiceName: "test.Service",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Unary",
		Handler: func(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := dec(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, _ any) (any, error) {
				return new(emptypb.Empty), srv.(*stub).handle(ctx)
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Service/Unary"}
			if intercept == nil {
				return handler(ctx, in)
			}
			return intercept(ctx, in, info, handler)
		},
	}},
	Streams: []grpc.StreamDesc{
		{StreamName: "ClientStream", ClientStreams: true, Handler: handleStream},
		{StreamName: "ServerStream", ServerStreams: true, Handler: handleStream},
		{StreamName: "BidiStream", ClientStreams: true, ServerStreams: true, Handler: handleStream},
	},
}

func handleStream(srv any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	return srv.(*stub).handle(stream.Context())
}

var kinds = []string{"Unary", "ClientStream", "ServerStream", "BidiStream"}

// serve runs a server whose handlers end as handle says. With a converter their
// errors are converted as this suite's engine does it; without one it is plain
// gRPC.
func serve(tb testing.TB, c *errors.Converter, handle func(ctx context.Context) error) *grpc.ClientConn {
	tb.Helper()
	var opts []grpc.ServerOption
	if c != nil {
		opts = append(opts,
			grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				return resp, c.Status(ctx, err).Err()
			}),
			grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return c.Status(stream.Context(), handler(srv, stream)).Err()
			}))
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(opts...)
	server.RegisterService(&serviceDesc, &stub{handle: handle})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	return conn
}

// call makes one call and returns gRPC's error.
func call(ctx context.Context, conn *grpc.ClientConn, kind string) error {
	if kind == "Unary" {
		return conn.Invoke(ctx, "/test.Service/Unary", new(emptypb.Empty), new(emptypb.Empty))
	}
	desc := &grpc.StreamDesc{ClientStreams: kind != "ServerStream", ServerStreams: kind != "ClientStream"}
	stream, err := conn.NewStream(ctx, desc, "/test.Service/"+kind)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(new(emptypb.Empty)); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(new(emptypb.Empty)); err == io.EOF {
			return nil
		} else if err != nil || kind == "ClientStream" {
			return err
		}
	}
}

// over returns what the caller of a handler that returns err gets.
func over(tb testing.TB, c *errors.Converter, kind string, err error) error {
	tb.Helper()
	conn := serve(tb, c, func(context.Context) error { return err })
	ctx := tb.Context()
	return c.FromRPC(ctx, call(ctx, conn, kind))
}
