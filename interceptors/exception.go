package interceptors

import (
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// exceptionOptIn is the variable with which OpenTelemetry moves exceptions from
// span events to logs:
// https://opentelemetry.io/docs/specs/semconv/exceptions/
const exceptionOptIn = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"

// exceptionSignals says where a server's faults are recorded in full. The zero
// value is the default: an event of the span alone.
type exceptionSignals struct{ log, noEvent bool }

func exceptionSignalsFromEnv() exceptionSignals {
	switch value := strings.TrimSpace(os.Getenv(exceptionOptIn)); value {
	case "logs":
		return exceptionSignals{log: true, noEvent: true}
	case "logs/dup":
		return exceptionSignals{log: true}
	case "":
	default:
		otel.Handle(fmt.Errorf("interceptors: %s=%q: want logs, logs/dup or nothing; exceptions are span events", exceptionOptIn, value))
	}
	return exceptionSignals{}
}

// exception records a server's fault on its span. What the caller is told is
// the span's status.
func (r *rpc) exception(span trace.Span, err error) {
	if err != nil && !r.engine().exceptions.noEvent {
		span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(exceptionAttributes(err)...))
	}
}

// logsException tells whether the access log's record of the call has the
// exception: a panic's always has.
func (r *rpc) logsException(code codes.Code) bool {
	return r.panicked || r.engine().exceptions.log && r.engine().side == ServerSide && r.failure() != nil && serverFault(code)
}

// exceptionAttributes are what happened in full, and where the error was made.
func exceptionAttributes(err error) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.ExceptionType(fmt.Sprintf("%T", rootCause(err))),
		semconv.ExceptionMessage(err.Error()),
	}
	if e, ok := errors.AsType[*errors.Error](err); ok {
		if stack := e.Stack(); stack != "" {
			attrs = append(attrs, semconv.ExceptionStacktrace(stack))
		}
	}
	return attrs
}

// rootCause is the error that the wrappers around it say more about.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
