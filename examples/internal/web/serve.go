package web

import (
	"context"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/interceptors"
)

const drain = 10 * time.Second

// Dial returns a connection to the users service at address. This is what a client has to do for its observability: one
// line.
func Dial(address string, by observe.By, opts ...interceptors.ClientOption) (*grpc.ClientConn, error) {
	options := interceptors.DialOptions(by.Client(opts...)...)
	return grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}

// Serve serves the web app in front of the users service at address on l, which it closes, until ctx is done.
func Serve(ctx context.Context, l net.Listener, address string, cfg Config) error {
	conn, err := Dial(address, cfg.Observe)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer conn.Close()
	app := New(conn, cfg)
	server := &http.Server{Handler: app, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	cfg.Observe.Log().InfoContext(ctx, "web app is serving", "url", "http://"+l.Addr().String()+"/")
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	app.Stop()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err = server.Shutdown(bounded)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}
