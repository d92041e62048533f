package interceptors

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"google.golang.org/grpc/peer"

	"github.com/rpcscope/rpcscope/propagation"
)

// KeyFunc says what calls have a limit in common: those with the same key. It
// must not change the call, and is called by many goroutines at the same time.
type KeyFunc func(ctx context.Context, call *Call) string

// ByUser gives each user a limit: each verified identity with a user id, within its
// tenant. Calls without one have the key of [ByPeer], so that those who are
// anonymous neither share a limit nor escape from it. An identity that is not
// verified is that of whoever sent it, and counts for nothing here.
func ByUser(ctx context.Context, call *Call) string {
	id, _ := propagation.IdentityFromContext(ctx)
	switch {
	case !id.Verified() || id.UserID == "":
		return ByPeer(ctx, call)
	case id.TenantID == "":
		return "user:" + id.UserID
	}
	// The length keeps tenant "a", user "b:c" from being tenant "a:b", user "c".
	return "user@" + strconv.Itoa(len(id.TenantID)) + ":" + id.TenantID + ":" + id.UserID
}

// ByTenant gives the users of a tenant one limit, a tenant being that of a verified
// identity. Calls without one have the key of [ByPeer].
func ByTenant(ctx context.Context, call *Call) string {
	id, _ := propagation.IdentityFromContext(ctx)
	if !id.Verified() || id.TenantID == "" {
		return ByPeer(ctx, call)
	}
	return "tenant:" + id.TenantID
}

// ByPeer gives each address a limit, whatever the port: that of the connection,
// and so of the last proxy where there is one. Clients of a Unix socket, or of a
// listener in memory, share one, as do all calls on a client's side.
//
// Each IPv6 address counts by itself, and one customer of a provider usually has
// 2^64 of them: see [ByPeerPrefix].
func ByPeer(ctx context.Context, _ *Call) string {
	return peerKey(ctx, -1, -1)
}

// ByPeerPrefix is ByPeer for networks: of an IPv4 address the first v4 bits count,
// of an IPv6 address the first v6. ByPeerPrefix(32, 64) gives each IPv4 address
// and each /64 a limit. It panics unless v4 is 0 to 32 and v6 0 to 128.
func ByPeerPrefix(v4, v6 int) KeyFunc {
	if v4 < 0 || v4 > 32 || v6 < 0 || v6 > 128 {
		panic(fmt.Sprintf("interceptors: ByPeerPrefix(%d, %d): want 0 to 32 bits of IPv4 and 0 to 128 of IPv6", v4, v6))
	}
	return func(ctx context.Context, _ *Call) string { return peerKey(ctx, v4, v6) }
}

// peerKey is the key of the address, or of its network where bits are not negative.
func peerKey(ctx context.Context, v4, v6 int) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "peer:"
	}
	addr := addressOf(p.Addr)
	if !addr.IsValid() {
		return "peer:" + p.Addr.Network()
	}
	n := v6
	if addr.Is4() {
		n = v4
	}
	var room [64]byte
	key := append(room[:0], "peer:"...)
	if n < 0 {
		return string(addr.AppendTo(key))
	}
	prefix, _ := addr.Prefix(n) // n fits
	return string(prefix.AppendTo(key))
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		addr, _ := netip.AddrFromSlice(tcp.IP)
		return addr.Unmap()
	}
	port, _ := netip.ParseAddrPort(a.String()) // what an http.Server tells
	return port.Addr().Unmap().WithZone("")
}

// ByMethod gives each method a limit that all its callers share.
func ByMethod(_ context.Context, call *Call) string { return call.FullMethod }

// Global gives all calls one limit.
func Global(context.Context, *Call) string { return "global" }
