package propagation

import (
	"slices"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
)

// Option configures [New]. Where an option is given twice the last one counts,
// unless it says otherwise. A nil Option is skipped.
type Option interface{ apply(*Propagator) }

type option func(*Propagator)

func (o option) apply(p *Propagator) { o(p) }

// WithTrust sets whom to believe. The default, and nil, is [TrustNone]: identity
// and baggage are dropped whoever sent them.
func WithTrust(trust TrustFunc) Option {
	return option(func(p *Propagator) { p.trust = trust })
}

// WithTrustedRequestIDOnly accepts request ids from trusted peers only. By
// default a valid one is accepted from everybody: it is only a correlation id.
func WithTrustedRequestIDOnly() Option {
	return option(func(p *Propagator) { p.trustedIDOnly = true })
}

// WithInboundBaggage accepts only the members named by keys, besides those of an
// identity, from trusted peers; from others nothing is accepted in any case.
// Without this option all members of a trusted peer are accepted, which the key
// "*" restores; with no keys, none is. The keys of several such options add up.
func WithInboundBaggage(keys ...string) Option {
	return option(func(p *Propagator) {
		if p.inbound == nil {
			p.inbound = make(map[string]bool, len(keys))
		}
		for _, key := range keys {
			p.inbound[key] = true
		}
	})
}

// WithOutbound sets what may leave, for each call anew. The default, and nil, is
// [DefaultOutbound] for every call.
func WithOutbound(policy OutboundFunc) Option {
	return option(func(p *Propagator) { p.outbound = policy })
}

// WithLimits sets the limits of baggage, in both directions.
func WithLimits(limits Limits) Option {
	return option(func(p *Propagator) { p.limits = limits.orDefault() })
}

// WithUserHash puts user.hash on spans and logs: the first 32 hexadecimal digits
// of HMAC-SHA256(key, user id). Services that share the key share the hash; who
// does not have it cannot find the user by trying ids, so the key wants at least
// 16 random bytes and the care of a secret. It is copied. With an empty key, as
// by default, there is no user.hash.
func WithUserHash(key []byte) Option {
	key = slices.Clone(key)
	return option(func(p *Propagator) {
		p.hash = nil
		if len(key) > 0 {
			p.hash = newUserHash(key)
		}
	})
}

// WithRawUserID puts user.id itself on spans and logs. By default it is not
// there: it is personal data in most places.
func WithRawUserID() Option {
	return option(func(p *Propagator) { p.rawUserID = true })
}

// WithMetricTenants puts tenant.id on metrics: the tenants named keep theirs,
// all others share the value "_OTHER". By default metrics have no tenant.id. The
// names of several such options add up.
func WithMetricTenants(names ...string) Option {
	return option(func(p *Propagator) {
		if p.tenants == nil {
			p.tenants = make(map[string]attribute.KeyValue, len(names))
		}
		for _, name := range names {
			p.tenants[name] = tenantID(name)
		}
	})
}

// WithTraceContext replaces the format of the trace context, which is W3C Trace
// Context by default; nil reads and writes none. If format carries baggage too
// (a composite with [otelprop.Baggage], OpenTracing's format), that part of it
// does nothing: baggage goes through the [Propagator] only.
func WithTraceContext(format otelprop.TextMapPropagator) Option {
	return option(func(p *Propagator) { p.traceContext = format })
}

// WithoutBaggage neither reads nor writes baggage, and so no identity either.
func WithoutBaggage() Option {
	return option(func(p *Propagator) { p.noBaggage = true })
}
