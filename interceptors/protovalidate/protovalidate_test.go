package protovalidate_test

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate" // the options of fields
	buf "buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
	"github.com/rpcscope/rpcscope/interceptors/protovalidate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// users.proto, with rules of every kind, and some that are wrong.
const usersProto = `
name: "users.proto" package: "users.v1" syntax: "proto3" dependency: "buf/validate/validate.proto"
message_type {
	name: "User"
	field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING options { [buf.validate.field] { string { min_len: 3 } } } }
	field { name: "email" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING options { [buf.validate.field] { string { email: true } ignore: IGNORE_IF_ZERO_VALUE } } }
	field { name: "friends" number: 3 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".users.v1.User" }
	field { name: "scores" number: 4 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".users.v1.User.ScoresEntry" options { [buf.validate.field] { map { values { int32 { gt: 0 } } } } } }
	field { name: "age" number: 5 label: LABEL_OPTIONAL type: TYPE_INT32 options { [buf.validate.field] { cel { id: "user.age-of.majority" message: "must be of age" expression: "this >= 18" } ignore: IGNORE_IF_ZERO_VALUE } } }
	nested_type { name: "ScoresEntry" options { map_entry: true }
		field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 } }
	options { [buf.validate.message] { cel { id: "user.no_admin" expression: "this.name == 'admin' ? 'is taken' : ''" } } }
}
message_type { name: "Uncompilable" field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING options { [buf.validate.field] { cel { id: "x" expression: "this.secret_plan(" } } } } }
message_type { name: "Mistyped" field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING options { [buf.validate.field] { int32 { gt: 0 } } } } }
message_type { name: "Dividing" field { name: "by" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 } options { [buf.validate.message] { cel { id: "x" expression: "10 / this.by > 0" } } } }
`

var users = func() protoreflect.FileDescriptor {
	file := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(usersProto), file); err != nil {
		panic(err)
	}
	d, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	return d
}()

// message is one of the file's, with fields in text format.
func message(name, text string) proto.Message {
	m := dynamicpb.NewMessage(users.Messages().ByName(protoreflect.Name(name)))
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		panic(err)
	}
	return m
}

func violations(err error) (all []string) {
	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	for _, v := range bad.GetFieldViolations() {
		all = append(all, v.GetField()+" "+v.GetReason()+": "+v.GetDescription())
	}
	return all
}

func TestNew(t *testing.T) {
	const short, shortText = "name STRING_MIN_LEN: must be at least 3 characters", "the message is invalid: name: must be at least 3 characters"
	failFast, err := buf.New(buf.WithFailFast())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		validator buf.Validator
		msg       any
		code      codes.Code
		message   string
		want      []string
	}{
		{name: "valid", msg: message("User", `name: "Ada" email: "ada@example.com" age: 36 scores { key: "x" value: 1 } friends { name: "Grace" }`)},
		{name: "no rules", msg: &durationpb.Duration{Seconds: -1, Nanos: 1}},
		{name: "no protocol buffer", msg: "Ada"},
		{name: "nil", msg: nil},
		{name: "nil message", msg: (*durationpb.Duration)(nil)},
		{name: "one field", msg: message("User", `name: "Al"`), code: codes.InvalidArgument, message: shortText, want: []string{short}},
		{name: "empty", msg: message("User", ``), code: codes.InvalidArgument, message: shortText, want: []string{short}},
		{name: "several", msg: message("User", `name: "Al" email: "al" age: 7`), code: codes.InvalidArgument, message: shortText + ", and 2 more",
			want: []string{short, "email STRING_EMAIL: must be a valid email address", "age USER_AGE_OF_MAJORITY: must be of age"}},
		{name: "fail fast", validator: failFast, msg: message("User", `name: "Al" email: "al"`), code: codes.InvalidArgument, message: shortText, want: []string{short}},
		{name: "nested", msg: message("User", `name: "Ada" friends { name: "Grace" } friends { name: "Bo" }`), code: codes.InvalidArgument,
			message: "the message is invalid: friends[1].name: must be at least 3 characters", want: []string{"friends[1].name STRING_MIN_LEN: must be at least 3 characters"}},
		{name: "a map's value", msg: message("User", `name: "Ada" scores { key: "a b" value: -1 }`), code: codes.InvalidArgument,
			message: `the message is invalid: scores["a b"]: must be greater than 0`, want: []string{`scores["a b"] INT32_GT: must be greater than 0`}},
		{name: "the message as a whole", msg: message("User", `name: "admin"`), code: codes.InvalidArgument,
			message: "the message is invalid: is taken", want: []string{" USER_NO_ADMIN: is taken"}},
		{name: "uncompilable rule", msg: message("Uncompilable", `name: "Ada"`), code: codes.Internal, message: "internal error"},
		{name: "mistyped rule", msg: message("Mistyped", `name: "Ada"`), code: codes.Internal, message: "internal error"},
		{name: "rule that cannot be evaluated", msg: message("Dividing", ``), code: codes.Internal, message: "internal error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := protovalidate.New(test.validator).Validate(t.Context(), test.msg)
			if errors.Code(err) != test.code || errors.Message(err) != test.message || errors.Is(err, interceptors.ErrInvalid) != (test.code == codes.InvalidArgument) {
				t.Errorf("got %v, %q; want %v, %q", errors.Code(err), errors.Message(err), test.code, test.message)
			}
			if diff := cmp.Diff(test.want, violations(err)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewBoundsViolations(t *testing.T) {
	err := protovalidate.New(nil).Validate(t.Context(), message("User", `name: "Ada"`+strings.Repeat(` friends {}`, 1000)))
	if got := violations(err); len(got) != 100 || got[99] != "friends[99].name STRING_MIN_LEN: must be at least 3 characters" {
		t.Errorf("%d violations, want 100", len(got))
	}
	if want := "the message is invalid: friends[0].name: must be at least 3 characters, and 999 more"; errors.Message(err) != want {
		t.Errorf("got %q, want %q", errors.Message(err), want)
	}
}

// All kinds over a connection: the caller reads what the server found, and a rule
// that is wrong is nothing that it hears of.
func TestOverAConnection(t *testing.T) {
	newUser := func() proto.Message { return message("User", "") }
	stream := func(_ any, ss grpc.ServerStream) error {
		for {
			if err := ss.RecvMsg(newUser()); err == io.EOF {
				return ss.SendMsg(message("User", `name: "Ada"`))
			} else if err != nil {
				return err
			}
		}
	}
	desc := grpc.ServiceDesc{
		ServiceName: "users.v1.Users", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "unary", Handler: func(_ any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			in := newUser()
			if err := decode(in); err != nil {
				return nil, err
			}
			return i(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/users.v1.Users/unary"}, func(context.Context, any) (any, error) { return in, nil })
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "client_stream", Handler: stream, ClientStreams: true},
			{StreamName: "server_stream", Handler: stream, ServerStreams: true},
			{StreamName: "bidi_stream", Handler: stream, ClientStreams: true, ServerStreams: true},
			{StreamName: "broken", Handler: func(_ any, ss grpc.ServerStream) error { return ss.RecvMsg(message("Uncompilable", "")) }, ClientStreams: true},
		},
	}
	server := grpc.NewServer(interceptors.ServerOptions(interceptors.Validate(protovalidate.New(nil)))...)
	server.RegisterService(&desc, nil)
	pipe, served := bufconn.Listen(1<<16), make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(interceptors.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	call := func(method string, messages ...proto.Message) error {
		if method == "unary" {
			return conn.Invoke(t.Context(), "/users.v1.Users/unary", messages[len(messages)-1], newUser())
		}
		i := 0
		for desc.Streams[i].StreamName != method {
			i++
		}
		cs, err := conn.NewStream(t.Context(), &desc.Streams[i], "/users.v1.Users/"+method)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := cs.SendMsg(m); err != nil {
				break // the status comes from RecvMsg
			}
		}
		return stderrors.Join(cs.CloseSend(), cs.RecvMsg(newUser()))
	}
	valid, invalid := message("User", `name: "Ada"`), message("User", `name: "Al"`)
	for i, method := range []string{"unary", "client_stream", "server_stream", "bidi_stream"} {
		before := []proto.Message{valid, valid}[:2*(i%2)] // where there can be several
		if err := call(method, append(before, valid)...); err != nil {
			t.Errorf("%s: a valid message: %v", method, err)
		}
		err := call(method, append(before, invalid)...)
		if !errors.Is(err, interceptors.ErrInvalid) || errors.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want ErrInvalid", method, err)
		}
		if diff := cmp.Diff([]string{"name STRING_MIN_LEN: must be at least 3 characters"}, violations(err)); diff != "" {
			t.Errorf("%s: violations (-want +got):\n%s", method, diff)
		}
	}
	err = call("broken", message("Uncompilable", `name: "Ada"`))
	if errors.Code(err) != codes.Internal || strings.Contains(fmt.Sprintf("%+v", err), "secret_plan") {
		t.Errorf("got %v, want Internal and nothing of the rule", err)
	}
}

func TestConforms(t *testing.T) {
	interceptorstest.Run(t, interceptors.Validate(protovalidate.New(nil)))
}
