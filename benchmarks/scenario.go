package main

import (
	"context"
	"io"
	"strconv"
	"strings"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// scenario is one row of the table: what is called, how, and who watches.
type scenario struct {
	name       string // for -scenario
	call       call
	ratio      float64 // of the traces that are sampled
	serverOnly bool    // the client is bare
	tcp        bool    // loopback instead of a pipe in memory
	parallel   bool    // from many goroutines over one connection
	open       int     // so many streams are held open, instead of calls made
	readme     bool    // a row of the README's table too
}

var scenarios = []scenario{
	{name: "unary", call: unary, ratio: 1, readme: true},
	{name: "unary-server", call: unary, ratio: 1, serverOnly: true, readme: true},
	{name: "unary-never", call: unary, ratio: 0, readme: true},
	{name: "unary-never-server", call: unary, ratio: 0, serverOnly: true},
	{name: "unary-1%", call: unary, ratio: 0.01, readme: true},
	{name: "unary-tcp", call: unary, ratio: 1, tcp: true, readme: true},
	{name: "unary-tcp-server", call: unary, ratio: 1, tcp: true, serverOnly: true},
	{name: "unary-parallel", call: unary, ratio: 1, parallel: true, readme: true},
	{name: "unary-parallel-tcp", call: unary, ratio: 1, parallel: true, tcp: true},
	{name: "unary-parallel-never", call: unary, ratio: 0, parallel: true},
	{name: "server-stream", call: serverStream, ratio: 1, readme: true},
	{name: "server-stream-server", call: serverStream, ratio: 1, serverOnly: true, readme: true},
	{name: "server-stream-never", call: serverStream, ratio: 0},
	{name: "server-stream-tcp", call: serverStream, ratio: 1, tcp: true},
	{name: "bidi", call: bidi, ratio: 1, readme: true},
	{name: "bidi-server", call: bidi, ratio: 1, serverOnly: true},
	{name: "bidi-never", call: bidi, ratio: 0},
	{name: "bidi-tcp", call: bidi, ratio: 1, tcp: true},
	{name: "open", call: bidi, ratio: 1, open: 10_000},
}

func (s scenario) String() string {
	parts := []string{s.call.title}
	if s.open > 0 {
		parts = []string{strconv.Itoa(s.open) + " open streams"}
	}
	switch s.ratio {
	case 0:
		parts = append(parts, "never sampled")
	case 0.01:
		parts = append(parts, "1 % sampled")
	}
	if s.parallel {
		parts = append(parts, strconv.Itoa(callers)+" at once")
	}
	if s.tcp {
		parts = append(parts, "TCP")
	}
	if s.serverOnly {
		parts = append(parts, "server only")
	}
	return strings.Join(parts, ", ")
}

// call is one way to call the service, to its end.
type call struct {
	title string
	run   func(context.Context, testpb.TestServiceClient) error
}

const (
	messages = 100 // of a stream, one way
	payload  = 128 // bytes of a message
)

var body = &testpb.Payload{Body: make([]byte, payload)}

var unary = call{"unary", func(ctx context.Context, client testpb.TestServiceClient) error {
	_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: body})
	return err
}}

var serverStream = call{"server stream of 100", func(ctx context.Context, client testpb.TestServiceClient) error {
	stream, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{Payload: body})
	if err != nil {
		return err
	}
	return drain(stream)
}}

var bidi = call{"bidi stream of 100", func(ctx context.Context, client testpb.TestServiceClient) error {
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range messages {
		if err := exchange(stream); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return drain(stream)
}}

// exchange sends a message and receives the answer to it.
func exchange(stream testpb.TestService_FullDuplexCallClient) error {
	if err := stream.Send(&testpb.StreamingOutputCallRequest{Payload: body}); err != nil {
		return err
	}
	_, err := stream.Recv()
	return err
}

// drain receives until the stream ends.
func drain(stream interface {
	Recv() (*testpb.StreamingOutputCallResponse, error)
}) error {
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) UnaryCall(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if in.GetFillUsername() {
		panic("asked for") // tells who recovers
	}
	return &testpb.SimpleResponse{Payload: body}, nil
}

func (service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer) error {
	for range messages {
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: body}); err != nil {
			return err
		}
	}
	return nil
}

func (service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: body}); err != nil {
			return err
		}
	}
}
