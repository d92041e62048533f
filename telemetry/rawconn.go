package telemetry

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// rawConns remembers the connections below gRPC's, to cut them when there is no
// time left: gRPC says goodbye on closing, and waits for 5 seconds when the
// network has stopped taking bytes.
type rawConns struct {
	mu    sync.Mutex
	conns map[*rawConn]struct{} // nil once cut
}

func newRawConns() *rawConns { return &rawConns{conns: map[*rawConn]struct{}{}} }

// cut closes them all, and those to come.
func (r *rawConns) cut() {
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

func (r *rawConns) add(conn net.Conn) net.Conn {
	c := &rawConn{conn, r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		_ = conn.Close()
	} else {
		r.conns[c] = struct{}{}
	}
	return c
}

type rawConn struct {
	net.Conn
	all *rawConns
}

func (c *rawConn) Close() error {
	c.all.mu.Lock()
	delete(c.all.conns, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// credentials returns creds that add each connection they secure.
func (r *rawConns) credentials(creds credentials.TransportCredentials) credentials.TransportCredentials {
	return &rememberingCredentials{creds, r}
}

type rememberingCredentials struct {
	credentials.TransportCredentials
	conns *rawConns
}

func (c *rememberingCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.TransportCredentials.ClientHandshake(ctx, authority, c.conns.add(conn))
}

func (c *rememberingCredentials) Clone() credentials.TransportCredentials {
	return c.conns.credentials(c.TransportCredentials.Clone())
}
