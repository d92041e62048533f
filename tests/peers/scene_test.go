package peers

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"
)

// setup is what a scenario adds to a stack: the service, and the application's
// own options, which come after the stack's.
type setup struct {
	service service
	server  []grpc.ServerOption
	client  []grpc.DialOption
}

// scene is a client and a server, connected, in a synctest bubble.
type scene struct {
	*recording
	t      *testing.T
	conn   *grpc.ClientConn
	client testpb.TestServiceClient
	server *grpc.Server
	served chan struct{}
}

// stage sets the scene for one scenario on s. The scenario has to settle it.
func (s stack) stage(t *testing.T, with setup) *scene {
	t.Helper()
	sc := &scene{recording: newRecording(), t: t, served: make(chan struct{})}
	sc.server = grpc.NewServer(append(s.server(sc.recording), with.server...)...)
	testpb.RegisterTestServiceServer(sc.server, &with.service)
	listener := bufconn.Listen(1 << 20)
	go func() {
		defer close(sc.served)
		if err := sc.server.Serve(listener); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	options := append(s.client(sc.recording), with.client...)
	conn, err := grpc.NewClient("passthrough:///bufconn", append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	sc.conn, sc.client = conn, testpb.NewTestServiceClient(conn)
	conn.Connect()
	synctest.Wait()
	return sc
}

// settle takes client and server down. After it whatever was going to be
// recorded is.
func (sc *scene) settle() {
	if err := sc.conn.Close(); err != nil {
		sc.t.Errorf("Close: %v", err)
	}
	sc.server.GracefulStop()
	<-sc.served
	synctest.Wait()
}

// ctx is done when the scenario hangs.
func (sc *scene) ctx() context.Context {
	ctx, cancel := context.WithTimeout(sc.t.Context(), time.Hour)
	sc.t.Cleanup(cancel)
	return ctx
}

// call makes a unary call.
func (sc *scene) call(ctx context.Context, opts ...grpc.CallOption) error {
	_, err := sc.client.UnaryCall(ctx, &testpb.SimpleRequest{}, opts...)
	return err
}
