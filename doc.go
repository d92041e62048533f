// Package rpcscope is the front page of a module that makes gRPC services in Go
// observable: interceptors for grpc-go on OpenTelemetry. It holds no code; the
// packages below do.
//
// One line in main sets telemetry up, one call each gives a server and a client
// everything:
//
//	func main() {
//		tel := telemetry.MustSetup(context.Background(), telemetry.WithServiceName("users"))
//		defer tel.Close()
//
//		server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(tel.Logger()))...)
//		...
//	}
//
//	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(interceptors.WithLogger(tel.Logger())),
//		grpc.WithTransportCredentials(creds))...)
//
// Every call, unary or a stream of any kind, then has one span, one point in
// the duration histogram and one access log record on each side, which agree; a
// request id that is the same everywhere; and errors that the caller can match.
//
// # Packages
//
//   - [github.com/rpcscope/rpcscope/telemetry] brings up traces, metrics and
//     logs from the OTEL_* environment and options, and takes them down again.
//   - github.com/rpcscope/rpcscope/telemetry/otelconf, a module of its own, takes
//     the same from the configuration file that OTEL_CONFIG_FILE names.
//   - [github.com/rpcscope/rpcscope/interceptors] is the engine that observes
//     calls, and the chain in which an interceptor is one function.
//   - [github.com/rpcscope/rpcscope/interceptors/interceptorstest] tests that an
//     interceptor of yours does what those around it rely on.
//   - [github.com/rpcscope/rpcscope/errors] has typed errors that keep their
//     identity across the wire and their causes at home; it stands in for the
//     standard package.
//   - [github.com/rpcscope/rpcscope/propagation] carries request id, identity and
//     baggage through context, metadata and HTTP, behind a trust boundary.
//   - [github.com/rpcscope/rpcscope/telemetry/telemetrytest] records all of it in
//     memory, for tests.
//
// The folder examples has a users service with a web page, a command line client
// and a demonstration that checks itself: make demo.
package rpcscope
