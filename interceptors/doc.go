// Package interceptors makes gRPC servers and clients observable, and makes
// writing an interceptor simple: one function, right for unary calls and all
// kinds of streams, on both sides.
//
//	server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithLogger(logger))...)
//
//	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(interceptors.WithLogger(logger)),
//		grpc.WithTransportCredentials(creds))...)
//
// That is all a service needs; without a logger it is [slog.Default]. Every call
// then has
//
//   - a span, named after its method, in one trace with its caller and all it
//     calls;
//   - a point in rpc.server.call.duration or rpc.client.call.duration, with an
//     exemplar that leads to the span, and a place in
//     rpcscope.server.active_calls or rpcscope.client.active_calls while it runs;
//   - one record in the access log, at its end: INFO, WARN or ERROR by its code,
//     and DEBUG for a client's call that went well;
//   - a request id, minted where the caller sent none, carried to everything the
//     handler calls and echoed to the caller;
//   - errors that mean the same on both sides: see package
//     [github.com/rpcscope/rpcscope/errors];
//   - a handler whose panic is an Internal error for its caller, and a stack on
//     the span and in the log.
//
// Spans, metrics and log say the same about a call, since all hang off its one
// end: a stream that is cancelled and never read again ends too, a call that
// the server rejects while the client is still sending has the code that the
// caller sees, and one that gRPC retries is still one call.
//
// # Writing an interceptor
//
// An [Interceptor] runs before the call, lets it happen by calling next, and
// goes on when the call has ended, whatever its kind and side:
//
//	func slow(limit time.Duration, log *slog.Logger) interceptors.Interceptor {
//		return func(ctx context.Context, call *interceptors.Call, next interceptors.Next) error {
//			defer func() {
//				if d := time.Since(call.Start()); d > limit {
//					log.WarnContext(ctx, "slow call", "method", call.FullMethod, "duration", d, "messages", call.Sent())
//				}
//			}()
//			return next(ctx)
//		}
//	}
//
// Its error is the error of the call. It may return one without calling next,
// change the context, look at each message with [Call.OnSend] and
// [Call.OnReceive], replace a unary call's request and response, and call next
// again after a failure. It is an option like any other:
//
//	interceptors.ServerOptions(slow(time.Second, logger), interceptors.For(interceptors.Methods("/users.v1.UserService/*"), audit))
//
// Package [github.com/rpcscope/rpcscope/interceptors/interceptorstest] tests
// that it keeps what callers and other interceptors rely on.
//
// # Arguments that are nil
//
// An interceptor, option, validator or authenticator in a list is skipped where it is
// nil, and a provider, logger or matcher that is nil is the default. What an
// interceptor cannot work without panics when it is made, at the start of the program:
// [Token] without a source, [RateLimit] without a limiter. A nil function or pointer
// in an interface is nil as well.
//
// # What is recorded
//
// Spans and the duration metrics follow OpenTelemetry's semantic conventions
// for RPC: rpc.method, rpc.system.name, rpc.response.status_code, server.address
// and server.port, and error.type where the call failed. On a server only the
// codes that mean its own fault make a span an error; on a client all but OK
// do. Spans and log records also have the request id (request.id, request_id),
// the domain and reason of a typed error (error.domain, error.reason) and what
// the propagator tells of the identity. A server's fault is an event on its span
// as well, exception, with type, text and the stack of where the error was made;
// OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs moves it to the log record, and
// logs/dup puts it in both. Neither ids nor strings that a peer
// chose are ever attributes of a metric: unknown methods are _OTHER, a tenant
// is tenant.id of durations and errors only where the propagator's
// [github.com/rpcscope/rpcscope/propagation.WithMetricTenants] names it, and errors
// are counted in rpcscope.server.errors and rpcscope.client.errors by a bounded
// number of reasons.
//
// # The log
//
// Every record is "server call" or "client call", and, with [LogPayloads], "server
// message" or "client message". These are the keys of a call's, each where it
// applies:
//
//	rpc.method                      service and method; _OTHER if the server has none of that name
//	rpc.method_original             what the caller called it then
//	rpc.kind                        unary, client_stream, server_stream or bidi_stream
//	rpc.response.status_code        OK, NOT_FOUND, ...
//	rpc.messages_sent               number of messages, by this side
//	rpc.messages_received           number of messages, of the other side
//	duration_us                     microseconds, until the call had ended
//	request_id                      the same everywhere
//	trace_id, span_id               of the call's span
//	server.address, server.port     client: where the call went, as it was dialled
//	network.peer.address            server: who called, client: who answered
//	error.message                   the private text of the error
//	error.domain, error.reason      identity of a typed error
//	exception.type                  a panic, or with OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN a server's fault:
//	exception.message               its text
//	exception.stacktrace            where it was made
//	user.hash, user.id, tenant.id   what the propagator is to tell of the identity
//	rpcscope.rejected.reason        why an interceptor refused the call
//	rpcscope.authorization.missing  what Authorize wanted
//	rpcscope.auth.rechecks_failed   how often Recheck could not tell
//	rpcscope.invalid.fields         what Validate found
//	rpcscope.deadline.budget_ms     what time the call had
//	rpcscope.deadline.remaining_ms  what was left of it
//	rpcscope.deadline.source        who said so: caller, default or maximum
//	rpcscope.ratelimit.policy       PolicyName of the RateLimit that refused or failed
//	rpcscope.ratelimit.error        why it failed
//	rpcscope.ratelimit.outcome      what it did then
//	rpcscope.retry.attempts         how many there were, if several
//	rpcscope.retry.stopped          why there were no more
//	rpcscope.breaker.name           the breaker that refused the call
//	rpcscope.breaker.state          open or half_open
//	rpcscope.token.refreshed        the first token was refused
//
// What [WithAttributes] and [Call.AddAttributes] say is beside them. A message's has
// rpc.method, rpc.kind, request_id, trace_id and span_id of those, and
//
//	rpc.message.type                SENT or RECEIVED
//	rpc.message.id                  number of the message, from 1
//	rpc.message.uncompressed_size   bytes
//	rpcscope.payload                the message as JSON
//	rpcscope.payload.type           its type
//	rpcscope.payload.truncated      it is longer than that
//
// # What a server lets happen
//
// The suite's own interceptors for servers are made for this order, outermost
// first:
//
//	unary := func(call *interceptors.Call) bool { return call.Kind == interceptors.Unary }
//
//	interceptors.ServerOptions(
//		interceptors.For(unary, interceptors.Timeout(5*time.Second), interceptors.MaxTimeout(time.Minute)),
//		interceptors.ConcurrencyLimit(1000),
//		interceptors.Authenticate(interceptors.BearerToken(verify),
//			interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*"))),
//		interceptors.RateLimit(interceptors.NewTokenBucket(10, 20), interceptors.ByUser),
//		interceptors.Authorize(
//			interceptors.Anyone("/grpc.health.v1.Health/*"),
//			interceptors.Allow("/users.v1.UserService/*")),
//		interceptors.Validate(),
//		interceptors.LogPayloads(interceptors.PayloadRatio(0.01)))
//
// Each has its reason to stand where it does:
//
//  1. [Timeout] and [MaxTimeout]: whatever follows has a deadline, also asking
//     who the caller is. On a stream it is that of the whole call, and would end a
//     healthy one that watches something.
//  2. [ConcurrencyLimit] or [AdaptiveLimit]: a call that is shed costs nothing
//     further, and calls that are being authenticated hold a place as well.
//  3. [Authenticate]: who makes the call, for all that follows. A call that is
//     refused here takes nobody's tokens. Probes of health have no credentials and
//     need both AllowAnonymous and, in Authorize, Anyone.
//  4. [RateLimit]: by user or tenant. Calls that the user may not make count as
//     well, so that trying out what is allowed has a limit.
//  5. [Authorize]: who may make the call.
//  6. [Validate]: messages, of callers only who may send them.
//  7. [LogPayloads]: what the handler gets to see. It is off unless it is there.
//
// One that refuses a call counts it in rpcscope.server.rejected, by method and
// rpcscope.rejected.reason, which span and access log have too. A limit for
// strangers, by [ByPeer], is a second RateLimit and goes in front of Authenticate.
//
// Which calls an interceptor is for is said with [For]. Timeout, MaxTimeout,
// Validate, LogPayloads and RateLimit do the same for a client's calls.
//
// # Time limits
//
// What callers ask for is left alone by Timeout, which is for those who ask for
// nothing, and limited by MaxTimeout. A call that takes longer ends with
// [ErrTimeout], so that it can be told from one whose caller had no more time.
// What calls had and what they left is on their spans:
// rpcscope.deadline.budget_ms, .remaining_ms and .source.
//
// # Who may call
//
// An [Authenticator] says who makes a call: [BearerToken], [HeaderValue],
// [PeerCertificate], a function that sees the call, or the [FirstOf] several that
// knows. Tokens of OpenID Connect providers, with keys from a JWKS server, are for
// the module github.com/rpcscope/rpcscope/interceptors/jwtauth. Authorize has rules by
// method, and nobody may make a call that no rule is for. Only an identity that was
// verified in this process counts, never one that came as baggage.
//
//	interceptors.Authenticate(
//		interceptors.FirstOf(interceptors.BearerToken(verify), interceptors.PeerCertificate(service)),
//		interceptors.AllowAnonymous(interceptors.Methods("/grpc.health.v1.Health/*")),
//		interceptors.Recheck(10*time.Minute)),
//	interceptors.Authorize(
//		interceptors.Anyone("/grpc.health.v1.Health/*"),
//		interceptors.Allow("/users.v1.UserService/DeleteUser", interceptors.Role("admin")),
//		interceptors.Allow("/users.v1.UserService/*", interceptors.Scope("users.read")))
//
// A stream ends when the credentials do that it was opened with
// ([ErrIdentityExpired]) and, with [Recheck], soon after they are taken back.
// Callers are told that they are not known or not allowed; which requirement they do
// not meet is rpcscope.authorization.missing of span and log. Tokens are in neither.
//
// # Limits
//
// RateLimit refuses what is more than a key may have, with ResourceExhausted and the
// time to come back. A key is a user, a tenant, an address, a method, everybody or what a
// function says; the number of keys is bounded. [NewTokenBucket] counts in this process;
// the module github.com/rpcscope/rpcscope/interceptors/redislimit counts for several
// servers, in Redis; anything else is a [Limiter]. One that fails lets calls happen,
// or refuses them with [FailClosed], and says so in
// rpcscope.server.limiter.failures.
//
// ConcurrencyLimit sheds what is more than may run at the same time, with
// Unavailable, and AdaptiveLimit finds out how much that is. Neither queues. Health
// checks are exempt from both, and a [PriorityFunc] says what is shed first.
// rpcscope.server.concurrency.limit is the limit, by rpcscope.limit.kind.
//
// # Validation
//
// Without arguments Validate has messages validate themselves, as
// protoc-gen-validate generates them. Rules that stand in the .proto files are
// those of the module
// github.com/rpcscope/rpcscope/interceptors/protovalidate; rules of
// one's own are a [Validator]. Either way the caller reads the violations as a
// google.rpc.BadRequest with [ErrInvalid].
//
// # Asking for more
//
// What not everybody wants to pay for is an option. [WithAttempts] shows what
// gRPC makes of a call that its service config lets it retry: a span for each
// attempt, and a count. [WithMessageMetrics] and [WithMessageEvents] look at
// messages. [WithAttributes] adds to spans and log records what the application
// knows. [WithFilter] says which calls are observed at all; health checks and
// reflection are not.
//
// [WithOTelGRPC] leaves spans and durations to otelgrpc, for those who must have
// its scope name or its next release. What that costs in exactness is on its
// page.
//
// # What a client makes of failures
//
// The suite's own interceptors for clients are made for this order, outermost
// first:
//
//  1. [Timeout]: all attempts together have that long; a stream as a whole, so
//     that it is usually for unary calls, as above.
//  2. [Retry], or [Hedge] for what may run several times at once: everything
//     below happens for each attempt.
//  3. [CircuitBreaker]: it judges attempts, and one that it refuses costs the
//     server nothing.
//  4. [Token]: only what is really sent has a token.
//
// The caller made one call, however many attempts it took: one span, one
// duration, one log record. The attempts are child spans, with the server's spans
// below them, and are counted in rpcscope.client.attempts. Failures that were not
// retried although their code says so are counted in
// rpcscope.client.retries.stopped, with the reason. Calls that an interceptor did not
// send are in rpcscope.client.rejected, by rpcscope.rejected.reason.
//
// # Circuit breakers
//
// A CircuitBreaker leaves a service alone that fails, and tries it again after a
// while. It judges a call when it has ended, and takes for the service's failures
// only what the service did: not that the caller cancelled, gave it no time, asked for
// what is not there, or had no token. A stream is a probe until its headers have
// come, and no longer; a probe that hangs makes room for the next. While the breaker
// is open calls end with [ErrBreakerOpen], Unavailable, and say when to come
// back; Retry does not wait for that, but returns it. rpcscope.client.breaker.state and .transitions, and events of
// spans, tell what it did and because of which call.
//
// # Tokens
//
// Token sends what a [TokenSource] says, and asks it for each attempt. [CachedToken]
// keeps a token while it lasts and fetches the next one ahead of time, once for all
// calls; [TokenFile] follows a file that rotates; the module
// github.com/rpcscope/rpcscope/interceptors/oauth2token has the sources of
// golang.org/x/oauth2. A server that refuses a token gets another one, once. Over a
// connection that is not encrypted none is sent, unless with [AllowPlaintext]. Other
// calls wait for no token longer than they live, and none is in a span, log record
// or error.
//
// [CallTimeout] and [CallRetry] are call options that take the place of what the
// connection has. [Counts] tells a program without a back end for metrics what
// was called and how it went.
//
// # Retries of the service config
//
// However often gRPC tries, the caller made one call: there is one span, one
// duration and one log record, and the servers' spans are its children. A
// server that is called again has the attribute previous-rpc-attempts.
package interceptors
