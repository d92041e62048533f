// Package propagation carries the trace context, the request id and the identity
// of a call from service to service, through contexts, gRPC metadata and HTTP
// headers, behind a trust boundary.
//
// A [Propagator] is an OpenTelemetry TextMapPropagator. The telemetry package
// installs one as the global propagator, the gRPC servers and clients of package
// interceptors use it, and [Propagator.Handler] and [Propagator.RoundTripper] do
// the same for HTTP:
//
//	func main() {
//		ctx := context.Background()
//		tel := telemetry.MustSetup(ctx, telemetry.WithPropagation(
//			propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("10.0.0.0/8"))),
//			propagation.WithUserHash(hashKey),
//		))
//		defer tel.Close()
//
//		server := grpc.NewServer(interceptors.ServerOptions()...)
//		users.RegisterUserServiceServer(server, service{})
//		...
//	}
//
//	func (service) GetUser(ctx context.Context, req *users.GetUserRequest) (*users.User, error) {
//		log.Print("request ", propagation.RequestID(ctx))
//		if id, ok := propagation.IdentityFromContext(ctx); ok {
//			log.Print("for tenant ", id.TenantID)
//		}
//		...
//	}
//
// # Request id
//
// Every call has one, [RequestID]: the caller's if it is a valid one, else a new
// UUIDv7. It is the same on every hop, every attempt and every message of a
// stream, and the caller gets it back. 1 to 128 bytes of
// [A-Za-z0-9][A-Za-z0-9._~:/+=-]* are valid, so the ids of Envoy, of the load
// balancers of the clouds and of most gateways are. An invalid one is replaced,
// never an error; so are several that contradict each other.
//
// A client sends the id the application put into the outgoing metadata, else the
// one in the context, else a new one, once.
//
// # Identity
//
// An [Identity] in a context is of one of two kinds. Authentication puts a
// verified one there, with [ContextWithIdentity]. A trusted peer sends one that
// is not verified: it is good for logs, for quotas, for finding out who is
// affected; what somebody may do is decided by a verified one only, see
// [Identity.Verified]. Authentication wins over what a peer sent.
//
// User id and tenant id go on to the services that are called, as the baggage
// members user.id and tenant.id, the session id only if a policy names it, and
// nothing that is expired. How authentication went, roles and scopes stay in the
// process.
//
// In the process an identity stands beside OpenTelemetry's baggage, not in it: no
// processor that copies baggage to spans can copy a user's id.
//
// # Trust
//
// By default nobody is trusted: identity and baggage that come in are dropped
// before a span, a log record or another call can get them. Trace context and
// request id are accepted from everybody, since they identify nobody;
// [WithTrustedRequestIDOnly] is stricter about the latter.
//
// [TrustPeers] trusts addresses, [TrustMTLS] client certificates, and a
// [TrustFunc] of your own whom it likes. They look at the connection, not at
// headers. Trusting a proxy means trusting all it lets through: it must not hand
// on the baggage it gets from outside.
//
// From a trusted peer the other members of the baggage are accepted too;
// [WithInboundBaggage] names the ones to accept.
//
// # What leaves
//
// By default trace context, request id, user id and tenant id, to everybody who
// is called. [WithOutbound] decides by target and method; further members of the
// baggage leave only if it names them. A third party gets the trace context and
// nothing else: dial it with interceptors.External(), or return
// Outbound{TraceContext: true} for it.
//
// What stands in the way of a policy is removed as well: a proxy that copies
// headers does not lend its standing to a stranger's baggage.
//
// # Limits
//
// 16 members, 2048 bytes, 256 bytes a value, unless [WithLimits] says otherwise,
// in both directions. OpenTelemetry's own propagator sends any amount and, as a
// receiver, drops all of it beyond 8192 bytes; here members are left out one by
// one, the identity last. Values with control characters, encoded ones included,
// are left out in both directions. All lines of a repeated baggage header are
// read. Of a header of any size no more than 16 KiB is looked at.
//
// # Telemetry
//
// Spans and logs have tenant.id, user.hash with [WithUserHash] and user.id with
// [WithRawUserID]; see [Propagator.AppendAttributes]. Metrics have tenant.id only
// with [WithMetricTenants], from a closed list. A session id is on none of them.
//
// # HTTP
//
// [Propagator.Handler] and [Propagator.RoundTripper] apply the same rules to
// X-Request-Id, traceparent and baggage. Headers that begin with Grpc-Metadata-,
// by which grpc-gateway lets a client write metadata, are removed.
//
// Neither starts spans. That is for otelhttp, and both work beside it, with one
// span a request:
//
//	handler := otelhttp.NewHandler(p.Handler(mux), "web", otelhttp.WithPropagators(p))
//	client := &http.Client{Transport: otelhttp.NewTransport(p.RoundTripper(http.DefaultTransport), otelhttp.WithPropagators(p))}
//
// WithPropagators can be left out where telemetry has made p the global one.
// With OpenTelemetry's Baggage propagator instead, otelhttp would accept
// everybody's baggage.
// Handler may stand outside of otelhttp's as well, the span then starts with the
// identity in its context. RoundTripper belongs inside: what goes to whom is
// decided last.
package propagation
