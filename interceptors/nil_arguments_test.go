package interceptors_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// pointer is what all these interfaces want, and does not expect to be nil.
type pointer struct{ value string }

func (p *pointer) Validate(context.Context, any) error   { return fmt.Errorf("%s", p.value) }
func (p *pointer) Token(context.Context) (string, error) { return p.value, nil }
func (p *pointer) Allow(context.Context, string) (interceptors.Decision, error) {
	return interceptors.Decision{Allowed: p.value != ""}, nil
}

func (p *pointer) Authenticate(context.Context, *interceptors.Call) (propagation.Identity, error) {
	return propagation.Identity{UserID: p.value}, nil
}

// A nil in an interface is nil: it does not survive the start where something is
// needed, and is skipped or the default elsewhere.
func TestNilInAnInterface(t *testing.T) {
	var p *pointer
	for want, f := range map[string]func(){
		"Token: the source is nil":                         func() { interceptors.Token(p) },
		"Token: the source is nil; want":                   func() { interceptors.Token((*interceptors.TokenCache)(nil)) },
		"Token: the TokenCache was not made by":            func() { interceptors.Token(&interceptors.TokenCache{}) },
		"RateLimit: the limiter is nil":                    func() { interceptors.RateLimit(p, interceptors.Global) },
		"WithMaxKeys: the TokenBucket was not made by New": func() { (*interceptors.TokenBucket)(nil).WithMaxKeys(1) },
		"WithMaxKeys: the TokenBucket was not made by":     func() { new(interceptors.TokenBucket).WithMaxKeys(1) },
		"Authenticate: the Authenticator is nil":           func() { interceptors.Authenticate(p) },
		"FirstOf: no Authenticator given":                  func() { interceptors.FirstOf(nil, p, interceptors.AuthenticatorFunc(nil)) },
	} {
		if got := fmt.Sprint(panicOf(f)); !strings.HasPrefix(got, "interceptors: ") || !strings.Contains(got, want) {
			t.Errorf("panicked with %q, want %q in it", got, want)
		}
	}
	everywhere(t, func(t *testing.T, kind interceptors.Kind, side interceptors.Side) {
		h := start(t, &stub{}, func(h *harness) {
			for _, o := range []interceptors.Option{
				interceptors.Validate(interceptors.ValidatorFunc(nil), p, nil),
				interceptors.WithTracerProvider((*sdktrace.TracerProvider)(nil)), interceptors.WithMeterProvider((*sdkmetric.MeterProvider)(nil)),
				interceptors.WithPropagator((*propagation.Propagator)(nil)), interceptors.WithLogger(nil), interceptors.Interceptor(nil),
			} {
				if side == interceptors.ServerSide {
					h.servers = append(h.servers, o)
				} else {
					h.clients = append(h.clients, o)
				}
			}
		})
		if err := h.call(h.ctx(), kind); err != nil {
			t.Errorf("the caller got %v", err)
		}
	})
}
