package interceptors_test

import (
	"context"
	stderrors "errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// complaint is a ValidationError as protoc-gen-validate generates it.
type complaint struct {
	field, reason string
	cause         error
}

func (c complaint) Field() string  { return c.field }
func (c complaint) Reason() string { return c.reason }
func (c complaint) Cause() error   { return c.cause }
func (c complaint) Error() string {
	return fmt.Sprintf("invalid SimpleRequest.%s: %s", c.field, c.reason)
}

// complaints is a MultiError as protoc-gen-validate generates it.
type complaints []error

func (c complaints) AllErrors() []error { return c }
func (c complaints) Error() string      { return fmt.Sprint([]error(c)) }

// checked is a message that validates itself.
type checked struct {
	*testpb.SimpleRequest
	err error
}

func (c *checked) Validate() error { return c.err }

// checkedAll is one of protoc-gen-validate since 0.6.2.
type checkedAll struct {
	checked
	all error
}

func (c *checkedAll) ValidateAll() error { return c.all }

// demanding is a message whose method does not look whether it is nil, of a type
// that makes messages as generated ones do.
type demanding struct{ *testpb.SimpleRequest }

func (d *demanding) Validate() error {
	if d.GetResponseSize() == 0 {
		return complaint{field: "ResponseSize", reason: "value is required"}
	}
	return nil
}

func (d *demanding) ProtoReflect() protoreflect.Message {
	if d == nil {
		return ofDemanding{(*testpb.SimpleRequest)(nil).ProtoReflect()}
	}
	return ofDemanding{d.SimpleRequest.ProtoReflect()}
}

type ofDemanding struct{ protoreflect.Message }

func (m ofDemanding) New() protoreflect.Message { return ofDemanding{m.Message.New()} }
func (m ofDemanding) Interface() protoreflect.ProtoMessage {
	return &demanding{m.Message.Interface().(*testpb.SimpleRequest)}
}

func request() *testpb.SimpleRequest { return &testpb.SimpleRequest{} }

// validated is what a unary call ends with whose request is msg.
func validated(t *testing.T, msg any, v ...interceptors.Validator) error {
	t.Helper()
	passed := false
	err := interceptors.Validate(v...)(t.Context(), &interceptors.Call{Request: msg}, func(context.Context) error {
		passed = true
		return nil
	})
	if passed != (err == nil) {
		t.Errorf("passed: %v, with %v", passed, err)
	}
	return err
}

func fields(err error) (fields []string) {
	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	for _, f := range bad.GetFieldViolations() {
		fields = append(fields, f.GetField()+" "+f.GetReason()+" "+f.GetDescription())
	}
	return fields
}

// What messages and validators say, and what becomes of it.
func TestValidateErrors(t *testing.T) {
	short := complaint{field: "ResponseSize", reason: "value must be greater than 0"}
	errBusy := errors.Unavailable("the directory is busy")
	plain := stderrors.New("row 7 of users is broken")
	says := func(err error) []interceptors.Validator {
		return []interceptors.Validator{interceptors.ValidatorFunc(func(context.Context, any) error { return err })}
	}
	many := make(complaints, 1000)
	for i := range many {
		many[i] = short
	}
	for _, test := range []struct {
		name       string
		msg        any
		validators []interceptors.Validator
		code       codes.Code
		invalid    bool // is ErrInvalid
		message    string
		fields     []string
	}{
		{name: "valid", msg: &checked{SimpleRequest: request()}},
		{name: "without a method", msg: request()},
		{name: "nil", msg: nil},
		{name: "nil of its type", msg: (*testpb.SimpleRequest)(nil)},
		{name: "nil, which is empty on the wire", msg: (*demanding)(nil), code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value is required", fields: []string{"response_size INVALID value is required"}},
		{name: "not nil", msg: &demanding{&testpb.SimpleRequest{ResponseSize: 1}}},
		{name: "no protocol buffer", msg: "text"},
		{name: "nil validator", msg: &checked{request(), short}, validators: []interceptors.Validator{nil}, code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value must be greater than 0",
			fields:  []string{"response_size INVALID value must be greater than 0"}},
		{name: "one field", msg: &checked{request(), short}, code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value must be greater than 0",
			fields:  []string{"response_size INVALID value must be greater than 0"}},
		{name: "all, not the first", msg: &checkedAll{checked{request(), short}, complaints{short, complaint{field: "Payload", reason: "value is required"}}},
			code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value must be greater than 0, and 1 more",
			fields:  []string{"response_size INVALID value must be greater than 0", "payload INVALID value is required"}},
		{name: "all is well, whatever the first says", msg: &checkedAll{checked: checked{request(), short}}},
		{name: "a field of a field", msg: &checked{request(), complaint{"Payload", "embedded message failed validation", complaints{complaint{field: "Body", reason: "too long"}, complaint{field: "Type", reason: "no such type"}}}},
			code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: payload.body: too long, and 1 more",
			fields:  []string{"payload.body INVALID too long", "payload.type INVALID no such type"}},
		{name: "a cause that says nothing of fields", msg: &checked{request(), complaint{"Payload", "no payload", plain}},
			code: codes.InvalidArgument, invalid: true, message: "the message is invalid: payload: no payload", fields: []string{"payload INVALID no payload"}},
		{name: "an index", msg: &checked{request(), complaint{field: "Payload[3]", reason: "too long"}},
			code: codes.InvalidArgument, invalid: true, message: "the message is invalid: payload[3]: too long", fields: []string{"payload[3] INVALID too long"}},
		{name: "an unknown field", msg: &checked{request(), complaint{field: "Other", reason: "too long"}},
			code: codes.InvalidArgument, invalid: true, message: "the message is invalid: Other: too long", fields: []string{"Other INVALID too long"}},
		{name: "joined and wrapped", msg: request(), validators: says(fmt.Errorf("checks: %w", stderrors.Join(short, complaint{field: "FillUsername", reason: "no"}))),
			code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value must be greater than 0, and 1 more",
			fields:  []string{"response_size INVALID value must be greater than 0", "fill_username INVALID no"}},
		{name: "the message's own text", msg: &checked{request(), stderrors.New("either a size or a payload")}, code: codes.InvalidArgument, invalid: true,
			message: "either a size or a payload"},
		{name: "a validator's private text", msg: request(), validators: says(plain), code: codes.InvalidArgument, invalid: true, message: "the message is invalid"},
		{name: "another code", msg: request(), validators: says(errBusy), code: codes.Unavailable, message: "the directory is busy"},
		{name: "another code, of a message", msg: &checked{request(), status.Error(codes.OutOfRange, "too far")}, code: codes.OutOfRange, message: "too far"},
		{name: "a context's error", msg: request(), validators: says(fmt.Errorf("asking: %w", context.DeadlineExceeded)), code: codes.DeadlineExceeded, message: "deadline exceeded"},
		{name: "fields of its own", msg: request(), validators: says(interceptors.ErrInvalid.WithField("payload.body", "TOO_LONG", "at most 9 bytes")),
			code: codes.InvalidArgument, invalid: true, message: "the message is invalid", fields: []string{"payload.body TOO_LONG at most 9 bytes"}},
		{name: "the second of two", msg: request(), validators: append(says(nil), says(errBusy)...), code: codes.Unavailable, message: "the directory is busy"},
		{name: "the first of two", msg: request(), validators: append(says(errBusy), says(short)...), code: codes.Unavailable, message: "the directory is busy"},
		{name: "a thousand", msg: &checked{request(), many}, code: codes.InvalidArgument, invalid: true,
			message: "the message is invalid: response_size: value must be greater than 0, and 99 more",
			fields:  slicesRepeat("response_size INVALID value must be greater than 0", 100)},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := validated(t, test.msg, test.validators...)
			if errors.Code(err) != test.code || errors.Is(err, interceptors.ErrInvalid) != test.invalid || errors.Message(err) != test.message {
				t.Errorf("got %v, %q, is ErrInvalid: %v; want %v, %q, %v", errors.Code(err), errors.Message(err), errors.Is(err, interceptors.ErrInvalid), test.code, test.message, test.invalid)
			}
			if diff := cmp.Diff(test.fields, fields(err)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func slicesRepeat(s string, n int) (repeated []string) {
	for range n {
		repeated = append(repeated, s)
	}
	return repeated
}

// nthMessage finds the n-th message of a call invalid, from 1.
func nthMessage(n int, err error) interceptors.Interceptor {
	return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
		seen := 0
		return interceptors.Validate(interceptors.ValidatorFunc(func(_ context.Context, msg any) error {
			if _, ok := msg.(proto.Message); !ok {
				return fmt.Errorf("the message is %T", msg)
			}
			if seen++; seen == n {
				return err
			}
			return nil
		}))(ctx, call, next)
	}
}

var errThird = interceptors.ErrInvalid.WithField("payload.body", "TOO_LONG", "at most 9 bytes")

// Every message is looked at, on a server before the handler sees it, on a client
// before it leaves; the caller can read why, and span, log and metric tell.
func TestValidateEveryMessage(t *testing.T) {
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		last := 1 // of the messages that go that way
		if kind == interceptors.ClientStream || kind == interceptors.BidiStream {
			last = 3
		}
		for n := 1; n <= last+1; n++ {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				h := start(t, &stub{}, on(side, nthMessage(n, errThird)))
				err := h.call(h.ctx(), kind)
				h.idle()
				if n > last {
					if err != nil {
						t.Errorf("the caller got %v though all messages are valid", err)
					}
					h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
					return
				}
				if !errors.Is(err, interceptors.ErrInvalid) || status.Code(err) != codes.InvalidArgument {
					t.Errorf("the caller got %v, want ErrInvalid", err)
				}
				if diff := cmp.Diff([]string{"payload.body TOO_LONG at most 9 bytes"}, fields(err)); diff != "" {
					t.Errorf("the caller's violations (-want +got):\n%s", diff)
				}
				seen := attrs(h.span(spanKind(side)).Attributes())
				record := recordsOf(t, h, side.String()+" call")[0]
				if diff := cmp.Diff([]any{[]string{"payload.body"}, "invalid"}, []any{seen["rpcscope.invalid.fields"], seen["rpcscope.rejected.reason"]}); diff != "" {
					t.Errorf("on the span (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]any{[]any{"payload.body"}, "invalid"}, []any{record["rpcscope.invalid.fields"], record["rpcscope.rejected.reason"]}); diff != "" {
					t.Errorf("in the log (-want +got):\n%s", diff)
				}
				counted := map[string]int64{}
				if side == interceptors.ServerSide {
					counted["invalid"] = 1
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", counted)
			})
		}
	})
}

// What is invalid does not reach the other end, nor does what would come after.
func TestValidateKeepsInvalidMessagesAway(t *testing.T) {
	for _, side := range []interceptors.Side{interceptors.ServerSide, interceptors.ClientSide} {
		t.Run(side.String(), func(t *testing.T) {
			received := make(chan int, 1)
			h := start(t, &stub{bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
				n := 0
				for {
					if _, err := ss.Recv(); err != nil {
						received <- n
						return err
					}
					n++
				}
			}}, on(side, nthMessage(3, errThird)))
			stream, err := h.client.FullDuplexCall(h.ctx())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			third := stream.Send(&testpb.StreamingOutputCallRequest{})
			if side == interceptors.ClientSide && !errors.Is(third, interceptors.ErrInvalid) {
				t.Errorf("sending it got %v, want ErrInvalid", third)
			}
			if err := drain(stream); !errors.Is(err, interceptors.ErrInvalid) {
				t.Errorf("the caller got %v, want ErrInvalid", err)
			}
			if n := <-received; n > 2 || side == interceptors.ServerSide && n != 2 {
				t.Errorf("the handler received %d messages, want 2", n)
			}
			h.idle()
		})
	}
}

// Messages validate themselves also on streams, on both sides.
func TestValidateStreamsByDefault(t *testing.T) {
	err := complaint{field: "Payload", reason: "value is required"}
	h := start(t, &stub{}, func(h *harness) {
		h.clients, h.servers = append(h.clients, interceptors.Validate()), append(h.servers, interceptors.Validate())
		h.grpc = append(h.grpc, grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			return ss.RecvMsg(&checked{request(), err})
		}))
	})
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	for side, method := range map[string]string{"client": bidiMethod, "server": "/other.Service/Talk"} {
		stream, failed := h.conn.NewStream(h.ctx(), desc, method)
		if failed != nil {
			t.Fatal(failed)
		}
		msg := proto.Message(request())
		if side == "client" {
			msg = &checked{request(), err}
		}
		_ = stream.SendMsg(msg)
		got := stream.RecvMsg(&testpb.SimpleResponse{})
		if !errors.Is(got, interceptors.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", side, got)
		}
		if diff := cmp.Diff([]string{"payload INVALID value is required"}, fields(got)); diff != "" {
			t.Errorf("%s: violations (-want +got):\n%s", side, diff)
		}
	}
	h.idle()
}

// A fault of the validator's is no refusal, and its panic is one of the server's.
func TestValidatorFails(t *testing.T) {
	for _, kind := range kinds {
		for name, test := range map[string]struct {
			validate func() error
			code     codes.Code
			panics   int64
		}{
			"unavailable": {func() error { return errors.Unavailable("no directory") }, codes.Unavailable, 0},
			"internal":    {func() error { return errors.Internal(stderrors.New("no rules")) }, codes.Internal, 0},
			"panic":       {func() error { panic("validator") }, codes.Internal, 1},
		} {
			t.Run(kind.String()+"/"+name, func(t *testing.T) {
				h := start(t, &stub{}, on(interceptors.ServerSide, interceptors.Validate(interceptors.ValidatorFunc(func(context.Context, any) error { return test.validate() }))))
				if err := h.call(h.ctx(), kind); status.Code(err) != test.code || strings.Contains(err.Error(), "validator") {
					t.Errorf("the caller got %v, want %v", err, test.code)
				}
				h.counted("rpcscope.server.rejected", "rpcscope.rejected.reason", map[string]int64{})
				var panics int64
				for _, n := range h.tally("rpcscope.server.panics", "rpc.method") {
					panics += n
				}
				if panics != test.panics {
					t.Errorf("%d panics counted, want %d", panics, test.panics)
				}
				if got := attrs(h.span(trace.SpanKindServer).Attributes())["rpcscope.rejected.reason"]; got != nil {
					t.Errorf("the span has the reason %v", got)
				}
			})
		}
	}
}

// The names of fields on the span are few and short, and no values.
func TestValidateNamesFewFields(t *testing.T) {
	long := interceptors.ErrInvalid
	for i := range 50 {
		long = long.WithField(fmt.Sprintf("labels[%d-%s]", i, strings.Repeat("ä", 200)), "X", "secret value")
	}
	h := start(t, &stub{}, on(interceptors.ServerSide, nthMessage(1, long)))
	if err := h.call(h.ctx(), interceptors.Unary); !errors.Is(err, interceptors.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	names := attrs(h.span(trace.SpanKindServer).Attributes())["rpcscope.invalid.fields"].([]string)
	if len(names) != 10 {
		t.Errorf("%d names, want 10", len(names))
	}
	for _, name := range names {
		if len(name) > 128 || strings.Contains(name, "secret") || !strings.HasPrefix(name, "labels[") || strings.ToValidUTF8(name, "?") != name {
			t.Errorf("got %q", name)
		}
	}
}

// The message is not changed, nor copied.
func TestValidateLooksOnly(t *testing.T) {
	want := &testpb.SimpleRequest{ResponseSize: 7}
	var got any
	if err := validated(t, want, interceptors.ValidatorFunc(func(_ context.Context, msg any) error { got = msg; return nil })); err != nil {
		t.Error(err)
	}
	if got != any(want) || !cmp.Equal(want, &testpb.SimpleRequest{ResponseSize: 7}, protocmp.Transform()) {
		t.Errorf("got %v, want the very message", got)
	}
}

func TestValidateConforms(t *testing.T) {
	interceptorstest.Run(t, interceptors.Validate())
	interceptorstest.Run(t, interceptors.Validate(interceptors.ValidatorFunc(func(context.Context, any) error { return nil })))
}
