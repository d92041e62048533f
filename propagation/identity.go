package propagation

import (
	"context"
	"slices"
	"time"
)

// Identity is who a call is made for. Its zero value is nobody in particular.
//
// UserID, TenantID and SessionID can travel to other services, as the baggage
// members user.id, tenant.id and session.id; [Outbound] says which of them do.
// AuthMethod, Roles, Scopes and ExpiresAt never leave the process.
type Identity struct {
	UserID    string // who; an opaque id rather than a name or an address
	TenantID  string // on whose account
	SessionID string // within which session

	AuthMethod string    // how authentication came to it: "jwt", "mtls", ...
	Roles      []string  // what the user is; must not be modified
	Scopes     []string  // what the credentials were issued for; must not be modified
	ExpiresAt  time.Time // when the credentials end; the zero time is never

	verified bool
}

// Verified reports whether authentication in this process set the identity,
// with [ContextWithIdentity]. An identity that a trusted peer sent is not
// verified: it serves attribution, not authorization.
func (id Identity) Verified() bool { return id.verified }

// ContextWithIdentity returns a copy of ctx that carries id as a verified
// identity. It is for authentication code: whoever calls it vouches for id. It
// replaces the identity ctx had, and [Propagator.Extract] does not replace it.
//
// Roles and Scopes are copied.
func ContextWithIdentity(ctx context.Context, id Identity) context.Context {
	// One allocation for the context and the identity, and one for both lists.
	n := &struct {
		node
		id Identity
	}{node{ctx, stateOf(ctx)}, id}
	n.id.Roles, n.id.Scopes = cloned(id.Roles, id.Scopes)
	n.id.verified = true
	n.identity = &n.id
	return &n.node
}

func cloned(a, b []string) (ca, cb []string) {
	both := slices.Concat(a, b)
	if len(a) > 0 {
		ca = slices.Clip(both[:len(a)])
	}
	if len(b) > 0 {
		cb = both[len(a):]
	}
	return ca, cb
}

// IdentityFromContext returns the identity in ctx, and whether there is one. It
// may be expired, see [Identity.ExpiresAt], and whether authentication stands
// behind it only [Identity.Verified] tells.
func IdentityFromContext(ctx context.Context) (Identity, bool) {
	if id := stateOf(ctx).identity; id != nil {
		return *id, true
	}
	return Identity{}, false
}

// The baggage members an identity travels as.
const (
	userIDMember    = "user.id"
	tenantIDMember  = "tenant.id"
	sessionIDMember = "session.id"
)

// identityField returns the field of id that travels as the member key, nil if
// key is not of an identity.
func identityField(id *Identity, key string) *string {
	switch key {
	case userIDMember:
		return &id.UserID
	case tenantIDMember:
		return &id.TenantID
	case sessionIDMember:
		return &id.SessionID
	}
	return nil
}

func isIdentityMember(key string) bool {
	return key == userIDMember || key == tenantIDMember || key == sessionIDMember
}

func (id *Identity) expired() bool {
	return !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt)
}
