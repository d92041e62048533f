package main

import (
	"context"
	stderrors "errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	cockroach "github.com/cockroachdb/errors"
	"github.com/cockroachdb/errors/extgrpc"
	"github.com/cockroachdb/errors/grpc/middleware"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rpcscope/rpcscope/errors"
)

// A contender makes and reads errors in one library's way.
type contender struct {
	name string

	text     func(id int) error // NotFound, "user 7 does not exist"
	identity func(id int) error // the same, and callers can tell it by more than its text
	fault    func(cause error) error

	send    func(error) []byte // what a server sends, of what the handler returned
	receive func([]byte) error // what the caller gets; nil if the library does not show
	code    func(error) codes.Code
	is      func(error) bool // whether it is what identity makes
}

const (
	domain = "users.example.com"
	reason = "USER_NOT_FOUND"
)

var (
	ctx        = context.Background()
	contenders = []contender{grpcStatus, connectError, cockroachError, rpcscope}
)

var grpcStatus = contender{
	name: "status",
	text: func(id int) error { return status.Errorf(codes.NotFound, "user %d does not exist", id) },
	identity: func(id int) error {
		s, err := status.Newf(codes.NotFound, "user %d does not exist", id).WithDetails(info(id))
		if err != nil {
			panic(err)
		}
		return s.Err()
	},
	fault: func(cause error) error { return status.Errorf(codes.Internal, "internal error: %v", cause) },
	send:  func(err error) []byte { return encode(status.Convert(err)) },
	receive: func(b []byte) error {
		return status.ErrorProto(decode(b))
	},
	code: status.Code,
	is: func(err error) bool {
		for _, d := range status.Convert(err).Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				return info.GetDomain() == domain && info.GetReason() == reason
			}
		}
		return false
	},
}

var connectError = contender{
	name: "connect",
	text: func(id int) error {
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("user %d does not exist", id))
	},
	identity: func(id int) error {
		e := connect.NewError(connect.CodeNotFound, fmt.Errorf("user %d does not exist", id))
		detail, err := connect.NewErrorDetail(info(id))
		if err != nil {
			panic(err)
		}
		e.AddDetail(detail)
		return e
	},
	fault: func(cause error) error { return connect.NewError(connect.CodeInternal, cause) },
	send: func(err error) []byte {
		w := response{http.Header{}}
		if err := connectWriter.Write(w, connectRequest, err); err != nil {
			panic(err)
		}
		return []byte(w.header.Get("Grpc-Message") + w.header.Get("Grpc-Status-Details-Bin"))
	},
	code: func(err error) codes.Code { return codes.Code(connect.CodeOf(err)) },
}

var (
	connectWriter  = connect.NewErrorWriter()
	connectRequest = &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/grpc"}}}
)

// response takes the headers that connect sets.
type response struct{ header http.Header }

func (r response) Header() http.Header         { return r.header }
func (r response) Write(b []byte) (int, error) { return len(b), nil }
func (r response) WriteHeader(int)             {}

var errCockroach = cockroach.New("user does not exist")

var cockroachError = contender{
	name: "cockroachdb",
	text: func(id int) error {
		return extgrpc.WrapWithGrpcCode(cockroach.Newf("user %d does not exist", id), codes.NotFound)
	},
	identity: func(id int) error {
		return extgrpc.WrapWithGrpcCode(cockroach.Wrapf(errCockroach, "user %d", id), codes.NotFound)
	},
	fault: func(cause error) error { return extgrpc.WrapWithGrpcCode(cockroach.WithStack(cause), codes.Internal) },
	send: func(err error) []byte {
		_, err = middleware.UnaryServerInterceptor(ctx, nil, nil, func(context.Context, any) (any, error) { return nil, err })
		return encode(status.Convert(err))
	},
	receive: func(b []byte) error {
		return middleware.UnaryClientInterceptor(ctx, "", nil, nil, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				return status.ErrorProto(decode(b))
			})
	},
	code: extgrpc.GetGrpcCode,
	is:   func(err error) bool { return cockroach.Is(err, errCockroach) },
}

var (
	errNotFound = errors.Define(codes.NotFound, domain, reason, "user {id} does not exist")
	converter   = errors.NewConverter()
)

var rpcscope = contender{
	name:     "rpcscope",
	text:     func(id int) error { return errors.NotFound("user %d does not exist", id) },
	identity: func(id int) error { return errNotFound.With("id", id) },
	fault:    func(cause error) error { return errors.Internal(cause) },
	send:     func(err error) []byte { return encode(converter.Status(ctx, err)) },
	receive:  func(b []byte) error { return converter.FromRPC(ctx, status.ErrorProto(decode(b))) },
	code:     errors.Code,
	is:       func(err error) bool { return stderrors.Is(err, errNotFound) },
}

func info(id int) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Domain: domain, Reason: reason, Metadata: map[string]string{"id": fmt.Sprint(id)}}
}

func encode(s *status.Status) []byte {
	b, err := proto.Marshal(s.Proto())
	if err != nil {
		panic(err)
	}
	return b
}

func decode(b []byte) *spb.Status {
	s := new(spb.Status)
	if err := proto.Unmarshal(b, s); err != nil {
		panic(err)
	}
	return s
}
