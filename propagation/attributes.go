package propagation

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// TenantIDKey is the attribute of a tenant, for which OpenTelemetry has no
// convention.
const TenantIDKey = attribute.Key("tenant.id")

// AppendAttributes appends the attributes of the identity in ctx to dst, for
// spans and logs: user.hash with [WithUserHash], user.id with [WithRawUserID],
// tenant.id. Those whose value is empty are left out. None of them belongs on a
// metric, see [Propagator.MetricTenant].
func (p *Propagator) AppendAttributes(ctx context.Context, dst []attribute.KeyValue) []attribute.KeyValue {
	id := stateOf(ctx).identity
	if id == nil {
		return dst
	}
	if id.UserID != "" && p.hash != nil {
		dst = append(dst, semconv.UserHash(p.hash.of(id.UserID)))
	}
	if id.UserID != "" && p.rawUserID {
		dst = append(dst, semconv.UserID(id.UserID))
	}
	if id.TenantID != "" {
		dst = append(dst, tenantID(id.TenantID))
	}
	return dst
}

// MetricTenant returns the tenant.id that a metric may have for the identity in ctx,
// and whether it has one: the tenant if [WithMetricTenants] names it, else
// "_OTHER". There is none without that option and for who has no tenant.
func (p *Propagator) MetricTenant(ctx context.Context) (attribute.KeyValue, bool) {
	if p.tenants == nil {
		return attribute.KeyValue{}, false
	}
	id := stateOf(ctx).identity
	if id == nil || id.TenantID == "" {
		return attribute.KeyValue{}, false
	}
	if kv, ok := p.tenants[id.TenantID]; ok {
		return kv, true
	}
	return otherTenant, true
}

var otherTenant = tenantID("_OTHER")

func tenantID(name string) attribute.KeyValue { return TenantIDKey.String(name) }

// userHash computes user.hash. A keyed HMAC is worth keeping: making one hashes
// the key twice and allocates.
type userHash struct{ pool sync.Pool }

type keyedHash struct {
	hash.Hash
	in  []byte
	out [sha256.Size]byte
}

func newUserHash(key []byte) *userHash {
	h := &userHash{}
	h.pool.New = func() any { return &keyedHash{Hash: hmac.New(sha256.New, key)} }
	return h
}

func (h *userHash) of(user string) string {
	k := h.pool.Get().(*keyedHash)
	defer h.pool.Put(k)
	k.in = append(k.in[:0], user...)
	k.Reset()
	k.Write(k.in)
	var text [32]byte
	hex.Encode(text[:], k.Sum(k.out[:0])[:16])
	return string(text[:])
}
