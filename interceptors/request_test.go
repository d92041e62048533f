package interceptors_test

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// plaintextToken is a credential of a call that does not ask for TLS.
type plaintextToken string

func (t plaintextToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(t)}, nil
}

func (plaintextToken) RequireTransportSecurity() bool { return false }

// A client's interceptor changes what goes out, the same way for every kind of
// call.
func TestInterceptorChangesTheRequest(t *testing.T) {
	type seen struct {
		Metadata map[string][]string
		Deadline time.Duration
	}
	for name, test := range map[string]struct {
		change interceptors.Interceptor
		want   seen
	}{
		"metadata, added": {func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			return next(metadata.AppendToOutgoingContext(ctx, "x-added", "1", "x-app", "2"))
		}, seen{Metadata: map[string][]string{"x-app": {"1", "2"}, "x-added": {"1"}}}},
		"metadata, replaced": {func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			md := call.Metadata()
			md.Set("x-app", "changed")
			return next(metadata.NewOutgoingContext(ctx, md))
		}, seen{Metadata: map[string][]string{"x-app": {"changed"}}}},
		"metadata, removed": {func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			md := call.Metadata()
			md.Delete("x-app")
			return next(metadata.NewOutgoingContext(ctx, md))
		}, seen{}},
		"deadline": {func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return next(ctx)
		}, seen{Metadata: map[string][]string{"x-app": {"1"}}, Deadline: time.Hour}},
		"credentials": {func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.AddCallOptions(grpc.PerRPCCredentials(plaintextToken("Bearer of news")))
			return next(ctx)
		}, seen{Metadata: map[string][]string{"x-app": {"1"}, "authorization": {"Bearer of news"}}}},
		"compression": {func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
			call.AddCallOptions(grpc.UseCompressor(gzip.Name))
			return next(ctx)
		}, seen{Metadata: map[string][]string{"x-app": {"1"}, "grpc-encoding": {"gzip"}}}},
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var got seen
					look := func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						got = seen{}
						for key, values := range call.Metadata() {
							if slices.Contains([]string{"x-app", "x-added", "authorization"}, key) {
								if got.Metadata == nil {
									got.Metadata = map[string][]string{}
								}
								got.Metadata[key] = values
							}
						}
						if at, ok := ctx.Deadline(); ok {
							got.Deadline = time.Until(at).Round(time.Second)
						}
						if stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string }); ok && stream.RecvCompress() != "" {
							got.Metadata["grpc-encoding"] = []string{stream.RecvCompress()}
						}
						return next(ctx)
					}
					h := start(t, &stub{}, func(h *harness) {
						on(interceptors.ClientSide, test.change)(h)
						on(interceptors.ServerSide, look)(h)
					})
					if err := h.call(metadata.AppendToOutgoingContext(context.Background(), "x-app", "1"), kind); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(test.want, got); diff != "" {
						t.Errorf("what the server saw (-want +got):\n%s", diff)
					}
					h.idle()
				})
			})
		}
	}
}

// With wait-for-ready a call waits for a server that is not there yet.
func TestInterceptorWaitsForReady(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := start(t, &stub{}, nil)
				there := time.Now().Add(time.Minute)
				dial := func(ctx context.Context, _ string) (net.Conn, error) {
					if time.Now().Before(there) {
						return nil, io.EOF
					}
					return up.listen.DialContext(ctx)
				}
				conn, err := grpc.NewClient("passthrough:///later", append(interceptors.DialOptions(
					interceptors.Interceptor(func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
						call.AddCallOptions(grpc.WaitForReady(true))
						return next(ctx)
					})), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))...)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				up.client = testpb.NewTestServiceClient(conn)
				begun := time.Now()
				if err := up.call(context.Background(), kind); err != nil || time.Since(begun) < time.Minute {
					t.Errorf("%v after %v, want nil after a minute or more", status.Convert(err), time.Since(begun))
				}
			})
		})
	}
}
