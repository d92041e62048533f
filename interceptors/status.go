package interceptors

import (
	"log/slog"
	"strconv"

	"google.golang.org/grpc/codes"
)

var codeNames = [...]string{
	codes.OK:                 "OK",
	codes.Canceled:           "CANCELLED",
	codes.Unknown:            "UNKNOWN",
	codes.InvalidArgument:    "INVALID_ARGUMENT",
	codes.DeadlineExceeded:   "DEADLINE_EXCEEDED",
	codes.NotFound:           "NOT_FOUND",
	codes.AlreadyExists:      "ALREADY_EXISTS",
	codes.PermissionDenied:   "PERMISSION_DENIED",
	codes.ResourceExhausted:  "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Aborted:            "ABORTED",
	codes.OutOfRange:         "OUT_OF_RANGE",
	codes.Unimplemented:      "UNIMPLEMENTED",
	codes.Internal:           "INTERNAL",
	codes.Unavailable:        "UNAVAILABLE",
	codes.DataLoss:           "DATA_LOSS",
	codes.Unauthenticated:    "UNAUTHENTICATED",
}

// undefinedCode is the first of the codes that gRPC does not define.
const undefinedCode = codes.Code(len(codeNames))

// other stands for a value that is not one of a known few (OpenTelemetry's
// word for it).
const other = "_OTHER"

// codeName is the code as the semantic conventions write it.
func codeName(code codes.Code) string {
	if code < undefinedCode {
		return codeNames[code]
	}
	return "CODE(" + strconv.FormatUint(uint64(code), 10) + ")"
}

// boundedCodeName is codeName where the peer must not choose the value: codes
// that gRPC does not define are all one (rule 16).
func boundedCodeName(code codes.Code) string {
	if code < undefinedCode {
		return codeNames[code]
	}
	return other
}

// serverFault tells whether the code means that the server, not its caller,
// did something wrong (rule 18, and the gRPC part of OpenTelemetry's semantic
// conventions).
func serverFault(code codes.Code) bool {
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// failed tells whether a span of that side has status Error.
func failed(side Side, code codes.Code) bool {
	if side == ClientSide {
		return code != codes.OK
	}
	return serverFault(code)
}

// levelOf is the level of the access log: what an operator must look at is an
// error, what a caller should look at a warning, and what belongs to every day
// information. That a client's call went well is for debugging: the server that
// it was made for has its own record, and the one that was called too.
func levelOf(side Side, code codes.Code) slog.Level {
	if side == ClientSide && code == codes.OK {
		return slog.LevelDebug
	}
	switch code {
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists:
		return slog.LevelInfo
	case codes.DeadlineExceeded, codes.PermissionDenied, codes.ResourceExhausted, codes.FailedPrecondition,
		codes.Aborted, codes.OutOfRange, codes.Unauthenticated:
		return slog.LevelWarn
	}
	return slog.LevelError
}
