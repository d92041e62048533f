package jwtauth_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/jwtauth"
	"github.com/rpcscope/rpcscope/propagation"
)

// service tells who called, and then waits if it is told to.
type service struct {
	testpb.UnimplementedTestServiceServer
	seen chan propagation.Identity
	wait bool
}

func (s *service) handle(ctx context.Context) error {
	id, _ := propagation.IdentityFromContext(ctx)
	s.seen <- id
	if s.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, s.handle(ctx)
}

func (s *service) StreamingInputCall(ss testpb.TestService_StreamingInputCallServer) error {
	if err := s.handle(ss.Context()); err != nil {
		return err
	}
	return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
}

func (s *service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	return s.handle(ss.Context())
}

func (s *service) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	return s.handle(ss.Context())
}

// serve runs s on loopback, for those whose tokens v accepts.
func serve(t *testing.T, s *service, chain ...interceptors.ServerOption) testpb.TestServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(interceptors.ServerOptions(append(chain, interceptors.WithoutLogging())...)...)
	testpb.RegisterTestServiceServer(server, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), append(interceptors.DialOptions(interceptors.WithoutLogging()), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return testpb.NewTestServiceClient(conn)
}

var calls = map[string]func(context.Context, testpb.TestServiceClient) error{
	"unary": func(ctx context.Context, c testpb.TestServiceClient) error {
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	},
	"client_stream": func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		_, err = cs.CloseAndRecv()
		return err
	},
	"server_stream": func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		if err != nil {
			return err
		}
		return end(cs.Recv())
	},
	"bidi_stream": func(ctx context.Context, c testpb.TestServiceClient) error {
		cs, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		return end(cs.Recv())
	},
}

func end(_ *testpb.StreamingOutputCallResponse, err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func bearing(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func TestEndToEnd(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(nil)
	chain := []interceptors.ServerOption{interceptors.Authenticate(v),
		interceptors.Authorize(interceptors.Allow("/grpc.testing.TestService/*", interceptors.Scope("users.read"), interceptors.Role("admin")))}
	able := claims{"scope": "openid users.read", "roles": []string{"admin"}, "tenant_id": "acme"}
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			s := &service{seen: make(chan propagation.Identity, 1)}
			client := serve(t, s, chain...)
			if err := call(bearing(limit(t), signed(t, able)), client); err != nil {
				t.Fatal(err)
			}
			if id := <-s.seen; id.UserID != "ada" || id.TenantID != "acme" || id.AuthMethod != "jwt" || !id.Verified() || time.Until(id.ExpiresAt) < 59*time.Minute {
				t.Errorf("the identity is %+v", id)
			}
			for what, test := range map[string]struct {
				token string
				want  *errors.Error
			}{
				"no scope":          {signed(t, claims{"roles": []string{"admin"}}), interceptors.ErrPermissionDenied},
				"expired":           {signed(t, claims{"exp": time.Now().Add(-time.Second).Unix()}), interceptors.ErrIdentityExpired},
				"of another issuer": {signed(t, claims{"iss": "https://id.example.org"}), interceptors.ErrUnauthenticated},
				"signed by another": {sign(t, jwt.SigningMethodRS256, otherRSA, header{"kid": "rsa"}, good(able)), interceptors.ErrUnauthenticated},
				"nobody's":          {signed(t, claims{"sub": nil}), interceptors.ErrUnauthenticated},
				"no JWT":            {"opaque", interceptors.ErrUnauthenticated},
			} {
				if err := call(bearing(limit(t), test.token), client); !errors.Is(err, test.want) || errors.Message(err) != test.want.Message() {
					t.Errorf("%s: got %v, want %v", what, err, test.want)
				}
			}
			if err := call(limit(t), client); !errors.Is(err, interceptors.ErrNoCredentials) {
				t.Errorf("without a token: got %v, want %v", err, interceptors.ErrNoCredentials)
			}
		})
	}
}

// A stream ends with its token.
func TestEndToEndExpiry(t *testing.T) {
	p := newIDP(t)
	v := p.verifier(func(c *jwtauth.Config) { c.Leeway = 500 * time.Millisecond })
	for kind, call := range calls {
		if kind == "unary" {
			continue // it is let finish
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			client := serve(t, &service{seen: make(chan propagation.Identity, 1), wait: true}, interceptors.Authenticate(v))
			expiry := time.Now().Add(time.Second).Truncate(time.Second)
			err := call(bearing(limit(t), signed(t, claims{"exp": expiry.Unix()})), client)
			if !errors.Is(err, interceptors.ErrIdentityExpired) {
				t.Errorf("got %v, want %v", err, interceptors.ErrIdentityExpired)
			}
			if after := time.Since(expiry); after < 500*time.Millisecond || after > 10*time.Second {
				t.Errorf("it ended %v after the token, want half a second", after)
			}
		})
	}
}

// While there are no keys nobody is told that their token is wrong.
func TestEndToEndOutage(t *testing.T) {
	p := newIDP(t)
	p.answers(failing)
	v := p.verifierOf(nil)
	for kind, call := range calls {
		s := &service{seen: make(chan propagation.Identity, 1)}
		client := serve(t, s, interceptors.Authenticate(v, interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*"))))
		if err := call(bearing(limit(t), signed(t, nil)), client); errors.Code(err) != codes.Unavailable || !errors.Is(err, jwtauth.ErrKeysUnavailable) {
			t.Errorf("%s: got %v, want %v", kind, err, jwtauth.ErrKeysUnavailable)
		}
	}
}
