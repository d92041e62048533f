package faults_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/faults"
)

var kinds = []interceptors.Kind{interceptors.Unary, interceptors.ClientStream, interceptors.ServerStream, interceptors.BidiStream}

var methods = map[interceptors.Kind]string{
	interceptors.Unary:        "grpc.testing.TestService/UnaryCall",
	interceptors.ClientStream: "grpc.testing.TestService/StreamingInputCall",
	interceptors.ServerStream: "grpc.testing.TestService/StreamingOutputCall",
	interceptors.BidiStream:   "grpc.testing.TestService/FullDuplexCall",
}

const (
	messages  = 3        // of a stream, in each direction that it has
	answerLen = 64 << 10 // of each answer
)

// service answers with answerLen bytes, when before lets it.
type service struct {
	testpb.UnimplementedTestServiceServer
	before func(context.Context) error // nil: at once
}

func (s *service) begin(ctx context.Context) error {
	if s.before == nil {
		return nil
	}
	return s.before(ctx)
}

func payload() *testpb.Payload { return &testpb.Payload{Body: make([]byte, answerLen)} }

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: payload()}, s.begin(ctx)
}

func (s *service) StreamingInputCall(ss testpb.TestService_StreamingInputCallServer) error {
	for {
		if _, err := ss.Recv(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if err := s.begin(ss.Context()); err != nil {
		return err
	}
	return ss.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: messages})
}

func (s *service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
	if err := s.begin(ss.Context()); err != nil {
		return err
	}
	for range messages {
		if err := ss.Send(&testpb.StreamingOutputCallResponse{Payload: payload()}); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) FullDuplexCall(ss testpb.TestService_FullDuplexCallServer) error {
	if err := s.begin(ss.Context()); err != nil {
		return err
	}
	for {
		if _, err := ss.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.Send(&testpb.StreamingOutputCallResponse{Payload: payload()}); err != nil {
			return err
		}
	}
}

// setup is what a test has in mind of a rig.
type setup struct {
	service service
	client  []interceptors.ClientOption
	dial    []grpc.DialOption
	server  []grpc.ServerOption
}

// rig is a client and a server, recorded, with a proxy between them.
type rig struct {
	*telemetrytest.Recorder
	t      *testing.T
	proxy  *faults.Proxy
	conn   *grpc.ClientConn
	client testpb.TestServiceClient
}

// start connects the two.
func start(t *testing.T, with setup) *rig {
	t.Helper()
	r := &rig{Recorder: telemetrytest.New(t), t: t}
	// What a black hole held may reach the server when the test is about to end.
	server := grpc.NewServer(append(append(r.ServerOptions(), grpc.WaitForHandlers(true)), with.server...)...)
	testpb.RegisterTestServiceServer(server, &with.service)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	r.proxy, err = faults.NewProxy(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.proxy.Close)
	quick := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond}
	r.conn, err = grpc.NewClient("passthrough:///"+r.proxy.Addr(), slices.Concat(r.DialOptions(with.client...), []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}),
	}, with.dial)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.conn.Close() })
	r.client = testpb.NewTestServiceClient(r.conn)
	r.reaches(connectivity.Ready)
	return r
}

// reaches waits until the connection is in a state.
func (r *rig) reaches(want connectivity.State) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		state := r.conn.GetState()
		switch {
		case state == want:
			return
		case state == connectivity.Idle:
			r.conn.Connect()
		}
		if !r.conn.WaitForStateChange(ctx, state) {
			r.t.Fatalf("the connection is %v, want %v", state, want)
		}
	}
}

// call makes a call to its end, and returns how many messages came.
func (r *rig) call(ctx context.Context, kind interceptors.Kind, opts ...grpc.CallOption) (received int, err error) {
	switch kind {
	case interceptors.Unary:
		if _, err := r.client.UnaryCall(ctx, &testpb.SimpleRequest{}, opts...); err != nil {
			return 0, err
		}
		return 1, nil
	case interceptors.ClientStream:
		cs, err := r.client.StreamingInputCall(ctx, opts...)
		for n := 0; err == nil && n < messages; n++ {
			err = cs.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: []byte("request")}})
		}
		if cs == nil {
			return 0, err
		}
		if _, err := cs.CloseAndRecv(); err != nil {
			return 0, err
		}
		return 1, nil
	case interceptors.ServerStream:
		cs, err := r.client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{}, opts...)
		if err != nil {
			return 0, err
		}
		return drain(cs)
	case interceptors.BidiStream:
		cs, err := r.client.FullDuplexCall(ctx, opts...)
		if err != nil {
			return 0, err
		}
		for range messages {
			if cs.Send(&testpb.StreamingOutputCallRequest{}) != nil {
				break // Recv tells why
			}
			if _, err := cs.Recv(); err != nil {
				return received, err
			}
			received++
		}
		_ = cs.CloseSend()
		more, err := drain(cs)
		return received + more, err
	}
	panic(kind)
}

func drain(cs interface {
	Recv() (*testpb.StreamingOutputCallResponse, error)
}) (received int, err error) {
	for {
		if _, err := cs.Recv(); err == io.EOF {
			return received, nil
		} else if err != nil {
			return received, err
		}
		received++
	}
}

// slack is how much later than it should a call may end: the machine may be busy.
const slack = 2 * time.Second

// story is what a call is to the caller and to those who read its telemetry.
type story struct {
	code            codes.Code
	received        int          // messages that came
	attempts        []codes.Code // how they ended
	stopped         string       // why there was no other one
	atLeast, atMost time.Duration
}

// tell makes the only call of a rig, and checks that it and its telemetry are as in want. When
// the call has ended, after puts the network in order, so that the server may learn of it.
func (r *rig) tell(kind interceptors.Kind, want story, after func(), opts ...grpc.CallOption) {
	r.t.Helper()
	begun := time.Now()
	received, err := r.call(context.Background(), kind, opts...)
	took := time.Since(begun)
	if took < want.atLeast || took > want.atMost+slack {
		r.t.Errorf("it took %v, want %v to %v, and no more than %v on a busy machine", took, want.atLeast, want.atMost, want.atMost+slack)
	}
	if after != nil {
		after()
	}
	r.idle()
	if got := errors.Code(err); got != want.code || received != want.received {
		r.t.Errorf("the caller got %d messages and %v, want %d and %v", received, err, want.received, want.code)
	}
	span := r.Spans().Named(methods[kind]).Kind(trace.SpanKindClient).One()
	span.Root().Has(attribute.String("rpc.response.status_code", codeName(want.code)))
	records := 0
	for _, record := range r.Logs().All() {
		if record.SpanID() == span.SpanContext().SpanID() {
			records++
		}
	}
	if records != 1 {
		r.t.Errorf("%d log records of the call, want 1", records)
	}
	r.checkAttempts(span, want)
	if n := r.Metric("rpc.client.call.duration").HistogramCount(attribute.String("rpc.response.status_code", codeName(want.code))); n != 1 {
		r.t.Errorf("%d durations of %v, want 1; %s", n, want.code, r.Metric("rpc.client.call.duration"))
	}
	stopped := r.Metric("rpcscope.client.retries.stopped")
	switch want.stopped {
	case "":
		if n := stopped.Counter(); n != 0 {
			r.t.Errorf("%d retries were stopped, want none; %s", n, stopped)
		}
	default:
		span.Has(attribute.String("rpcscope.retry.stopped", want.stopped))
		if n := stopped.Counter(attribute.String("rpcscope.retry.stopped", want.stopped)); n != 1 {
			r.t.Errorf("%d retries were stopped for %s, want 1; %s", n, want.stopped, stopped)
		}
	}
}

// checkAttempts checks that the attempts are children of the call's span, in order and each
// with the code of the one before as its cause, that the server's spans are theirs, and that
// they are counted.
func (r *rig) checkAttempts(call telemetrytest.Span, want story) {
	r.t.Helper()
	spans := r.Spans().Named("Attempt." + call.Name()).All()
	slices.SortFunc(spans, func(a, b telemetrytest.Span) int {
		return int(a.Attr("previous-rpc-attempts").AsInt64() - b.Attr("previous-rpc-attempts").AsInt64())
	})
	var got, wanted []string
	parents := map[trace.SpanID]bool{}
	for n, span := range spans {
		span.ChildOf(call)
		parents[span.SpanContext().SpanID()] = true
		ended := span.Attr("rpc.response.status_code").AsString()
		if n > 0 {
			ended = span.Attr("rpcscope.retry.cause").AsString() + " > " + ended
		}
		got = append(got, ended)
	}
	for n, code := range want.attempts {
		ended := codeName(code)
		if n > 0 {
			ended = codeName(want.attempts[n-1]) + " > " + ended
		}
		wanted = append(wanted, ended)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		r.t.Errorf("attempts, each after its cause (-want +got):\n%s", diff)
	}
	for _, server := range r.Spans().Named(call.Name()).Kind(trace.SpanKindServer).All() {
		if !parents[server.Parent().SpanID()] {
			r.t.Error("a span of the server is not the child of an attempt")
		}
	}
	counted := r.Metric("rpcscope.client.attempts")
	initial, retries := counted.Counter(attribute.String("rpcscope.attempt", "initial")), counted.Counter(attribute.String("rpcscope.attempt", "retry"))
	if initial != 1 || retries != int64(len(want.attempts)-1) {
		r.t.Errorf("%d first attempts and %d retries are counted, want 1 and %d; %s", initial, retries, len(want.attempts)-1, counted)
	}
}

// idle waits until no call is in flight on either side.
func (r *rig) idle() {
	r.t.Helper()
	r.eventually("calls in flight", func() int64 {
		return r.Metric("rpcscope.client.active_calls").Counter() + r.Metric("rpcscope.server.active_calls").Counter()
	}, 0)
}

// eventually waits for a number that nobody tells of when it changes.
func (r *rig) eventually(what string, get func() int64, want int64) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		got := get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: %d, want %d", what, got, want)
		}
	}
}

// codeName is a code's name as telemetry has it.
func codeName(code codes.Code) string {
	if code == codes.OK {
		return "OK"
	}
	var name strings.Builder
	for n, c := range code.String() {
		if n > 0 && 'A' <= c && c <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(c)
	}
	return strings.ToUpper(name.String())
}

// refuse takes the server away, and waits until gRPC has noticed.
func (r *rig) refuse() {
	r.t.Helper()
	r.proxy.Refuse()
	r.reaches(connectivity.TransientFailure)
}
