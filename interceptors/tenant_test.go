package interceptors_test

import (
	"context"
	"testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Rule 23: metrics name the tenants that they may name, and no others; without
// a list they name none. The identity may be learned in the chain.
func TestRule23TenantsOfMetrics(t *testing.T) {
	for name, tenants := range map[string][]string{"listed": {"acme"}, "no list": nil} {
		everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
			t.Run(name, func(t *testing.T) {
				h := start(t, &stub{}, func(h *harness) {
					var options []propagation.Option
					if tenants != nil {
						options = append(options, propagation.WithMetricTenants(tenants...))
					}
					p := interceptors.WithPropagator(propagation.New(options...))
					h.servers, h.clients = append(h.servers, p), append(h.clients, p)
					on(side, func(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
						tenant, _ := ctx.Value(tenantKey{}).(string)
						if tenant == "" {
							tenant = "acme"
						}
						ctx = propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u", TenantID: tenant})
						if err := next(ctx); err != nil {
							return err
						}
						return errors.NotFound("gone")
					})(h)
				})
				_ = h.call(h.ctx(), kind)
				if side == interceptors.ClientSide {
					_ = h.call(context.WithValue(h.ctx(), tenantKey{}, "evil"), kind)
				}
				for _, metric := range []string{"rpc." + side.String() + ".call.duration", "rpcscope." + side.String() + ".errors"} {
					want := map[string]int64{"acme": 1}
					if side == interceptors.ClientSide {
						want["_OTHER"] = 1
					}
					if tenants == nil {
						want = map[string]int64{"": want["acme"] + want["_OTHER"]}
					}
					h.counted(metric, "tenant.id", want)
				}
			})
		})
	}
}

type tenantKey struct{}
