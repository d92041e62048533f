package main

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/interceptors"
)

// The caller has set a deadline, which is what a server sees every day.
// go-grpc-middleware's timeout, a client's, makes another one all the same.
var timeoutCaller = scenario{
	name: "`Timeout`, the caller has a deadline",
	ours: func() interceptors.Interceptor { return interceptors.Timeout(time.Minute) },
	peer: "timeout", client: func() grpc.UnaryClientInterceptor { return timeout.UnaryClientInterceptor(time.Minute) },
	context: func(ctx context.Context) context.Context {
		return deadline{ctx, time.Now().Add(time.Hour)}
	},
}

// The caller has set none: both make a context with a timer, which is all that
// go-grpc-middleware's does, and what ours is held against.
var timeoutDefault = scenario{
	name: "`Timeout`, the caller has none",
	ours: func() interceptors.Interceptor { return interceptors.Timeout(time.Minute) },
	peer: "timeout", client: func() grpc.UnaryClientInterceptor { return timeout.UnaryClientInterceptor(time.Minute) },
	base: func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return next(ctx)
	},
}

// deadline is a context with one, without a timer that somebody would have to
// stop: the server has its own.
type deadline struct {
	context.Context
	at time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }
