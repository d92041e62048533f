package propagation

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"

	otelprop "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// TrustFunc reports whether identity and baggage in carrier may be believed. It
// is called with the context given to [Propagator.Extract], at most once for
// each extraction and only if there is something to decide about, and must be
// safe for concurrent use.
//
// A TrustFunc of your own finds out who sent the carrier with [peer.FromContext],
// behind a gRPC server and behind [Propagator.Handler] alike: Addr is the other
// end of the connection, AuthInfo a [credentials.TLSInfo] if it is encrypted.
// Neither is taken from a header: X-Forwarded-For says what the peer wants it to
// say.
type TrustFunc func(ctx context.Context, carrier otelprop.TextMapCarrier) bool

// TrustNone trusts nobody. It is the default.
func TrustNone(context.Context, otelprop.TextMapCarrier) bool { return false }

// TrustAll trusts every peer. It is for a service that only a trusted network
// reaches, and for tests.
func TrustAll(context.Context, otelprop.TextMapCarrier) bool { return true }

// TrustPeers trusts the peers whose address is in one of prefixes: the direct
// peer, so with a proxy in front it is the proxy that is trusted or not.
//
// IPv4-mapped IPv6 addresses count as IPv4, and zones are ignored. A peer
// without an IP address, on a Unix socket for one, is not trusted. An invalid
// prefix contains nobody.
func TrustPeers(prefixes ...netip.Prefix) TrustFunc {
	trusted := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		trusted = append(trusted, p)
	}
	return func(ctx context.Context, _ otelprop.TextMapCarrier) bool {
		addr, ok := peerAddr(ctx)
		if !ok {
			return false
		}
		for _, p := range trusted {
			if p.Contains(addr) {
				return true
			}
		}
		return false
	}
}

// TrustMTLS trusts the peers that showed a client certificate which the server
// verified and match accepts; a nil match accepts every verified certificate.
// What match gets is the leaf, which it must not modify.
//
// Verified means that the chain was built by crypto/tls, so the server needs
// [crypto/tls.RequireAndVerifyClientCert] or VerifyClientCertIfGiven. A
// certificate the server only asked for is not trusted.
func TrustMTLS(match func(leaf *x509.Certificate) bool) TrustFunc {
	return func(ctx context.Context, _ otelprop.TextMapCarrier) bool {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return false
		}
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
			return false
		}
		return match == nil || match(info.State.VerifiedChains[0][0])
	}
}

// peerAddr returns the address of the peer in a form that prefixes match.
func peerAddr(ctx context.Context) (netip.Addr, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}, false
	}
	var addr netip.Addr
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		addr = tcp.AddrPort().Addr()
	} else if ap, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone(""), addr.IsValid()
}
