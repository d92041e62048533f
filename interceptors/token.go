package interceptors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/errors"
)

// A TokenSource gives the token that a call is made with. [CachedToken] is one that
// keeps a token while it lasts, and [TokenFile] reads one from a file; package
// github.com/rpcscope/rpcscope/interceptors/oauth2token has those of
// golang.org/x/oauth2.
type TokenSource interface {
	// Token returns the token alone, without "Bearer". It is called for each call,
	// at the moment it is sent, and by many goroutines at the same time; it should
	// be quick, as the call waits for it, and honour ctx, the call's context.
	//
	// If the source also has a method Invalidate(), that is called when a server
	// has refused the token that Token returns: it should not return it again.
	Token(ctx context.Context) (string, error)
}

// TokenSourceFunc is a function that is a [TokenSource].
type TokenSourceFunc func(ctx context.Context) (string, error)

// Token calls f.
func (f TokenSourceFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// ErrNoToken is what a call of [Token] ends with that its source has no token for:
// Unavailable, with the source's error as its cause and its google.rpc.RetryInfo, if
// it has one.
var ErrNoToken = errors.Define(codes.Unavailable, "rpcscope", "NO_TOKEN", "no token can be had for the call")

// ErrPlaintextToken is what a call of [Token] ends with on a connection that does not
// keep a secret: Unauthenticated, as gRPC itself has it.
var ErrPlaintextToken = errors.Define(codes.Unauthenticated, "rpcscope", "PLAINTEXT_TOKEN",
	"the connection is not encrypted, and a token is not sent over it; dial with TLS, or give Token the option AllowPlaintext")

// TokenOption configures [Token]. A nil option is skipped.
type TokenOption func(*tokens)

// AllowPlaintext sends the token over connections that anybody on the way can read as
// well, as for a sidecar on the same host. Without it such calls end with
// [ErrPlaintextToken].
func AllowPlaintext() TokenOption { return func(t *tokens) { t.plaintext = true } }

// Token makes calls with a token of source, as "authorization: Bearer ...":
//
//	interceptors.DialOptions(interceptors.Token(interceptors.TokenFile("/var/run/secrets/tokens/users")))
//
// The source is asked for each attempt, when its connection is known. One that is
// not encrypted (see [credentials.PrivacyAndIntegrity]) is refused, before the
// source is asked, unless [AllowPlaintext]: that is [ErrPlaintextToken]. Where the
// source has no token the call is not sent either, and ends with [ErrNoToken].
// Both are counted in rpcscope.client.rejected, as plaintext and no_token.
//
// A call that the server ends with Unauthenticated is made once more if the source
// then has another token. If it still has the same one, its method Invalidate is
// called first, where there is one, for the same token once a second at most. That goes for unary calls, and for server streams before their first message
// has reached the caller; on streams of requests, which could not be made again,
// the next call has the new token. Span and log record have
// rpcscope.token.refreshed.
//
// What the application says for itself wins: with an authorization in the outgoing
// metadata, or a [grpc.PerRPCCredentials] among the options of the call or in
// [grpc.WithDefaultCallOptions], Token does nothing. It does not see those of the
// connection ([grpc.WithPerRPCCredentials]): use one or the other.
//
// Put it last, inside of [Retry] and [CircuitBreaker]. The token is in no span, log
// record or error. Token panics if source is nil, or a
// [TokenCache] that CachedToken did not make. It does nothing on a server.
func Token(source TokenSource, opts ...TokenOption) Interceptor {
	if isNil(source) {
		panic("interceptors: Token: the source is nil; want one such as TokenFile(path) or CachedToken(fetch)")
	}
	if c, ok := source.(*TokenCache); ok && c.fetch == nil {
		panic("interceptors: Token: the TokenCache was not made by CachedToken")
	}
	t := &tokens{source: source}
	for _, o := range opts {
		if o != nil {
			o(t)
		}
	}
	return t.intercept
}

// tokens is one Token.
type tokens struct {
	source    TokenSource
	plaintext bool

	mu      sync.Mutex
	refused string // the last token that the source was told of
	told    time.Time
}

const tokenRefreshedKey = attribute.Key("rpcscope.token.refreshed")

func (t *tokens) intercept(ctx context.Context, call *Call, next Next) error {
	if call.Side != ClientSide {
		return next(ctx)
	}
	c := &callToken{tokens: t}
	c.option.Creds = c
	call.AddCallOptions(&c.option)
	err := c.outcome(ctx, call, next(ctx))
	if err == nil || errors.Code(err) != codes.Unauthenticated || ctx.Err() != nil || !c.renew(ctx, call.committed(ctx)) {
		return err
	}
	call.AddAttributes(tokenRefreshedKey.Bool(true))
	return c.outcome(ctx, call, next(ctx))
}

// invalidate has the source give up the token that a server refused, and tells
// whether it may have another one. Of many calls that were made with it one a second
// does so: an issuer may give out the same token again.
func (t *tokens) invalidate(refused string) bool {
	source, ok := t.source.(interface{ Invalidate() })
	if !ok {
		return false
	}
	now := time.Now()
	t.mu.Lock()
	known := t.refused == refused && now.Sub(t.told) < tokenDropPause
	if !known {
		t.refused, t.told = refused, now
	}
	t.mu.Unlock()
	if !known {
		source.Invalidate()
	}
	return true
}

// ask asks the source, whose panic is an error: it may come on a goroutine of gRPC's.
func (t *tokens) ask(ctx context.Context) (token string, err error) {
	defer asError(&err)
	token, err = t.source.Token(ctx)
	if err == nil {
		err = sendableToken(token)
	}
	return token, err
}

// sendableToken says what is wrong with a token, and never the token itself.
func sendableToken(token string) error {
	if token == "" {
		return errors.New("interceptors: Token: the source returned an empty token")
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return fmt.Errorf(`interceptors: Token: the source returned a token whose byte %d is 0x%02x; want printable ASCII without spaces, and the token alone, without "Bearer"`, i, c)
		}
	}
	return nil
}

// callToken is the credentials of one call.
type callToken struct {
	*tokens
	option grpc.PerRPCCredsCallOption // which is c, without an allocation of its own

	mu      sync.Mutex // gRPC may ask on other goroutines when it tries again
	sent    string     // the last token
	fresh   string     // the one to send next, if there is one already
	failure *tokenFailure
}

// tokenFailure is why a call was not sent.
type tokenFailure struct {
	reason string
	err    error
}

var _ credentials.PerRPCCredentials = (*callToken)(nil)

// RequireTransportSecurity returns false: what is said about an insecure
// connection, GetRequestMetadata says.
func (c *callToken) RequireTransportSecurity() bool { return false }

func (c *callToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, failure := c.forConnection(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent, c.failure = token, failure
	if failure != nil {
		return nil, failure.err
	}
	return map[string]string{authorizationHeader: "Bearer " + token}, nil
}

// forConnection is the token to send over the connection that ctx tells of.
func (c *callToken) forConnection(ctx context.Context) (string, *tokenFailure) {
	if !c.plaintext && !private(ctx) {
		return "", &tokenFailure{"plaintext", dependencyFailed(ErrPlaintextToken, nil)}
	}
	if token := c.takeFresh(); token != "" {
		return token, nil
	}
	token, err := c.ask(ctx)
	switch {
	case err == nil:
		return token, nil
	case ctx.Err() != nil:
		return "", &tokenFailure{err: status.FromContextError(ctx.Err()).Err()}
	}
	none := ErrNoToken
	if after, ok := errors.RetryAfter(err); ok {
		none = none.WithRetry(after)
	}
	return "", &tokenFailure{"no_token", dependencyFailed(none, err)}
}

// private tells whether a connection keeps what is sent to itself.
func private(ctx context.Context) bool {
	ri, _ := credentials.RequestInfoFromContext(ctx)
	return credentials.CheckSecurityLevel(ri.AuthInfo, credentials.PrivacyAndIntegrity) == nil
}

// outcome is what the call ended with: if it was not sent, why.
func (c *callToken) outcome(ctx context.Context, call *Call, err error) error {
	c.mu.Lock()
	f := c.failure
	c.mu.Unlock()
	if err == nil || f == nil || f.reason == "" {
		return err
	}
	call.reject(ctx, f.reason)
	return f.err
}

// renew tells whether the call can be made with another token than the one that was
// refused. If it cannot be made again nobody waits for one.
func (c *callToken) renew(ctx context.Context, committed bool) bool {
	c.mu.Lock()
	refused := c.sent
	c.mu.Unlock()
	if refused == "" {
		return false
	}
	if committed {
		c.invalidate(refused)
		return false
	}
	token, err := c.ask(ctx)
	if err == nil && token == refused && c.invalidate(refused) {
		token, err = c.ask(ctx)
	}
	if err != nil || token == refused {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh = token
	return true
}

func (c *callToken) takeFresh() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	token := c.fresh
	c.fresh = ""
	return token
}

// yieldingTokens are opts, of a call made with ctx, without the suite's token where
// the application has given credentials.
func yieldingTokens(ctx context.Context, opts []grpc.CallOption) []grpc.CallOption {
	ours, theirs := false, false
	for _, o := range opts {
		_, credentials := o.(grpc.PerRPCCredsCallOption)
		ours, theirs = ours || isToken(o), theirs || credentials
	}
	if !ours {
		return opts
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md[authorizationHeader]) > 0 {
		theirs = true
	}
	if !theirs {
		return opts
	}
	return slices.DeleteFunc(opts, isToken)
}

func isToken(o grpc.CallOption) bool {
	creds, ok := o.(*grpc.PerRPCCredsCallOption)
	if ok {
		_, ok = creds.Creds.(*callToken)
	}
	return ok
}
