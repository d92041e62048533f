package rpcscope_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

// README's code compiles: every piece of it, from one blank line or "..." to the
// next, stands in example_test.go.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	compiled := "\n" + strings.Join(trimmed(string(examples)), "\n") + "\n"
	blocks := strings.Split(string(readme), "\n```go\n")[1:]
	if len(blocks) < 6 {
		t.Fatalf("README.md has %d blocks of Go, want at least 6", len(blocks))
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "\n```")
		for piece := range strings.SplitSeq("\n"+strings.Join(trimmed(code), "\n")+"\n", "\n\n") {
			if piece = strings.Trim(piece, "\n"); !strings.Contains(compiled, "\n"+piece+"\n") {
				t.Errorf("example_test.go lacks what README.md has:\n%s", piece)
			}
		}
	}
}

// trimmed are the lines of code, without indentation; what code is not complete
// without and what stands for more of it are blank lines.
func trimmed(code string) []string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
		if slices.Contains([]string{"func main() {", "...", "}"}, lines[i]) {
			lines[i] = ""
		}
	}
	return lines
}

// watched is a health service that tells what time its calls have.
type watched struct {
	healthpb.UnimplementedHealthServer
	limited chan bool
}

func (w watched) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	_, limited := ctx.Deadline()
	w.limited <- limited
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (w watched) Watch(_ *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	_, limited := stream.Context().Deadline()
	w.limited <- limited
	return stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING})
}

// README's server answers the probes of Kubernetes, and only unary calls have a
// time limit; for anything else it takes a token.
func TestREADMEServer(t *testing.T) {
	server, listener := guarded(storedSessions{"adas": {"ada", []string{"admin"}}, "bobs": {UserID: "bob"}}), bufconn.Listen(1<<16)
	health := watched{limited: make(chan bool, 1)}
	healthpb.RegisterHealthServer(server, health)
	server.RegisterService(&users, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := healthpb.NewHealthClient(conn)

	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a probe without a token: %v", err)
	} else if !<-health.limited {
		t.Error("a unary call has no time limit")
	}
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Errorf("a watch without a token: %v", err)
	} else if <-health.limited {
		t.Error("a stream has a time limit, which would end it")
	}
	for token, want := range map[string]codes.Code{"": codes.Unauthenticated, "guess": codes.Unauthenticated, "bobs": codes.PermissionDenied, "adas": codes.OK} {
		ctx := t.Context()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		if got := status.Code(conn.Invoke(ctx, "/users.v1.UserService/DeleteUser", &emptypb.Empty{}, &emptypb.Empty{})); got != want {
			t.Errorf("with token %q: %v, want %v", token, got, want)
		}
	}
}

// users is a service with one method, which does nothing.
var users = grpc.ServiceDesc{ServiceName: "users.v1.UserService", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
	MethodName: "DeleteUser",
	Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		request := new(emptypb.Empty)
		if err := decode(request); err != nil {
			return nil, err
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/users.v1.UserService/DeleteUser"}
		return interceptor(ctx, request, info, func(context.Context, any) (any, error) { return request, nil })
	},
}}}
