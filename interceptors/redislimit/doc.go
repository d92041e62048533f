// Package redislimit has a limiter for
// [github.com/rpcscope/rpcscope/interceptors.RateLimit] that several servers
// share through Redis, or what speaks its protocol and runs its scripts, such as
// Valkey.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true})
//	limiter := redislimit.New(client, 100, 200) // 100 calls a second for each key, 200 at once, on all servers together
//
//	server := grpc.NewServer(interceptors.ServerOptions(
//		interceptors.Authenticate(tokens),
//		interceptors.RateLimit(limiter, interceptors.ByUser),
//	)...)
//
// # Exact
//
// A decision is one script that runs in Redis as a whole, so that servers that ask at
// the same time do not get the same token. The clock is that of Redis: those of
// the servers may differ. If it goes back, as it may when a replica takes over,
// buckets get nothing for the time in between, and go on from there. What a
// replica has not seen when it takes over is forgotten.
//
// # In Redis
//
// A key has a hash of two fields, named prefix{key}, which expires when the bucket is
// full again: memory is bounded by the keys of the last burst/perSecond seconds. A
// refusal only reads. The braces are a hash tag: what else an application keeps
// for the same key can be on the same node of a cluster. Each decision touches
// one key, and works on a cluster as it does elsewhere. Keys of more than 200 bytes
// are replaced by their SHA-256.
//
// # When Redis is in trouble
//
// No call waits longer than [WithTimeout] for Redis, 50 ms unless told otherwise,
// nor longer than half of the time that is left to it. When Redis did not answer three
// times in a row, it is not asked at all for about a second, and then by one call at a
// time until it answers; of calls that had less than a tenth of WithTimeout to wait none
// counts. Meanwhile every decision is an error at once: calls are let happen, or refused
// with [interceptors.FailClosed], and either way counted in
// rpcscope.server.limiter.failures. A client whose own timeouts are longer than
// that of the limiter keeps a connection that does not answer until they are
// over; ContextTimeoutEnabled shortens that.
//
// [interceptors.FailClosed]: https://pkg.go.dev/github.com/rpcscope/rpcscope/interceptors#FailClosed
package redislimit
