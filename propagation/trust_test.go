package propagation_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/propagation"
)

// address is a net.Addr that is only text.
type address string

func (address) Network() string  { return "test" }
func (a address) String() string { return string(a) }

func TestRule20TrustPeersAddresses(t *testing.T) {
	for _, tt := range []struct {
		name     string
		addr     net.Addr
		prefixes []string
		want     bool
	}{
		{"inside", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 1}, []string{"10.0.0.0/8"}, true},
		{"outside", &net.TCPAddr{IP: net.IPv4(11, 1, 2, 3), Port: 1}, []string{"10.0.0.0/8"}, false},
		{"second prefix", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, []string{"192.168.0.0/16", "10.1.2.3/32"}, true},
		{"no prefix", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, nil, false},
		{"IPv6", &net.TCPAddr{IP: net.ParseIP("fd00::1")}, []string{"fd00::/8"}, true},
		{"IPv6 with a zone", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, []string{"fe80::/10"}, true},
		{"IPv4-mapped peer", address("[::ffff:10.1.2.3]:80"), []string{"10.0.0.0/8"}, true},
		{"IPv4-mapped prefix", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, []string{"::ffff:10.0.0.0/104"}, true},
		{"IPv4-mapped prefix, outside", &net.TCPAddr{IP: net.IPv4(11, 1, 2, 3)}, []string{"::ffff:10.0.0.0/104"}, false},
		{"all of IPv4", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, []string{"0.0.0.0/0"}, true},
		{"all of IPv6 is not IPv4", &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, []string{"::/0"}, false},
		{"text", address("10.1.2.3:80"), []string{"10.0.0.0/8"}, true},
		{"text without a port", address("10.1.2.3"), []string{"10.0.0.0/8"}, false},
		{"Unix socket", &net.UnixAddr{Name: "/run/x.sock", Net: "unix"}, []string{"0.0.0.0/0", "::/0"}, false},
		{"bufconn", address("bufconn"), []string{"0.0.0.0/0", "::/0"}, false},
		{"no IP", &net.TCPAddr{}, []string{"0.0.0.0/0", "::/0"}, false},
		{"no address", nil, []string{"0.0.0.0/0", "::/0"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prefixes := []netip.Prefix{{}} // an invalid one contains nobody
			for _, p := range tt.prefixes {
				prefixes = append(prefixes, netip.MustParsePrefix(p))
			}
			trust := propagation.TrustPeers(prefixes...)
			if got := trust(peer.NewContext(context.Background(), &peer.Peer{Addr: tt.addr}), nil); got != tt.want {
				t.Errorf("trusted %v, want %v", got, tt.want)
			}
			if trust(context.Background(), nil) {
				t.Error("trusted without a peer")
			}
		})
	}
}

// What a peer claims in headers about its address counts for nothing.
func TestRule20TrustPeersOverRealConnections(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix string
		want   bool
	}{
		{"inside", "127.0.0.0/8", true},
		{"outside", "10.0.0.0/8", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan who, 1)
			p := propagation.New(propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix(tt.prefix))))
			addr := serve(t, func(ctx context.Context) error { got <- whoIn(ctx); return nil }, serverOptions(p)...)
			ctx := metadata.AppendToOutgoingContext(t.Context(),
				"baggage", "user.id=u", "x-forwarded-for", "10.0.0.1", "forwarded", "for=10.0.0.1", "x-real-ip", "10.0.0.1")
			for _, kind := range kinds {
				if err := kind.call(ctx, dial(t, addr)); err != nil {
					t.Fatal(err)
				}
				if w := <-got; w.Found != tt.want || w.Verified {
					t.Errorf("%s: identity %+v, want found %v, never verified", kind.name, w, tt.want)
				}
			}
		})
	}
	t.Run("no IP address", func(t *testing.T) {
		got := make(chan who, 1)
		p := propagation.New(propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))))
		lis := bufconn.Listen(1 << 16)
		serveOn(t, lis, func(ctx context.Context) error { got <- whoIn(ctx); return nil }, serverOptions(p)...)
		c := dial(t, "passthrough:///bufconn", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
		if err := kinds[0].call(metadata.AppendToOutgoingContext(t.Context(), "baggage", "user.id=u"), c); err != nil {
			t.Fatal(err)
		}
		if w := <-got; w.Found {
			t.Errorf("identity %+v, want none", w)
		}
	})
}

func TestRule20TrustMTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server := ours.issue("server")
	named := func(name string) func(*x509.Certificate) bool {
		return func(leaf *x509.Certificate) bool { return leaf.Subject.CommonName == name }
	}
	for _, tt := range []struct {
		name   string
		auth   tls.ClientAuthType
		client *tls.Certificate
		match  func(*x509.Certificate) bool
		want   bool
	}{
		{"verified and matched", tls.RequireAndVerifyClientCert, new(ours.issue("gateway")), named("gateway"), true},
		{"verified, not matched", tls.RequireAndVerifyClientCert, new(ours.issue("gateway")), named("billing"), false},
		{"verified, no match asked", tls.RequireAndVerifyClientCert, new(ours.issue("gateway")), nil, true},
		{"verified where optional", tls.VerifyClientCertIfGiven, new(ours.issue("gateway")), named("gateway"), true},
		{"no certificate", tls.VerifyClientCertIfGiven, nil, nil, false},
		{"asked for, not verified", tls.RequireAnyClientCert, new(theirs.issue("gateway")), named("gateway"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan who, 1)
			p := propagation.New(propagation.WithTrust(propagation.TrustMTLS(tt.match)))
			opts := append(serverOptions(p), grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{server}, ClientAuth: tt.auth, ClientCAs: ours.pool,
			})))
			addr := serve(t, func(ctx context.Context) error { got <- whoIn(ctx); return nil }, opts...)
			cfg := &tls.Config{RootCAs: ours.pool}
			if tt.client != nil {
				cfg.Certificates = []tls.Certificate{*tt.client}
			}
			c := dial(t, addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
			if err := kinds[0].call(metadata.AppendToOutgoingContext(t.Context(), "baggage", "user.id=u"), c); err != nil {
				t.Fatal(err)
			}
			if w := <-got; w.Found != tt.want || w.Verified {
				t.Errorf("identity %+v, want found %v, never verified", w, tt.want)
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		got := make(chan who, 1)
		p := propagation.New(propagation.WithTrust(propagation.TrustMTLS(nil)))
		addr := serve(t, func(ctx context.Context) error { got <- whoIn(ctx); return nil }, serverOptions(p)...)
		if err := kinds[0].call(metadata.AppendToOutgoingContext(t.Context(), "baggage", "user.id=u"), dial(t, addr)); err != nil {
			t.Fatal(err)
		}
		if w := <-got; w.Found {
			t.Errorf("identity %+v, want none", w)
		}
	})
	if propagation.TrustMTLS(nil)(context.Background(), nil) {
		t.Error("trusted without a peer")
	}
}
