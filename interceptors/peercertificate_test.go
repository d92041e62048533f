package interceptors_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// issue makes a certificate for name, signed by ca, or by itself where that is nil.
func issue(t *testing.T, name string, ca *tls.Certificate, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{netip.MustParseAddr("127.0.0.1").AsSlice()},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: until, IsCA: ca == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Over real TLS on loopback.
func TestPeerCertificate(t *testing.T) {
	later := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	ca, stranger := issue(t, "ca", nil, later), issue(t, "stranger", nil, later)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	server := issue(t, "users", ca, later)
	billing := issue(t, "billing", ca, later)

	plain := func(leaf *x509.Certificate) (propagation.Identity, error) {
		if leaf.Subject.CommonName != "billing" {
			return propagation.Identity{}, errors.New("who is " + leaf.Subject.CommonName)
		}
		return propagation.Identity{UserID: leaf.Subject.CommonName}, nil
	}
	tests := map[string]struct {
		client *tls.Certificate
		auth   tls.ClientAuthType
		who    func(*x509.Certificate) (propagation.Identity, error)
		code   codes.Code
		reason string
		want   propagation.Identity
	}{
		"verified": {client: billing, auth: tls.RequireAndVerifyClientCert, who: plain, want: propagation.Identity{UserID: "billing", AuthMethod: "mtls", ExpiresAt: later}},
		"own words": {client: billing, auth: tls.VerifyClientCertIfGiven, who: func(*x509.Certificate) (propagation.Identity, error) {
			return propagation.Identity{AuthMethod: "spiffe", ExpiresAt: later.Add(-time.Minute)}, nil
		}, want: propagation.Identity{AuthMethod: "spiffe", ExpiresAt: later.Add(-time.Minute)}},
		"nobody one knows":  {client: issue(t, "gateway", ca, later), auth: tls.RequireAndVerifyClientCert, who: plain, code: codes.Unauthenticated, reason: "UNAUTHENTICATED"},
		"none":              {auth: tls.VerifyClientCertIfGiven, who: plain, code: codes.Unauthenticated, reason: "NO_CREDENTIALS"},
		"not verified":      {client: stranger, auth: tls.RequireAnyClientCert, who: plain, code: codes.Unauthenticated, reason: "UNAUTHENTICATED"},
		"good, not checked": {client: billing, auth: tls.RequestClientCert, who: plain, code: codes.Unauthenticated, reason: "UNAUTHENTICATED"},
	}
	for name, test := range tests {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				stub, seen := identities()
				s := grpc.NewServer(append(interceptors.ServerOptions(interceptors.WithoutLogging(), interceptors.Authenticate(interceptors.PeerCertificate(test.who))),
					grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*server}, ClientCAs: pool, ClientAuth: test.auth})))...)
				testpb.RegisterTestServiceServer(s, stub)
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				served := make(chan struct{})
				go func() {
					defer close(served)
					_ = s.Serve(listener)
				}()
				config := &tls.Config{RootCAs: pool}
				if test.client != nil {
					// Whatever authorities the server asks for.
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return test.client, nil }
				}
				conn, err := grpc.NewClient(listener.Addr().String(), append(interceptors.DialOptions(interceptors.WithoutLogging()), grpc.WithTransportCredentials(credentials.NewTLS(config)))...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					_ = conn.Close()
					s.Stop()
					<-served
				})
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				h := &harness{t: t, conn: conn, client: testpb.NewTestServiceClient(conn)}
				err = h.silent(ctx, kind)
				if _, reason := errors.Reason(err); errors.Code(err) != test.code || reason != test.reason {
					t.Fatalf("the caller got %v, want %v %s", err, test.code, test.reason)
				}
				if err != nil {
					return
				}
				got := <-seen
				if got.UserID != test.want.UserID || got.AuthMethod != test.want.AuthMethod || !got.ExpiresAt.Equal(test.want.ExpiresAt) || !got.Verified() {
					t.Errorf("the identity is %+v, want %+v, verified", got, test.want)
				}
			})
		}
	}
}

// Without TLS there is no certificate, nor without a connection.
func TestPeerCertificateWithoutTLS(t *testing.T) {
	a := interceptors.PeerCertificate(func(*x509.Certificate) (propagation.Identity, error) { return propagation.Identity{}, nil })
	h := start(t, &stub{}, onServer(interceptors.Authenticate(a)))
	if err := h.call(h.ctx(), interceptors.Unary); !errors.Is(err, interceptors.ErrNoCredentials) {
		t.Errorf("the caller got %v, want %v", err, interceptors.ErrNoCredentials)
	}
	if _, err := a.Authenticate(context.Background(), &interceptors.Call{}); !errors.Is(err, interceptors.ErrNoCredentials) {
		t.Errorf("without a connection: %v, want %v", err, interceptors.ErrNoCredentials)
	}
}
