package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"
)

// rig is a server and a client of it, connected, in one process.
type rig struct {
	scenario scenario
	client   testpb.TestServiceClient

	conn   *grpc.ClientConn
	server *grpc.Server
	served chan error
}

func newRig(s scenario, c contender) (*rig, error) {
	side := func() *recorder { return newRecorder(s.ratio, slog.LevelInfo, io.Discard, dropSpans{}) }
	return newRigWith(s, c, side(), side())
}

// newRigWith has made one call already when it returns: connected, caches warm.
func newRigWith(s scenario, c contender, server, client *recorder) (*rig, error) {
	r := &rig{scenario: s, served: make(chan error, 1)}
	listener, target, options, err := listen(s)
	if err != nil {
		return nil, err
	}
	r.server = grpc.NewServer(c.server(server)...)
	testpb.RegisterTestServiceServer(r.server, service{})
	go func() { r.served <- r.server.Serve(listener) }()
	if !s.serverOnly {
		options = append(options, c.client(client)...)
	}
	r.conn, err = grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		r.server.Stop()
		return nil, errors.Join(err, <-r.served)
	}
	r.client = testpb.NewTestServiceClient(r.conn)
	if err := s.call.run(context.Background(), r.client); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func listen(s scenario) (listener net.Listener, target string, options []grpc.DialOption, err error) {
	if s.tcp {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", nil, err
		}
		return listener, "passthrough:///" + listener.Addr().String(), nil, nil
	}
	pipe := bufconn.Listen(1 << 16)
	return pipe, "passthrough:///bufconn", []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
	}, nil
}

// close waits for the calls that are under way.
func (r *rig) close() error {
	err := r.conn.Close()
	r.server.GracefulStop()
	return errors.Join(err, <-r.served)
}

// waitForGoroutines waits for those that the end of a connection has told to
// end: what they do and hold is not the next one's.
func waitForGoroutines(idle int) error {
	deadline := time.After(30 * time.Second)
	for runtime.NumGoroutine() > idle {
		select {
		case <-deadline:
			return fmt.Errorf("%d goroutines are left", runtime.NumGoroutine()-idle)
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// callers is how many goroutines make the calls of a parallel scenario.
const callers = 16

// call makes n calls to their end and returns the first error.
func (r *rig) call(n int) error {
	if !r.scenario.parallel {
		return r.callSerially(func() bool { n--; return n >= 0 })
	}
	var (
		left   atomic.Int64
		failed atomic.Pointer[error]
		wait   sync.WaitGroup
	)
	left.Store(int64(n))
	for range callers {
		wait.Go(func() {
			if err := r.callSerially(func() bool { return left.Add(-1) >= 0 }); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *rig) callSerially(more func() bool) error {
	ctx := context.Background()
	for more() {
		if err := r.scenario.call.run(ctx, r.client); err != nil {
			return err
		}
	}
	return nil
}
