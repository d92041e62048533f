package peers

import (
	"context"
	"io"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// service is grpc's test service; its fields are its methods. A nil one answers
// with one message, or with as many as it is sent.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary        func(context.Context) error
	clientStream func(testpb.TestService_StreamingInputCallServer) error
	serverStream func(testpb.TestService_StreamingOutputCallServer) error
	bidi         func(testpb.TestService_FullDuplexCallServer) error
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary != nil {
		if err := s.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{}, nil
}

func (s *service) StreamingInputCall(ss testpb.TestService_StreamingInputCallServer) error {
	if s.clientStream != nil {
		return s.clientStream(ss)
	}
	for {
		if _, err := ss.Recv(); err == io.EOF {
			return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
		} else if err != nil {
			return err
		}
	}
}

func (s *service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	if s.serverStream != nil {
		return s.serverStream(ss)
	}
	return ss.Send(&testpb.StreamingOutputCallResponse{})
}

func (s *service) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	if s.bidi != nil {
		return s.bidi(ss)
	}
	for {
		if _, err := ss.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}
