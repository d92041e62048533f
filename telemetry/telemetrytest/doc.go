// Package telemetrytest records telemetry in memory, for tests of services that
// use rpcscope.
//
//	func TestGetUser(t *testing.T) {
//		rec := telemetrytest.New(t)
//		client := startUsers(t, rec.ServerOptions(), rec.DialOptions())
//
//		client.GetUser(t.Context(), &usersv1.GetUserRequest{Id: "nobody"})
//
//		server := rec.Spans().Named("users.v1.UserService/GetUser").Kind(trace.SpanKindServer).One()
//		server.Has(semconv.RPCResponseStatusCode("NOT_FOUND")).Status(codes.Unset)
//		if n := rec.Metric("rpc.server.call.duration").HistogramCount(); n != 1 {
//			t.Errorf("recorded %d calls, want 1", n)
//		}
//	}
//
// # Recorder
//
// [New] sets telemetry up without exporters, globals or environment, so that any
// number of tests may run in parallel. When the test ends it fails if a span was
// never ended or if a goroutine that the test started still runs. Cleanups run in
// reverse order: New comes before what is to be stopped by then.
//
// Assertions fail the test at once and list what was recorded instead. They
// wait, for 2 seconds at most, for spans that are still open: a server's span ends a
// little after its client has the answer. That of a stream which the test keeps open
// does not, and is missing then; the test's log says so. [Recorder.Open], [Spans.Ended] and
// [Recorder.Collect] do not wait, for tests of what is under way.
//
// [Recorder.Tree] is all spans as text without ids and times, the same every time
// whatever ran at once: compare it with a golden file.
//
// # Collector
//
// [NewCollector] is an OTLP back end inside the test, for gRPC and HTTP on one
// port. It can be told to refuse, stall or reject, to see what a service does
// when its collector is in trouble.
package telemetrytest
