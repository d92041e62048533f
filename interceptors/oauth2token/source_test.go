package oauth2token_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/oauth2token"
	"github.com/rpcscope/rpcscope/propagation"
)

// issuer is an OAuth 2.0 token endpoint that issues t1, t2 ...
type issuer struct {
	*clientcredentials.Config
	issued atomic.Int64
	refuse atomic.Bool
	kind   string
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{kind: "bearer"}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	i.Config = &clientcredentials.Config{ClientID: "users", ClientSecret: "planted-secret", TokenURL: server.URL, AuthStyle: oauth2.AuthStyleInParams}
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := i.issued.Add(1)
	w.Header().Set("Content-Type", "application/json")
	if i.refuse.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": "not " + r.FormValue("client_secret")})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", n), "token_type": i.kind, "expires_in": 3600})
}

// server lets in who has one of its tokens.
type server struct {
	testpb.UnimplementedTestServiceServer
}

func (server) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	id, _ := propagation.IdentityFromContext(ctx)
	return &testpb.SimpleResponse{Username: id.UserID}, nil
}

// dial starts a server that accepts the token, and a client with source.
func dial(t *testing.T, accepts string, source interceptors.TokenSource) testpb.TestServiceClient {
	verify := func(_ context.Context, token string) (propagation.Identity, error) {
		if token != accepts {
			return propagation.Identity{}, errors.New("another token")
		}
		return propagation.Identity{UserID: "service " + token}, nil
	}
	s := grpc.NewServer(interceptors.ServerOptions(interceptors.WithoutLogging(), interceptors.Authenticate(interceptors.BearerToken(verify)))...)
	testpb.RegisterTestServiceServer(s, server{})
	pipe := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- s.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(interceptors.DialOptions(interceptors.WithoutLogging(),
		interceptors.Token(source, interceptors.AllowPlaintext())),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return testpb.NewTestServiceClient(conn)
}

// Rule 28: one fetch serves all calls, and a refused token is replaced.
func TestRule28ClientCredentials(t *testing.T) {
	i := newIssuer(t)
	client := dial(t, "t2", oauth2token.New(i.Token))
	for range 3 {
		reply, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		if err != nil || reply.GetUsername() != "service t2" {
			t.Errorf("got %v, %v; want the server to know t2, after it refused t1", reply, err)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := i.issued.Load(); n != 2 {
		t.Errorf("%d tokens were issued, want 2", n)
	}
}

// A source that keeps its token has no other one when it is refused.
func TestRule28FromSource(t *testing.T) {
	i := newIssuer(t)
	for accepts, want := range map[string]codes.Code{"t1": codes.OK, "t9": codes.Unauthenticated} {
		i.issued.Store(0)
		client := dial(t, accepts, oauth2token.FromSource(i.TokenSource(context.Background())))
		if _, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}); status.Code(err) != want {
			t.Errorf("the call ended with %v, want %v", err, want)
		}
		if n := i.issued.Load(); n != 1 {
			t.Errorf("%d tokens were issued, want 1", n)
		}
	}
}

// Rule 29: what an issuer says is in the error, and what it quotes is not.
func TestRule29Refused(t *testing.T) {
	i := newIssuer(t)
	i.refuse.Store(true)
	_, err := dial(t, "t1", oauth2token.New(i.Token)).UnaryCall(t.Context(), &testpb.SimpleRequest{})
	if !errors.Is(err, interceptors.ErrNoToken) || !strings.Contains(err.Error(), `401 Unauthorized, "invalid_client"`) || strings.Contains(err.Error(), "planted-secret") {
		t.Errorf("the call ended with %v, want ErrNoToken with the issuer's code", err)
	}
	if _, err := oauth2token.New(i.Token).Token(t.Context()); !isRetrieveError(err) {
		t.Errorf("%v is no *oauth2.RetrieveError", err)
	}
}

func isRetrieveError(err error) bool {
	_, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok
}

func TestUnusableTokens(t *testing.T) {
	mac := newIssuer(t)
	mac.kind = "mac"
	tests := map[string]struct {
		source interceptors.TokenSource
		want   string
	}{
		"mac":     {oauth2token.New(mac.Token), `the token's type is "MAC"; want Bearer`},
		"nothing": {oauth2token.New(func(context.Context) (*oauth2.Token, error) { return nil, nil }), "neither a token nor an error"},
		"empty":   {oauth2token.FromSource(oauth2.StaticTokenSource(&oauth2.Token{})), "empty token"},
		"expired": {oauth2token.FromSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x", Expiry: time.Unix(1, 0)})), "expired"},
		"away":    {oauth2token.New((&clientcredentials.Config{TokenURL: "http://127.0.0.1:1"}).Token), "connection refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := test.source.Token(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestNilPanics(t *testing.T) {
	for want, f := range map[string]func(){
		"oauth2token: New: the function is nil; want one such as the method Token of a clientcredentials.Config": func() { oauth2token.New(nil) },
		"oauth2token: FromSource: the source is nil":                                                             func() { oauth2token.FromSource(nil) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("got %v, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
