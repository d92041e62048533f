package interceptors_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A reply of another type than the method's is a mistake, which no caller should
// take for a reply.
func TestResponseOfAnotherType(t *testing.T) {
	payload := &testpb.Payload{Type: 1, Body: []byte("from the cache")}
	dynamic := dynamicpb.NewMessage((&testpb.SimpleResponse{}).ProtoReflect().Descriptor())
	for _, test := range []struct {
		name     string
		response any
		next     bool // is called
		want     string
	}{
		{"instead of the handler's", payload, true, "Call.Response is *grpc_testing.Payload; want *grpc_testing.SimpleResponse"},
		{"without the handler", payload, false, "Call.Response is *grpc_testing.Payload; want grpc.testing.SimpleResponse"},
		{"no message at all", 7, true, "Call.Response is int; want *grpc_testing.SimpleResponse"},
		{"dynamic instead of the handler's", dynamic, true, ""},
		{"dynamic without the handler", dynamic, false, ""},
		{"another of the same", &testpb.SimpleResponse{}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, &stub{}, on(interceptors.ServerSide, func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
				if test.next {
					if err := next(ctx); err != nil {
						return err
					}
				}
				call.Response = test.response
				return nil
			}))
			want := codes.OK
			if test.want != "" {
				want = codes.Internal
			}
			if err := h.call(h.ctx(), interceptors.Unary); status.Code(err) != want {
				t.Errorf("the caller got %v, want %v", err, want)
			}
			h.ended(2)
			if got := h.logs.String(); !strings.Contains(got, test.want) {
				t.Errorf("logged %s, want %q in it", got, test.want)
			}
		})
	}
}

// Of a method that nobody has told protobuf of, nobody knows the type.
func TestResponseOfAMethodThatIsNotKnown(t *testing.T) {
	h := start(t, &stub{}, func(h *harness) {
		on(interceptors.ServerSide, func(_ context.Context, call *interceptors.Call, _ interceptors.Next) error {
			call.Response = wrapperspb.String("from the cache")
			return nil
		})(h)
		h.register = func(r grpc.ServiceRegistrar) {
			r.RegisterService(&grpc.ServiceDesc{ServiceName: "no.such.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
				MethodName: "Get",
				Handler: func(srv any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
					return i(ctx, &testpb.Empty{}, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/no.such.Service/Get"}, nil)
				},
			}}}, struct{}{})
		}
	})
	var reply wrapperspb.StringValue
	if err := h.conn.Invoke(h.ctx(), "/no.such.Service/Get", &testpb.Empty{}, &reply); err != nil || !proto.Equal(&reply, wrapperspb.String("from the cache")) {
		t.Errorf("the caller got {%v}, %v", &reply, err)
	}
}
