// Package jwtauth authenticates the callers of a gRPC server by JSON Web Tokens
// whose keys are published as a JSON Web Key Set (RFC 7519, RFC 7517), as OpenID
// Connect providers do.
//
//	verifier, err := jwtauth.New(ctx, jwtauth.Config{
//		JWKSURL:   "https://id.example.com/.well-known/jwks.json",
//		Issuer:    "https://id.example.com",
//		Audiences: []string{"users-api"},
//	})
//	if err != nil {
//		return err // the configuration is wrong; nothing has been fetched yet
//	}
//	defer verifier.Close()
//
//	server := grpc.NewServer(interceptors.ServerOptions(
//		interceptors.Authenticate(verifier),
//		interceptors.Authorize(interceptors.Allow("/users.v1.UserService/*", interceptors.Scope("users.read"))),
//	)...)
//
// A [Verifier] is an [interceptors.Authenticator] for the header "authorization:
// Bearer ...". Tokens of several issuers take one Verifier each and
// [interceptors.FirstOf].
//
// # What is checked
//
// The algorithm is one of [Config.Algorithms], which are of public keys only: none
// and HS256 are refused by New, so that a public key is never taken for a shared
// secret. The key is the one in the set with the token's key id, and of its
// algorithm; keys for encryption and symmetric keys are left out. Signature, issuer,
// audience, expiry, which every token must have, and not-before are right, the times
// with [Config.Leeway]. A token that names extensions which must be understood (crit)
// is refused, since none are. What follows RFC 8725 here is not an option.
//
// # Who it is
//
// Claims become a [propagation.Identity], see [Config.Claims] and [Config.Identity].
// Its ExpiresAt is the end of the token plus the leeway, at which
// [interceptors.Authenticate] ends streams.
//
// # Keys
//
// The set is fetched in the background, every [Config.RefreshEvery], and when a token
// has a key id that is not in it: that is how a rotation is noticed. However many such
// tokens there are, the set is fetched no more often than every
// [Config.UnknownKeyEvery], by one request at a time, which does not end with the call
// that asked for it. A token whose key was published since is refused until then.
//
// # When the keys cannot be fetched
//
// [New] does not wait for the server of the keys, and a service starts without it. A
// call that comes before the keys waits for the fetch that is under way, no longer than
// [Config.FetchTimeout] and its own deadline. As long as there are no keys calls end
// with [ErrKeysUnavailable], which is Unavailable and worth a retry, and not with
// Unauthenticated: nobody has looked at their tokens. [Verifier.Ready] is for a service
// that would rather wait, or be reported as not ready. Fetching is tried again every
// UnknownKeyEvery.
//
// Keys that are there stay in use for [Config.MaxStale] after the last time they were
// fetched; then calls end with ErrKeysUnavailable again. The first failure is logged, and
// that it is over.
//
// # What is told
//
// Callers are told that their credentials are not valid, or have expired; span and log
// have the reason, and nothing of the token.
package jwtauth
