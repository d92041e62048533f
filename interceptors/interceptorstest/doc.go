// Package interceptorstest tests that an interceptor does what those around it
// rely on, as testing/slogtest does for handlers of log/slog.
//
//	func TestAudit(t *testing.T) {
//		interceptorstest.Run(t, audit(slog.New(slog.DiscardHandler)))
//	}
//
// [Run] installs the interceptor on a real server and then on a real client,
// which talk to each other in memory, and makes calls of all four kinds that end
// in every way in which calls end. An interceptor that only looks on has to pass
// as it is. What another one does on purpose is declared:
//
//	func TestReadOnly(t *testing.T) {
//		interceptorstest.Run(t, readOnly, interceptorstest.Rejects(codes.FailedPrecondition))
//	}
//
//	func TestRetry(t *testing.T) {
//		interceptorstest.Run(t, retry(3),
//			interceptorstest.Sides(interceptors.ClientSide),
//			interceptorstest.Retries())
//	}
//
// One that decides from call to call is run once for each decision:
//
//	func TestToken(t *testing.T) {
//		server := interceptorstest.Sides(interceptors.ServerSide)
//		interceptorstest.Run(t, token("secret"), server, interceptorstest.Rejects(codes.Unauthenticated))
//		interceptorstest.Run(t, token("secret"), server,
//			interceptorstest.WithContext(func(ctx context.Context) context.Context {
//				return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer secret")
//			}))
//	}
//
// One Run makes about 250 calls, up to 8 at the same time, and most of them
// fail: give limiters, breakers and timeouts limits that this does not reach,
// and retries short pauses. Run it with the race detector, which finds what no
// test of behaviour can: state that calls share, and messages that are still
// read after they were handed over.
//
// # Endings
//
// A subtest is named after side, kind and ending, such as
// "client/server_stream/abandon":
//
//   - ok: the handler succeeds.
//   - error: it fails before the first message, once with each code.
//   - error-mid-stream: it fails after the first message. Not for unary calls.
//   - error-once: it fails with Unavailable the first time only. With [Retries].
//   - panic: it panics; on a client, what is inside of the interceptor does.
//   - cancel: the caller cancels while the handler works.
//   - abandon: it does, and never asks how the call ended. Not for unary calls.
//   - deadline: the deadline passes while the handler works.
//   - expired: the deadline has passed before the call. On a client.
//   - together: eight calls are in their handlers at the same time and then end
//     differently.
//
// An interceptor that [Rejects] is tested with ok and together.
//
// # Obligations
//
// A failure names the obligation that was not met, says what happened, what the
// rule is, with the numbers that it has in the project's DESIGN.md, and what to do
// about it:
//
//   - calls-next: a call is let happen, unless [Rejects] or [MayAnswer] is declared.
//   - next-once: next is called once, unless [Retries] is declared.
//   - next-again: with it, only after next failed and while the context is not done.
//   - waits-for-next: the interceptor returns after next, and calls next in its
//     own goroutine, where a panic can be recovered.
//   - returns-error: it returns the error of next with its code, reason and
//     message, unless [MapsErrors] is declared, and the caller gets that.
//   - rejects, recovers: it does what [Rejects] or [Recovers] declares.
//   - derives-context: values, deadline and cancellation of its context reach the
//     handler or the transport.
//   - releases-context: contexts that it makes are cancelled in the end.
//   - keeps-metadata: metadata of the caller travels on, and is not added again
//     by each attempt.
//   - keeps-call: FullMethod, Kind and Side are left alone, and so are Request and
//     Response of streams.
//   - keeps-messages: requests and replies arrive complete, in order and as they
//     were sent, unless [ChangesMessages] is declared.
//   - keeps-request: the message of the caller is not changed in place. Hooks of
//     streams may, where ChangesMessages is declared.
//   - ends: it returns soon after next has, or its context is done.
//   - passes-panics: a panic goes on, unless [Recovers] is declared.
//   - does-not-panic: it does not panic or leave with runtime.Goexit by itself.
//   - leaves-span: it neither ends the call's span nor sets a status that does
//     not follow from the code.
//   - leaves-no-goroutine: goroutines that it starts for a call end with it. One
//     that is started once, for all calls, may stay.
//   - concurrent: it works for many calls at the same time, without mixing them up
//     and without making one wait for another.
package interceptorstest
