package interop_test

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// peer is what a case calls.
type peer struct {
	conn *grpc.ClientConn
	dial func() *grpc.ClientConn // another connection to the same server
}

func (p peer) client() testpb.TestServiceClient { return testpb.NewTestServiceClient(p.conn) }

const cloud = "needs a service account or an instance of Google Cloud"

// cases are the functions of grpc's package interop by name, all of them. One
// that does not run has the reason instead.
var cases = map[string]struct {
	run    func(context.Context, peer)
	reason string
}{
	"DoEmptyUnaryCall":           {run: withClient(interop.DoEmptyUnaryCall)},
	"DoLargeUnaryCall":           {run: withClient(interop.DoLargeUnaryCall)},
	"DoClientStreaming":          {run: withClient(interop.DoClientStreaming)},
	"DoServerStreaming":          {run: withClient(interop.DoServerStreaming)},
	"DoPingPong":                 {run: withClient(interop.DoPingPong)},
	"DoEmptyStream":              {run: withClient(interop.DoEmptyStream)},
	"DoTimeoutOnSleepingServer":  {run: withClient(interop.DoTimeoutOnSleepingServer)},
	"DoCancelAfterBegin":         {run: withClient(interop.DoCancelAfterBegin)},
	"DoCancelAfterFirstResponse": {run: withClient(interop.DoCancelAfterFirstResponse)},
	"DoCustomMetadata":           {run: withClient(interop.DoCustomMetadata)},
	"DoStatusCodeAndMessage":     {run: withClient(interop.DoStatusCodeAndMessage)},
	"DoSpecialStatusMessage":     {run: withClient(interop.DoSpecialStatusMessage)},
	"DoUnimplementedService": {run: func(ctx context.Context, p peer) {
		interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(p.conn))
	}},
	"DoUnimplementedMethod": {run: func(ctx context.Context, p peer) { interop.DoUnimplementedMethod(ctx, p.conn) }},
	"DoPickFirstUnary":      {run: func(ctx context.Context, p peer) { interop.DoPickFirstUnary(ctx, p.client()) }},
	"DoORCAPerRPCTest":      {run: func(ctx context.Context, p peer) { interop.DoORCAPerRPCTest(ctx, p.client()) }},
	"DoORCAOOBTest":         {run: func(ctx context.Context, p peer) { interop.DoORCAOOBTest(ctx, p.client()) }},
	"DoSoakTest": {run: func(ctx context.Context, p peer) {
		soak(ctx, func() (*grpc.ClientConn, func()) { return p.conn, func() {} }) // rpc_soak
		soak(ctx, func() (*grpc.ClientConn, func()) {                             // channel_soak
			conn := p.dial()
			return conn, func() { _ = conn.Close() }
		})
	}},

	"DoComputeEngineCreds":              {reason: cloud},
	"DoComputeEngineChannelCredentials": {reason: cloud},
	"DoGoogleDefaultCredentials":        {reason: cloud},
	"DoJWTTokenCreds":                   {reason: cloud},
	"DoOauth2TokenCreds":                {reason: cloud},
	"DoPerRPCCreds":                     {reason: cloud},
	"DoServiceAccountCreds":             {reason: cloud},
}

func withClient(do func(context.Context, testpb.TestServiceClient, ...grpc.CallOption)) func(context.Context, peer) {
	return func(ctx context.Context, p peer) { do(ctx, p.client()) }
}

func soak(ctx context.Context, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, Iterations: 40, NumWorkers: 4,
		PerIterationMaxAcceptableLatency: 10 * time.Second, OverallTimeout: time.Minute,
		ServerAddr: "loopback", ChannelForTest: channel,
	})
}
