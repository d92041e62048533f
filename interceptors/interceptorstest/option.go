package interceptorstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Option declares what the interceptor is meant to do, or says what calls it is
// tested with. Where the same option is given twice the last one counts, but
// for [With], of which all count.
type Option func(*suite) error

// suite is what all calls of one Run have in common.
type suite struct {
	interceptor interceptors.Interceptor
	patience    time.Duration // how long what ought to happen soon may take
	only        []string      // endings; nil: all

	sides    []interceptors.Side
	kinds    []interceptors.Kind
	method   string
	request  proto.Message
	reply    proto.Message
	context  func(context.Context) context.Context
	siblings []interceptors.Option

	rejects         codes.Code // OK: it does not
	recovers        codes.Code // OK: it does not
	mapsErrors      func(codes.Code) codes.Code
	retries         bool
	mayAnswer       bool
	changesMessages bool
}

func newSuite(i interceptors.Interceptor, opts []Option) (*suite, error) {
	if i == nil {
		return nil, errors.New("interceptorstest: the interceptor is nil; want the one to test")
	}
	s := &suite{
		interceptor: i,
		patience:    5 * time.Second,
		sides:       []interceptors.Side{interceptors.ServerSide, interceptors.ClientSide},
		kinds:       []interceptors.Kind{interceptors.Unary, interceptors.ClientStream, interceptors.ServerStream, interceptors.BidiStream},
		method:      "/rpcscope.test.Conformance/Call",
		request:     wrapperspb.String("request"),
		reply:       wrapperspb.String("reply"),
	}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o(s); err != nil {
			return nil, fmt.Errorf("interceptorstest: %w", err)
		}
	}
	return s, nil
}

// Sides tests the interceptor only where it is meant to be installed. Without
// it, both.
func Sides(sides ...interceptors.Side) Option {
	return func(s *suite) error {
		for _, side := range sides {
			if side > interceptors.ClientSide {
				return fmt.Errorf("Sides: %s; want interceptors.ServerSide or interceptors.ClientSide", side)
			}
		}
		if len(sides) == 0 {
			return errors.New("Sides: none given; want interceptors.ServerSide, interceptors.ClientSide or both")
		}
		s.sides = sides
		return nil
	}
}

// Kinds tests the interceptor only with calls of these kinds. Without it, all
// four.
func Kinds(kinds ...interceptors.Kind) Option {
	return func(s *suite) error {
		for _, kind := range kinds {
			if kind > interceptors.BidiStream {
				return fmt.Errorf("Kinds: %s; want interceptors.Unary, ClientStream, ServerStream or BidiStream", kind)
			}
		}
		if len(kinds) == 0 {
			return errors.New("Kinds: none given; want at least one of interceptors.Unary, ClientStream, ServerStream and BidiStream")
		}
		s.kinds = kinds
		return nil
	}
}

// Rejects declares that the interceptor refuses every call of the test with
// code, without calling next. To test one that refuses some calls, run it once
// with calls that it refuses and once with calls that it lets happen; see
// [WithContext] and [WithMethod].
func Rejects(code codes.Code) Option {
	return func(s *suite) error {
		s.rejects = code
		return anError("Rejects", code)
	}
}

// Recovers declares that the interceptor turns the panic of a handler into an
// error with code.
func Recovers(code codes.Code) Option {
	return func(s *suite) error {
		s.recovers = code
		return anError("Recovers", code)
	}
}

func anError(option string, code codes.Code) error {
	if code == codes.OK {
		return fmt.Errorf("%s: %s; want the code of an error", option, code)
	}
	return nil
}

// MapsErrors declares that the interceptor returns an error with code
// f(c) where next returned one with code c. Of its errors only the code is
// tested then. A nil f means that it does not.
func MapsErrors(f func(codes.Code) codes.Code) Option {
	return func(s *suite) error {
		s.mapsErrors = f
		return nil
	}
}

// Retries declares that the interceptor may call next again after it failed. The
// test then also has calls that fail with Unavailable once. All pauses and
// attempts of a call together must stay below five seconds.
func Retries() Option {
	return func(s *suite) error {
		s.retries = true
		return nil
	}
}

// MayAnswer declares that the interceptor may answer a unary call itself, by
// setting Response and returning nil without calling next, as a cache does. Such
// an answer has to be the one that the handler gives, which is always the same.
func MayAnswer() Option {
	return func(s *suite) error {
		s.mayAnswer = true
		return nil
	}
}

// ChangesMessages declares that the interceptor changes what is in requests or
// replies. Their number still has to be right.
func ChangesMessages() Option {
	return func(s *suite) error {
		s.changesMessages = true
		return nil
	}
}

// With installs opts on both sides: engine options, or interceptors that the
// tested one depends on, which then run around it. Without it calls are neither
// traced, measured nor logged, and the propagator is that of
// [github.com/rpcscope/rpcscope/propagation.New].
func With(opts ...interceptors.Option) Option {
	return func(s *suite) error {
		s.siblings = append(s.siblings, opts...)
		return nil
	}
}

// WithContext sets what the test's calls are made with: f adds outgoing
// metadata, such as a token, an identity or other values to the context. It is
// called by many goroutines at the same time. Without it, or with nil, there is
// nothing in the context.
func WithContext(f func(context.Context) context.Context) Option {
	return func(s *suite) error {
		s.context = f
		return nil
	}
}

// WithMethod sets the method that is called, "/users.v1.UserService/GetUser",
// whatever the kind; it need not exist anywhere. The default is
// "/rpcscope.test.Conformance/Call".
func WithMethod(fullMethod string) Option {
	return func(s *suite) error {
		s.method = fullMethod
		service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
		if !strings.HasPrefix(fullMethod, "/") || service == "" || method == "" || strings.Contains(method, "/") {
			return fmt.Errorf("WithMethod: %q; want \"/pkg.Service/Method\"", fullMethod)
		}
		return nil
	}
}

// WithMessages sets the messages that are sent. Each one is a copy of request
// or reply that an unknown field numbers, so that order and completeness can be
// tested with every type. The default is a google.protobuf.StringValue.
func WithMessages(request, reply proto.Message) Option {
	return func(s *suite) error {
		if request == nil || reply == nil || !request.ProtoReflect().IsValid() || !reply.ProtoReflect().IsValid() {
			return fmt.Errorf("WithMessages: %T and %T; want a request and a reply that are not nil", request, reply)
		}
		s.request, s.reply = proto.Clone(request), proto.Clone(reply)
		return nil
	}
}
