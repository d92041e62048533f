//go:build e2e

package redislimit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/redislimit"
)

// redisServer is a real one on a socket of its own.
type redisServer struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &redisServer{t: t, socket: filepath.Join(dir, "redis.sock")}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		r.t.Fatalf("%v: these tests need a real Redis (Debian and Ubuntu: apt install redis-server)", err)
	}
	r.cmd = exec.Command(path, "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no",
		"--dir", filepath.Dir(r.socket), "--logfile", "redis.log", "--daemonize", "no")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	client := r.client()
	deadline := time.Now().Add(20 * time.Second)
	for client.Ping(context.Background()).Err() != nil {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(filepath.Dir(r.socket), "redis.log"))
			r.t.Fatalf("redis-server does not answer after 20 s; its log:\n%s", log)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (r *redisServer) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGCONT)
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *redisServer) client() *redis.Client {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: r.socket, ContextTimeoutEnabled: true})
	r.t.Cleanup(func() { _ = client.Close() })
	return client
}

// patient is a limiter for tests on machines that are busy with other things.
func (r *redisServer) patient(perSecond float64, burst int, opts ...redislimit.Option) *redislimit.Limiter {
	return redislimit.New(r.client(), perSecond, burst, append(opts, redislimit.WithTimeout(10*time.Second))...)
}

func allow(t *testing.T, l interceptors.Limiter, key string) interceptors.Decision {
	t.Helper()
	d, err := l.Allow(t.Context(), key)
	if err != nil {
		t.Fatalf("Allow(%q): %v", key, err)
	}
	return d
}

// serve runs a gRPC server behind the interceptor and returns a client of it.
func serve(t *testing.T, opts ...interceptors.ServerOption) testpb.TestServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(interceptors.ServerOptions(append(opts, interceptors.WithoutLogging())...)...)
	testpb.RegisterTestServiceServer(server, service{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return testpb.NewTestServiceClient(conn)
}

type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, nil
}

// hammer makes calls to all servers, from several goroutines each, until stop says
// so, and returns how many were let in and how long it took.
func hammer(t *testing.T, servers []testpb.TestServiceClient, stop func(call int64) bool) (admitted int64, elapsed time.Duration) {
	t.Helper()
	var in, n atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for _, s := range servers {
		for range 8 {
			all.Go(func() {
				for !stop(n.Add(1)) {
					switch _, err := s.UnaryCall(context.Background(), &testpb.SimpleRequest{}); status.Code(err) {
					case codes.OK:
						in.Add(1)
					case codes.ResourceExhausted:
					default:
						t.Errorf("a call got %v", err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	return in.Load(), time.Since(begun)
}

func threeServers(t *testing.T, r *redisServer, perSecond float64, burst int) (servers []testpb.TestServiceClient) {
	for range 3 {
		servers = append(servers, serve(t, interceptors.RateLimit(r.patient(perSecond, burst), interceptors.Global, interceptors.FailClosed())))
	}
	return servers
}

// Rule 25: three servers that share a limit let in as much as one would, within 1 %.
func TestRule25ThreeServersShareALimit(t *testing.T) {
	r := startRedis(t)
	const perSecond, burst = 300, 900
	deadline := time.Now().Add(5 * time.Second)
	admitted, elapsed := hammer(t, threeServers(t, r, perSecond, burst), func(int64) bool { return time.Now().After(deadline) })
	want := burst + perSecond*elapsed.Seconds()
	t.Logf("%d were let in within %v, the limit is %.1f: %+.2f %%", admitted, elapsed, want, 100*(float64(admitted)/want-1))
	if share := float64(admitted) / want; share < 0.99 || share > 1.01 {
		t.Errorf("%d were let in within %v, want %.1f, give or take 1 %%", admitted, elapsed, want)
	}
}

// Where time adds nothing it is exact: no token is taken twice.
func TestRule25ThreeServersExactly(t *testing.T) {
	r := startRedis(t)
	const burst = 1000
	if admitted, _ := hammer(t, threeServers(t, r, 1e-6, burst), func(call int64) bool { return call > 3*burst }); admitted != burst {
		t.Errorf("%d were let in, want %d", admitted, burst)
	}
}

// Decisions of a real Redis: the numbers, and that one key is not another's.
func TestDecisions(t *testing.T) {
	r := startRedis(t)
	l := r.patient(0.001, 3)
	for i, want := range []interceptors.Decision{
		{Allowed: true, Remaining: 2, Limit: 3, ResetAfter: 1000 * time.Second},
		{Allowed: true, Remaining: 1, Limit: 3, ResetAfter: 2000 * time.Second},
		{Allowed: true, Remaining: 0, Limit: 3, ResetAfter: 3000 * time.Second},
		{RetryAfter: 1000 * time.Second, Limit: 3, ResetAfter: 3000 * time.Second},
	} {
		got := allow(t, l, "ada")
		// Time goes on in between, and a script's time is that of its beginning.
		got.RetryAfter, got.ResetAfter = got.RetryAfter.Round(20*time.Second), got.ResetAfter.Round(20*time.Second)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("decision %d (-want +got):\n%s", i, diff)
		}
	}
	if d := allow(t, l, "bob"); !d.Allowed || d.Remaining != 2 {
		t.Errorf("another key got %+v", d)
	}
	if d := allow(t, r.patient(0.001, 3, redislimit.WithPrefix("other:")), "ada"); !d.Allowed || d.Remaining != 2 {
		t.Errorf("another prefix got %+v", d)
	}
	if d := allow(t, r.patient(0.001, 3), "ada"); d.Allowed {
		t.Errorf("another server got %+v", d)
	}
}

// Who waits as long as told is let in, and a bucket does not grow over burst.
func TestRefill(t *testing.T) {
	r := startRedis(t)
	l := r.patient(20, 2)
	for range 3 {
		allow(t, l, "key")
	}
	for range 5 {
		d := allow(t, l, "key")
		for !d.Allowed {
			if d.RetryAfter <= 0 || d.RetryAfter > 50*time.Millisecond+time.Microsecond {
				t.Fatalf("got %+v, want to come back within 50 ms", d)
			}
			<-time.After(d.RetryAfter)
			before := d
			if d = allow(t, l, "key"); !d.Allowed {
				t.Fatalf("told %v and came back then: got %+v", before.RetryAfter, d)
			}
		}
	}
	<-time.After(500 * time.Millisecond)
	if d := allow(t, l, "key"); d.Remaining != 1 {
		t.Errorf("after more than it takes to fill: %+v, want one left of two", d)
	}
}

// Keys expire when their bucket is full again; long ones are short in Redis.
func TestKeysExpire(t *testing.T) {
	r := startRedis(t)
	client := r.client()
	l := r.patient(10, 5)
	allow(t, l, "short")
	allow(t, l, strings.Repeat("long", 1000))
	ttl := client.PTTL(t.Context(), "rpcscope:ratelimit:{short}").Val()
	if ttl <= 0 || ttl > 102*time.Millisecond {
		t.Errorf("the key expires in %v, want 100 ms and a little", ttl)
	}
	deadline := time.Now().Add(10 * time.Second)
	for client.DBSize(t.Context()).Val() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s there still are %v", client.Keys(t.Context(), "*").Val())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A clock that went back costs nobody more than the time in between.
func TestClockGoesBack(t *testing.T) {
	r := startRedis(t)
	client := r.client()
	l := r.patient(100, 10)
	allow(t, l, "key")
	name := "rpcscope:ratelimit:{key}"
	future := time.Now().Add(time.Hour).UnixMicro()
	if err := client.HSet(t.Context(), name, "tokens", 0, "at", future).Err(); err != nil {
		t.Fatal(err)
	}
	if d := allow(t, l, "key"); d.Allowed {
		t.Errorf("got %+v, want nothing for a time that did not pass", d)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !allow(t, l, "key").Allowed {
		if time.Now().After(deadline) {
			t.Fatal("the bucket waits for the clock to come to where it was")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Redis forgets scripts, when it starts again or is told to.
func TestScriptIsLoadedAgain(t *testing.T) {
	r := startRedis(t)
	l := r.patient(0.001, 10)
	allow(t, l, "key")
	if err := r.client().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if d := allow(t, l, "key"); d.Remaining != 8 {
		t.Errorf("got %+v, want 8 left", d)
	}
}

// Redis stalls, goes away and comes back: calls are neither slowed nor lost, or
// refused where that is wanted, which is counted; and then the limit is back.
func TestRedisInTrouble(t *testing.T) {
	for name, trouble := range map[string]struct{ begin, end func(*redisServer) }{
		"stalled": {
			func(r *redisServer) { _ = r.cmd.Process.Signal(syscall.SIGSTOP) },
			func(r *redisServer) { _ = r.cmd.Process.Signal(syscall.SIGCONT) },
		},
		"gone": {(*redisServer).stop, func(r *redisServer) {
			_ = os.Remove(r.socket)
			r.start()
		}},
	} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,closed=%v", name, closed), func(t *testing.T) {
				r := startRedis(t)
				reader := sdkmetric.NewManualReader()
				var options []interceptors.RateLimitOption
				want, outcome := codes.OK, "allowed"
				if closed {
					options, want, outcome = append(options, interceptors.FailClosed()), codes.Unavailable, "refused"
				}
				limiter := redislimit.New(r.client(), 0.001, 5, redislimit.WithTimeout(200*time.Millisecond))
				server := serve(t, interceptors.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))),
					interceptors.RateLimit(limiter, interceptors.Global, options...))
				call := func() codes.Code {
					_, err := server.UnaryCall(t.Context(), &testpb.SimpleRequest{})
					return status.Code(err)
				}
				until := func(want codes.Code) {
					t.Helper()
					for deadline := time.Now().Add(20 * time.Second); ; {
						got := call()
						if got == want {
							return
						}
						if time.Now().After(deadline) {
							t.Fatalf("after 20 s calls still get %v, want %v", got, want)
						}
						<-time.After(10 * time.Millisecond)
					}
				}
				for range 5 {
					until(codes.OK)
				}
				until(codes.ResourceExhausted)
				before := failures(t, reader, outcome)

				trouble.begin(r)
				begun, slow := time.Now(), 0
				const calls = 300
				for i := range calls {
					callBegun := time.Now()
					if got := call(); got != want {
						t.Fatalf("call %d while Redis is in trouble got %v, want %v", i, got, want)
					}
					if time.Since(callBegun) > 150*time.Millisecond {
						slow++
					}
				}
				t.Logf("%d calls took %v, %d of them waited for the timeout", calls, time.Since(begun), slow)
				if most := 3 + int(time.Since(begun)/(700*time.Millisecond)); slow > most {
					t.Errorf("%d of %d calls waited, want %d at most", slow, calls, most)
				}
				if got := failures(t, reader, outcome) - before; got != calls {
					t.Errorf("rpcscope.server.limiter.failures counted %d, want %d", got, calls)
				}

				trouble.end(r)
				until(codes.ResourceExhausted) // gone: after five new ones
			})
		}
	}
}

func failures(t *testing.T, reader sdkmetric.Reader, outcome string) (n int64) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "rpcscope.server.limiter.failures" {
				for _, p := range data.DataPoints {
					if v, _ := p.Attributes.Value("rpcscope.ratelimit.outcome"); v.AsString() == outcome {
						n += p.Value
					}
				}
			}
		}
	}
	return n
}

// A key that something else uses is an error, and no reason to stop asking.
func TestKeyOfAnotherType(t *testing.T) {
	r := startRedis(t)
	if err := r.client().Set(t.Context(), "rpcscope:ratelimit:{key}", "text", 0).Err(); err != nil {
		t.Fatal(err)
	}
	l := r.patient(1, 1)
	for range 5 {
		_, err := l.Allow(t.Context(), "key")
		var answer redis.Error
		if !errors.As(err, &answer) || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Fatalf("got %v, want WRONGTYPE", err)
		}
	}
	if d := allow(t, l, "other"); !d.Allowed {
		t.Errorf("another key got %+v", d)
	}
}
