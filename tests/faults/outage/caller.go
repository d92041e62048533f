package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// order is what a caller's process is told on its standard input. It answers with a result.
type order struct {
	Setup  int // of setups
	Target string
	Begin  time.Time
	Lasts  time.Duration
}

// call is one, as the caller's code saw it.
type call struct {
	At, Took time.Duration
	Code     string
}

// sample is what a caller is at a time of the run.
type sample struct {
	At                 time.Duration
	Goroutines, Active int64
	Breaker            int64 // 0 closed, 1 half-open, 2 open; -1 there is none
}

// result is all about a caller.
type result struct {
	Calls    []call
	Samples  []sample
	Left     int64 // calls that had not ended when the run was over
	Attempts map[string]int64
	Stopped  map[string]int64
	Refused  map[string]int64
	Moves    map[string]int64 // of the breaker, by the state that it came to

	// What its server was asked, which the caller does not know.
	Asked []asked
}

// serveCaller runs a caller's process.
func serveCaller(in io.Reader, out io.Writer) error {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("the order: %w", err)
	}
	r, err := o.carryOut()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func (o *order) carryOut() (*result, error) {
	m, err := newMeters()
	if err != nil {
		return nil, err
	}
	s := setups()[o.Setup]
	options := append(interceptors.DialOptions(append([]interceptors.ClientOption{
		interceptors.WithMeterProvider(m.MeterProvider()), interceptors.WithoutTracing(), interceptors.WithoutLogging(),
	}, s.suite...)...), s.dial...)
	conn, err := grpc.NewClient("passthrough:///"+o.Target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, fmt.Errorf("the caller's connection: %w", err)
	}
	c := &caller{order: *o, meters: m, client: testpb.NewTestServiceClient(conn)}
	if err := ready(conn, o.Begin); err != nil {
		return nil, err
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	return &c.result, errors.Join(conn.Close(), m.Close())
}

func ready(conn *grpc.ClientConn, by time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), by)
	defer cancel()
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("the caller's connection is %v when the run begins", state)
		}
	}
}

type caller struct {
	order
	meters *meters
	client testpb.TestServiceClient

	mu     sync.Mutex
	result result
}

// run makes the calls and takes the samples.
func (c *caller) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var calls sync.WaitGroup
	begun := 0
	next, look := time.NewTicker(interval), time.NewTicker(tick)
	defer next.Stop()
	defer look.Stop()
	<-time.After(time.Until(c.Begin))
	over := time.After(c.Lasts)
	for running := true; running; {
		select {
		case <-next.C:
			begun++
			calls.Go(func() { c.call(ctx) })
		case <-look.C:
			if err := c.sample(); err != nil {
				return err
			}
		case <-over:
			running = false
		}
	}
	ended := make(chan struct{})
	go func() {
		calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(drain):
		c.mu.Lock()
		c.result.Left = int64(begun - len(c.result.Calls))
		c.mu.Unlock()
		cancel()
		<-ended
	}
	return c.count()
}

func (c *caller) call(ctx context.Context) {
	at := time.Now()
	_, err := c.client.UnaryCall(ctx, &testpb.SimpleRequest{})
	took := time.Since(at)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Calls = append(c.result.Calls, call{at.Sub(c.Begin), took, errors.Code(err).String()})
}

func (c *caller) sample() error {
	found, err := c.meters.read()
	if err != nil {
		return err
	}
	s := sample{At: time.Since(c.Begin), Goroutines: int64(runtime.NumGoroutine()), Active: found.total("rpcscope.client.active_calls"), Breaker: -1}
	if _, ok := found["rpcscope.client.breaker.state"]; ok {
		s.Breaker = found.total("rpcscope.client.breaker.state")
	}
	c.result.Samples = append(c.result.Samples, s)
	return nil
}

// count is what the metrics say at the end.
func (c *caller) count() error {
	found, err := c.meters.read()
	if err != nil {
		return err
	}
	r := &c.result
	r.Attempts = found.by("rpcscope.client.attempts", "rpcscope.attempt")
	r.Stopped = found.by("rpcscope.client.retries.stopped", "rpcscope.retry.stopped")
	r.Refused = found.by("rpcscope.client.rejected", "rpcscope.rejected.reason")
	r.Moves = found.by("rpcscope.client.breaker.transitions", "rpcscope.breaker.to")
	return nil
}
