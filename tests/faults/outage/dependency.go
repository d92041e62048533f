package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/tests/faults"
)

// dependency is what one caller calls.
type dependency struct {
	testpb.UnimplementedTestServiceServer
	state  atomic.Int64 // a condition
	meters *meters
	server *grpc.Server
	proxy  *faults.Proxy
	served chan error

	asked []asked // live's
}

// asked is how many calls the server had in all at a time of the run.
type asked struct {
	At    time.Duration
	Calls int64
}

func newDependency() (*dependency, error) {
	m, err := newMeters()
	if err != nil {
		return nil, err
	}
	d := &dependency{meters: m, served: make(chan error, 1)}
	d.server = grpc.NewServer(interceptors.ServerOptions(interceptors.WithMeterProvider(m.MeterProvider()), interceptors.WithoutTracing(), interceptors.WithoutLogging())...)
	testpb.RegisterTestServiceServer(d.server, d)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the dependency's address: %w", err)
	}
	go func() { d.served <- d.server.Serve(listener) }()
	d.proxy, err = faults.NewProxy(listener.Addr().String())
	if err != nil {
		d.server.Stop()
		return nil, err
	}
	return d, nil
}

func (d *dependency) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	<-time.After(work)
	if condition(d.state.Load()) == failing {
		return nil, status.Error(codes.Unavailable, "out of order")
	}
	return &testpb.SimpleResponse{}, nil
}

func (d *dependency) become(c condition) {
	d.state.Store(int64(c))
	var weather faults.Weather
	if c == slow {
		weather = slowly
	}
	d.proxy.Set(weather)
}

// live goes through the phases, and takes samples until ctx is done.
func (d *dependency) live(ctx context.Context, p plan, begin time.Time) error {
	look := time.NewTicker(tick)
	defer look.Stop()
	for n := 0; ; {
		var next <-chan time.Time
		if n < len(p) {
			from, _ := p.window(n)
			next = time.After(time.Until(begin.Add(from)))
		}
		select {
		case <-next:
			// The same moment ends a phase for the counts and for the calls.
			if err := d.sample(time.Since(begin)); err != nil {
				return err
			}
			d.become(p[n].State)
			n++
		case <-look.C:
			if err := d.sample(time.Since(begin)); err != nil {
				return err
			}
		case <-ctx.Done():
			return d.sample(time.Since(begin))
		}
	}
}

// sample notes what the server was asked so far.
func (d *dependency) sample(at time.Duration) error {
	found, err := d.meters.read()
	if err != nil {
		return err
	}
	d.asked = append(d.asked, asked{at, found.total("rpc.server.call.duration")})
	return nil
}

func (d *dependency) close() error {
	d.proxy.Close()
	d.server.Stop()
	if err := <-d.served; err != nil {
		return fmt.Errorf("the dependency: %w", err)
	}
	return d.meters.Close()
}
