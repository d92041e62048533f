package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// result is what a scenario takes of a call.
type result struct {
	scenario scenario
	added    float64         // allocations, in a call
	ours     float64         // alone
	theirs   float64         // alone
	times    []time.Duration // of ours alone, by round
	ratios   []float64       // to theirs, by round; empty where there is none
}

const (
	counted = 500 // calls whose allocations are counted
	rounds  = 15
	slice   = 20 * time.Millisecond // of a round, for each
)

func measure(s scenario) (_ *result, err error) {
	r := &result{scenario: s}
	if r.added, err = added(s); err != nil {
		return nil, err
	}
	a, err := newAlone(s)
	if err != nil {
		return nil, err
	}
	defer a.cancel()
	r.ours = testing.AllocsPerRun(1000, func() { err = errors.Join(err, a.ours()) })
	if a.theirs != nil {
		r.theirs = testing.AllocsPerRun(1000, func() { err = errors.Join(err, a.theirs()) })
	}
	for range rounds {
		mine, failed := timed(a.ours)
		err = errors.Join(err, failed)
		r.times = append(r.times, mine)
		if a.theirs != nil {
			peers, failed := timed(a.theirs)
			err = errors.Join(err, failed)
			r.ratios = append(r.ratios, float64(mine)/float64(peers))
		}
	}
	return r, err
}

// added is how many allocations a call takes more with the scenario's
// interceptor than with its base.
func added(s scenario) (float64, error) {
	with, err := allocations(s, s.ours())
	if err != nil {
		return 0, err
	}
	base := s.base
	if base == nil {
		base = noop
	}
	without, err := allocations(s, base)
	return with - without, err
}

func allocations(s scenario, i interceptors.Interceptor) (_ float64, err error) {
	r, err := newRig(s, i)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools at a moment of its own
	if err := r.call(counted); err != nil {          // warm
		return 0, err
	}
	var samples []float64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := r.call(counted); err != nil {
			return 0, err
		}
		runtime.ReadMemStats(&after)
		samples = append(samples, float64(after.Mallocs-before.Mallocs)/counted)
	}
	return slices.Min(samples), nil
}

// recording are options with which the engine records every call as ever: what an
// interceptor adds to span and log is its own.
func recording[T any]() []T {
	var options []T
	for _, o := range []interceptors.Option{
		interceptors.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(dropSpans{}))),
		interceptors.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))),
		interceptors.WithPropagator(propagation.New()), interceptors.WithLogger(discard),
	} {
		options = append(options, any(o).(T))
	}
	return options
}

var discard = slog.New(slog.NewJSONHandler(io.Discard, nil))

// dropSpans is a processor without a cost of its own.
type dropSpans struct{}

func (dropSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (dropSpans) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (dropSpans) Shutdown(context.Context) error                  { return nil }
func (dropSpans) ForceFlush(context.Context) error                { return nil }

// alone is a scenario's interceptors without a connection around them.
type alone struct {
	ours, theirs func() error // theirs is nil where there is none
	cancel       context.CancelFunc
}

func newAlone(s scenario) (*alone, error) {
	ctx, cancel, err := incoming(s)
	if err != nil {
		return nil, err
	}
	const method = "/grpc.testing.TestService/UnaryCall"
	a, request := &alone{cancel: cancel}, s.message()

	interceptor, call := s.ours(), new(interceptors.Call)
	next := func(context.Context) error {
		call.Response = reply
		return nil
	}
	a.ours = func() error {
		*call = interceptors.Call{FullMethod: method, Side: s.side, Request: request} // it belongs to the engine
		return interceptor(ctx, call, next)
	}
	switch {
	case s.client != nil:
		client, out := s.client(), new(testpb.SimpleResponse)
		invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
		a.theirs = func() error { return client(ctx, method, request, out, nil, invoker) }
	case s.theirs != nil:
		server, info := s.theirs(), &grpc.UnaryServerInfo{FullMethod: method}
		handler := func(context.Context, any) (any, error) { return reply, nil }
		a.theirs = func() error {
			_, err := server(ctx, request, info, handler)
			return err
		}
	}
	return a, nil
}

// timed is the time of one run, of many that take a slice together.
func timed(run func() error) (time.Duration, error) {
	start := time.Now()
	for n := 1; ; n++ {
		if err := run(); err != nil {
			return 0, err
		}
		if n%64 == 0 { // the clock is slower than some of what runs
			if elapsed := time.Since(start); elapsed >= slice {
				return elapsed / time.Duration(n), nil
			}
		}
	}
}

// quantile interpolates between the two values that are nearest.
func quantile[T ~int64 | ~float64](values []T, q float64) float64 {
	values = slices.Sorted(slices.Values(values))
	at := q * float64(len(values)-1)
	below := int(at)
	above := min(below+1, len(values)-1)
	return float64(values[below]) + (at-float64(below))*float64(values[above]-values[below])
}
