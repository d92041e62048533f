package propagation_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/contrib/processors/baggagecopy"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// Rules 19, 20, 21 and 23 through the whole suite: a web page calls A, which
// calls B, where each call takes three attempts, and a third party. The page's
// visitor claims to be somebody else.
func TestThreeHops(t *testing.T) {
	mesh := propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("127.0.0.0/8")))
	hash := propagation.WithUserHash(bytes.Repeat([]byte("k"), 32))
	for kind, call := range calls {
		t.Run(kind.String(), func(t *testing.T) {
			web, a, b := newNode(t), newNode(t, mesh, hash), newNode(t, mesh, hash)
			party := newNode(t, propagation.WithTrust(propagation.TrustAll))

			var attempts atomic.Int64
			toB := a.dial(b.serve(func(context.Context) error {
				if attempts.Add(1)%3 != 0 {
					return errors.Unavailable("not yet")
				}
				return nil
			}), grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
				"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))
			toParty := a.connect(party.serve(func(context.Context) error { return nil }), a.DialOptions(interceptors.External()))
			toA := web.dial(a.serve(func(ctx context.Context) error {
				if err := call(ctx, toB); err != nil {
					return err
				}
				return call(ctx, toParty)
			}))
			page := httptest.NewServer(web.propagator().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx := propagation.ContextWithIdentity(r.Context(), propagation.Identity{UserID: "alice", TenantID: "acme", SessionID: "s-1"})
				if err := call(ctx, toA); err != nil {
					http.Error(w, err.Error(), http.StatusBadGateway)
				}
			})))
			defer page.Close()

			id := visit(t, page.URL)
			inside := arrival{RequestID: id, Identity: propagation.Identity{UserID: "alice", TenantID: "acme"}, Baggage: "user.id=alice,tenant.id=acme", Header: id}
			if diff := cmp.Diff([]arrival{inside}, a.arrivals(), ignoreUnexported); diff != "" {
				t.Errorf("at A (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]arrival{inside, inside, inside}, b.arrivals(), ignoreUnexported); diff != "" {
				t.Errorf("at B (-want +got):\n%s", diff)
			}
			got := party.arrivals()
			if len(got) != 1 || got[0].RequestID == id || got[0].Header != "" || got[0].Baggage != "" || got[0].Identity.UserID != "" {
				t.Errorf("the third party got %+v, want trace context only", got)
			}

			// web 1 client; A 1 server and 2 clients; B 3 servers; the party 1.
			for _, want := range []struct {
				n     *node
				spans int
				user  string // whose hash is on the servers' spans
			}{{web, 1, ""}, {a, 3, a.hash("alice")}, {b, 3, b.hash("alice")}, {party, 1, ""}} {
				var recorded strings.Builder
				spans := want.n.Spans().All()
				if len(spans) != want.spans {
					t.Errorf("%d spans ended, want %d: %v", len(spans), want.spans, spans)
				}
				for _, s := range spans {
					fmt.Fprint(&recorded, tracetest.SpanStubFromReadOnlySpan(s.ReadOnlySpan))
					if s.SpanContext().TraceID().String() != parent[3:35] {
						t.Errorf("span %s is in trace %s, want the visitor's", s.Name(), s.SpanContext().TraceID())
					}
					got := attributes(s)
					if want.n != party && got["request.id"] != id {
						t.Errorf("span %s has request id %q, want %q", s.Name(), got["request.id"], id)
					}
					if s.SpanKind() == trace.SpanKindServer && got["user.hash"] != want.user {
						t.Errorf("span %s has user.hash %q, want %q", s.Name(), got["user.hash"], want.user)
					}
				}
				records := want.n.Logs().All()
				if len(records) != want.spans { // one of each call and side
					t.Errorf("%d log records, want %d", len(records), want.spans)
				}
				for _, r := range records {
					fmt.Fprintln(&recorded, r.Body(), r.Attributes())
				}
				for _, secret := range []string{"mallory", "evil", "s-1", "alice"} {
					if strings.Contains(recorded.String(), secret) {
						t.Errorf("spans or log hold %q: %s", secret, recorded.String())
					}
				}
			}
		})
	}
}

// Identity remembers whether it is verified, which serve checks.
var ignoreUnexported = cmpopts.IgnoreUnexported(propagation.Identity{})

// visit opens the page as somebody who claims to be mallory, and returns the
// request id that the page answers with.
func visit(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", parent)
	req.Header.Set("Baggage", "user.id=mallory,tenant.id=evil")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	id := resp.Header.Get("X-Request-Id")
	if err != nil || resp.StatusCode != http.StatusOK || !propagation.ValidRequestID(id) {
		t.Fatalf("status %d, request id %q, body %q, error %v", resp.StatusCode, id, body, err)
	}
	return id
}

// calls makes one call of each kind to its end.
var calls = map[interceptors.Kind]func(context.Context, testpb.TestServiceClient) error{
	interceptors.Unary: func(ctx context.Context, c testpb.TestServiceClient) error {
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	},
	interceptors.ClientStream: func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		_, err = cs.CloseAndRecv()
		return err
	},
	interceptors.ServerStream: func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		if err != nil {
			return err
		}
		return drain(cs)
	},
	interceptors.BidiStream: func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := cs.CloseSend(); err != nil {
			return err
		}
		return drain(cs)
	},
}

func drain(cs grpc.ServerStreamingClient[testpb.StreamingOutputCallResponse]) error {
	for {
		if _, err := cs.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// arrival is what a server was told by a call.
type arrival struct {
	RequestID string
	Identity  propagation.Identity
	Baggage   string // as on the wire
	Header    string // x-request-id, as on the wire
}

// node is a service: what it records, and what it was told.
type node struct {
	*telemetrytest.Recorder
	t *testing.T

	mu  sync.Mutex
	got []arrival
}

func newNode(t *testing.T, p ...propagation.Option) *node {
	return &node{t: t, Recorder: telemetrytest.New(t, telemetry.WithPropagation(p...),
		telemetry.WithSpanProcessor(baggagecopy.NewSpanProcessor(baggagecopy.AllowAllMembers)))}
}

func (n *node) propagator() *propagation.Propagator {
	return n.Telemetry().Propagator().(*propagation.Propagator)
}

// serve runs a server whose calls do work, and returns its address.
func (n *node) serve(work func(context.Context) error) string {
	n.t.Helper()
	options := n.ServerOptions(interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		id, _ := propagation.IdentityFromContext(ctx)
		if id.Verified() {
			n.t.Errorf("the identity at %s is verified", call.FullMethod)
		}
		md := call.Metadata()
		n.mu.Lock()
		n.got = append(n.got, arrival{propagation.RequestID(ctx), id, strings.Join(md["baggage"], ","), strings.Join(md["x-request-id"], ",")})
		n.mu.Unlock()
		if err := work(ctx); err != nil {
			return err
		}
		return next(ctx)
	}))
	listener, err := (&net.ListenConfig{}).Listen(n.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	testpb.RegisterTestServiceServer(server, service{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	n.t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			n.t.Error(err)
		}
	})
	return listener.Addr().String()
}

func (n *node) dial(addr string, more ...grpc.DialOption) testpb.TestServiceClient {
	n.t.Helper()
	return n.connect(addr, append(n.DialOptions(), more...))
}

func (n *node) connect(addr string, options []grpc.DialOption) testpb.TestServiceClient {
	n.t.Helper()
	conn, err := grpc.NewClient(addr, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

func (n *node) arrivals() []arrival {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.got
}

// hash is what n calls a user in its spans.
func (n *node) hash(user string) string {
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: user})
	for _, kv := range n.propagator().AppendAttributes(ctx, nil) {
		if kv.Key == "user.hash" {
			return kv.Value.AsString()
		}
	}
	n.t.Fatal("no user.hash")
	return ""
}

func attributes(s telemetrytest.Span) map[string]string {
	m := make(map[string]string)
	for _, kv := range s.Attributes() {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, nil
}

func (service) StreamingInputCall(ss testpb.TestService_StreamingInputCallServer) error {
	return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
}

func (service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	return ss.Send(&testpb.StreamingOutputCallResponse{})
}

func (service) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	return ss.Send(&testpb.StreamingOutputCallResponse{})
}
