package main

import (
	"context"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/interceptors"
)

// A call whose messages are not logged: of a hundred one is. go-grpc-middleware
// has no such thing.
var payloadRatio = scenario{
	name:    "`LogPayloads`, not of this call",
	ours:    func() interceptors.Interceptor { return interceptors.LogPayloads(interceptors.PayloadRatio(0)) },
	request: person,
}

// Request and reply in a record each, as JSON. Three allocations are for each of the
// two: the text, the record's attributes, which are more than it has room for, and
// what the call's ids take as text.
var payloadLogged = scenario{
	name: "`LogPayloads`, request and reply",
	ours: func() interceptors.Interceptor {
		return interceptors.LogPayloads(interceptors.PayloadLogger(discard))
	},
	peer: "logging, payload events",
	theirs: func() grpc.UnaryServerInterceptor {
		return logging.UnaryServerInterceptor(logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
			discard.Log(ctx, slog.Level(level), msg, fields...)
		}), logging.WithLogOnEvents(logging.PayloadReceived, logging.PayloadSent))
	},
	request: person,
	budget:  2 * 3,
}

var person = &testpb.SimpleRequest{ResponseSize: 128, FillUsername: true, Payload: &testpb.Payload{Body: make([]byte, 128)}}
