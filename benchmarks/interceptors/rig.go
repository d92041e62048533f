package main

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
)

// rig is a server and a client of it, connected in memory.
type rig struct {
	scenario scenario
	client   testpb.TestServiceClient
	service  *service

	conn   *grpc.ClientConn
	server *grpc.Server
	served chan error
}

// newRig has the suite around i on the scenario's side; a nil i is neither.
func newRig(s scenario, i interceptors.Interceptor) (*rig, error) {
	var server []grpc.ServerOption
	client := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	switch {
	case i == nil:
	case s.side == interceptors.ClientSide:
		client = append(client, interceptors.DialOptions(append([]interceptors.ClientOption{i}, recording[interceptors.ClientOption]()...)...)...)
	default:
		server = interceptors.ServerOptions(append([]interceptors.ServerOption{i}, recording[interceptors.ServerOption]()...)...)
	}
	r := &rig{scenario: s, service: &service{}, served: make(chan error, 1), server: grpc.NewServer(server...)}
	testpb.RegisterTestServiceServer(r.server, r.service)
	pipe := bufconn.Listen(1 << 16)
	go func() { r.served <- r.server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		append(client, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	if err != nil {
		r.server.Stop()
		return nil, errors.Join(err, <-r.served)
	}
	r.conn, r.client = conn, testpb.NewTestServiceClient(conn)
	return r, nil
}

// close waits for the calls that are under way.
func (r *rig) close() error {
	err := r.conn.Close()
	r.server.GracefulStop()
	return errors.Join(err, <-r.served)
}

func (r *rig) call(n int) error {
	ctx, request := r.scenario.outgoing(context.Background()), r.scenario.message()
	for range n {
		if _, err := r.client.UnaryCall(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

var reply = &testpb.SimpleResponse{Username: "ada"}

// service answers, and keeps the context of the last call where it is asked to.
type service struct {
	testpb.UnimplementedTestServiceServer
	seen chan context.Context
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.seen != nil {
		s.seen <- ctx
	}
	return reply, nil
}

// incoming is a context like the one of a server's call of the scenario: its
// metadata, peer, values and deadline, and it can be cancelled.
func incoming(s scenario) (context.Context, context.CancelFunc, error) {
	r, err := newRig(s, nil)
	if err != nil {
		return nil, nil, err
	}
	r.service.seen = make(chan context.Context, 1)
	if err = errors.Join(r.call(1), r.close()); err != nil {
		return nil, nil, err
	}
	theirs := <-r.service.seen
	if _, ok := peer.FromContext(theirs); !ok {
		return nil, nil, errors.New("the server's context has no peer")
	}
	ctx := context.WithoutCancel(theirs) // its call has ended
	if deadline, ok := theirs.Deadline(); ok {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	return ctx, cancel, nil
}
