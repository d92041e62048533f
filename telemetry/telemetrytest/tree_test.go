package telemetrytest_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// flaky refuses the first two attempts of every call.
type flaky struct {
	testpb.UnimplementedTestServiceServer
	rec *telemetrytest.Recorder
}

func refused(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if before := md.Get("grpc-previous-rpc-attempts"); len(before) == 0 || before[0] == "1" {
		return status.Error(codes.Unavailable, "not yet")
	}
	return nil
}

func (f *flaky) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if err := refused(ctx); err != nil {
		return nil, err
	}
	_, span := f.rec.Telemetry().TracerProvider().Tracer("db").Start(ctx, "SELECT users")
	span.End()
	return &testpb.SimpleResponse{}, nil
}

func (f *flaky) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	if err := refused(ss.Context()); err != nil {
		return err
	}
	return ss.Send(&testpb.StreamingOutputCallResponse{})
}

func (f *flaky) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	if _, err := ss.Recv(); err != io.EOF {
		return err
	}
	return nil
}

const retries = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// The tree of calls that ran at once, with streams and attempts, is the same
// every time: the golden files of a user's tests hold.
func TestTreeOfConcurrentCalls(t *testing.T) {
	rec := telemetrytest.New(t)
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(rec.ServerOptions()...)
	testpb.RegisterTestServiceServer(server, &flaky{rec: rec})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	defer func() { server.Stop(); <-served }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(rec.DialOptions(interceptors.WithAttempts()),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(retries),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := testpb.NewTestServiceClient(conn)
	kinds := []func() error{
		func() error {
			_, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{})
			return err
		},
		func() error {
			cs, err := client.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{})
			for err == nil {
				_, err = cs.Recv()
			}
			return err
		},
		func() error {
			cs, err := client.FullDuplexCall(t.Context())
			if err != nil {
				return err
			}
			if err := cs.CloseSend(); err != nil {
				return err
			}
			_, err = cs.Recv()
			return err
		},
	}
	golden, err := os.ReadFile("testdata/calls.tree")
	if err != nil {
		t.Fatal(err)
	}
	const each = 10
	var want strings.Builder // siblings are sorted, so that equal ones stand together
	for call := range strings.SplitSeq(string(golden), "---\n") {
		want.WriteString(strings.Repeat(call, each))
	}
	for range 3 {
		rec.Reset()
		var wg sync.WaitGroup
		for _, i := range rand.Perm(each * len(kinds)) {
			wg.Go(func() {
				if err := kinds[i%len(kinds)](); err != nil && err != io.EOF {
					t.Errorf("call %d: %v", i%len(kinds), err)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(want.String(), rec.Tree()); diff != "" {
			t.Fatalf("tree, -want +got:\n%s", diff)
		}
	}
}
