package errors

import (
	"strings"

	"google.golang.org/grpc/codes"
)

// defaultTexts are what strangers are told when nobody said anything better.
var defaultTexts = [...]string{
	codes.Canceled:           "request cancelled",
	codes.Unknown:            "unknown error",
	codes.InvalidArgument:    "invalid argument",
	codes.DeadlineExceeded:   "deadline exceeded",
	codes.NotFound:           "not found",
	codes.AlreadyExists:      "already exists",
	codes.PermissionDenied:   "permission denied",
	codes.ResourceExhausted:  "resource exhausted",
	codes.FailedPrecondition: "failed precondition",
	codes.Aborted:            "aborted",
	codes.OutOfRange:         "out of range",
	codes.Unimplemented:      "not implemented",
	codes.Internal:           "internal error",
	codes.Unavailable:        "service unavailable",
	codes.DataLoss:           "data loss",
	codes.Unauthenticated:    "unauthenticated",
}

func defaultText(code codes.Code) string {
	if int64(code) < int64(len(defaultTexts)) {
		return defaultTexts[code]
	}
	return defaultTexts[codes.Unknown]
}

// textOr is text fit for the wire, or the default text of the code.
func textOr(code codes.Code, text string) string {
	if text == "" {
		return defaultText(code)
	}
	return clean(text)
}

// clean is text without secrets and fit for the wire.
func clean(text string) string { return redact(valid(text)) }

// valid is text with U+FFFD for what is not UTF-8: a protobuf string cannot
// hold it, and gRPC drops all details of a status that does.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// fill replaces each {key} of template that values has, once: a value is not
// looked at again.
func fill(template string, values map[string]string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		template = rest
		if end := strings.IndexAny(rest, "{}"); end >= 0 && rest[end] == '}' {
			if value, known := values[rest[:end]]; known {
				b.WriteString(value)
				template = rest[end+1:]
				continue
			}
		}
		b.WriteByte('{')
	}
}
