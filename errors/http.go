package errors

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// StatusClientClosedRequest is the HTTP status of a cancelled request, which
// net/http has no name for.
const StatusClientClosedRequest = 499

var httpStatus = [...]int{
	codes.OK:                 http.StatusOK,
	codes.Canceled:           StatusClientClosedRequest,
	codes.Unknown:            http.StatusInternalServerError,
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
	codes.NotFound:           http.StatusNotFound,
	codes.AlreadyExists:      http.StatusConflict,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.FailedPrecondition: http.StatusBadRequest,
	codes.Aborted:            http.StatusConflict,
	codes.OutOfRange:         http.StatusBadRequest,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.Internal:           http.StatusInternalServerError,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DataLoss:           http.StatusInternalServerError,
	codes.Unauthenticated:    http.StatusUnauthorized,
}

// HTTPStatus is the HTTP status for a code, as google.rpc.Code documents it.
// Codes that gRPC does not define are 500.
func HTTPStatus(code codes.Code) int {
	if int64(code) < int64(len(httpStatus)) {
		return httpStatus[code]
	}
	return http.StatusInternalServerError
}
