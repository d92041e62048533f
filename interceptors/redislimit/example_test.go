package redislimit_test

import (
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/redislimit"
)

// A hundred calls a second for each user, two hundred at once, on all servers
// together; while Redis is away, calls are refused.
func Example() {
	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true})
	defer client.Close()

	limiter := redislimit.New(client, 100, 200, redislimit.WithPrefix("users:limit:"))
	server := grpc.NewServer(interceptors.ServerOptions(
		interceptors.RateLimit(limiter, interceptors.ByUser, interceptors.FailClosed()),
	)...)
	defer server.Stop()
}
