package propagation_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/rpcscope/rpcscope/propagation"
)

// A server has a request id in the context of every call: here the caller's.
func ExampleRequestID() {
	p := propagation.New()
	handle := func(ctx context.Context) {
		fmt.Println("handling", propagation.RequestID(ctx))
	}

	ctx := p.Extract(context.Background(), otelprop.MapCarrier{"x-request-id": "018f3c1e-7b2a-7cc0-9d1e-3a5b7c9d1e3f"})
	handle(ctx)
	// Output: handling 018f3c1e-7b2a-7cc0-9d1e-3a5b7c9d1e3f
}

// Authentication says whom a call is made for. User and tenant go on to the
// services that are called; what the user may do does not.
func ExampleContextWithIdentity() {
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{
		UserID:     "u-4711",
		TenantID:   "acme",
		SessionID:  "s-1",
		AuthMethod: "jwt",
		Roles:      []string{"admin"},
	})
	id, _ := propagation.IdentityFromContext(ctx)
	fmt.Println(id.UserID, "verified:", id.Verified())

	sent := otelprop.MapCarrier{}
	propagation.New().Inject(ctx, sent)
	fmt.Println("sent:", sent["baggage"])
	// Output:
	// u-4711 verified: true
	// sent: user.id=u-4711,tenant.id=acme
}

// A service believes the peers within its mesh, and nobody else, about whom a
// call is made for.
func ExampleTrustPeers() {
	p := propagation.New(propagation.WithTrust(propagation.TrustPeers(
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("fd00::/8"),
	)))
	handler := p.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, ok := propagation.IdentityFromContext(r.Context())
		fmt.Printf("from %s: user %q, known: %v, verified: %v\n", r.RemoteAddr, id.UserID, ok, id.Verified())
	}))

	for _, peer := range []string{"10.1.2.3:40000", "198.51.100.7:40000"} {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		r.Header.Set("Baggage", "user.id=u-4711")
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// from 10.1.2.3:40000: user "u-4711", known: true, verified: false
	// from 198.51.100.7:40000: user "", known: false, verified: false
}

// Third parties get the trace context only. A gRPC client is simply dialled with
// interceptors.External(); this is a policy for all that a service calls.
func ExampleWithOutbound() {
	p := propagation.New(propagation.WithOutbound(func(_ context.Context, target, _ string) propagation.Outbound {
		if !strings.HasSuffix(target, ".internal") {
			return propagation.Outbound{TraceContext: true}
		}
		out := propagation.DefaultOutbound()
		out.Baggage = []string{"plan"}
		return out
	}))

	ctx := propagation.ContextWithRequestID(context.Background(), "r-1")
	ctx = propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u-4711"})
	ctx = otelprop.TraceContext{}.Extract(ctx, otelprop.MapCarrier{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	for _, target := range []string{"users.internal", "api.partner.example"} {
		sent := otelprop.MapCarrier{}
		p.Inject(propagation.ContextWithDestination(ctx, target, "/quote", false), sent)
		fmt.Println(target, sent)
	}
	// Output:
	// users.internal map[baggage:user.id=u-4711 traceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 x-request-id:r-1]
	// api.partner.example map[traceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01]
}

// A web server in front of others: one request id from the browser to the last
// service, and back.
func ExamplePropagator_Handler() {
	p := propagation.New()

	users := httptest.NewServer(p.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "users: ", propagation.RequestID(r.Context()))
	})))
	defer users.Close()

	client := &http.Client{Transport: p.RoundTripper(http.DefaultTransport)}
	defer client.CloseIdleConnections()
	web := p.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, users.URL, nil)
		resp, err := client.Do(req)
		if err != nil {
			http.Error(w, "users cannot be reached", http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
	}))

	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
	r.Header.Set("X-Request-Id", "browser-1")
	web.ServeHTTP(w, r)
	fmt.Println(w.Body)
	fmt.Println("response:", w.Header().Get("X-Request-Id"))
	// Output:
	// users: browser-1
	// response: browser-1
}

// Identity on spans and logs, without telling who the user is.
func ExamplePropagator_AppendAttributes() {
	p := propagation.New(propagation.WithUserHash([]byte("a secret of at least 16 bytes")))
	ctx := propagation.ContextWithIdentity(context.Background(), propagation.Identity{UserID: "u-4711", TenantID: "acme"})
	for _, kv := range p.AppendAttributes(ctx, nil) {
		fmt.Println(kv.Key, kv.Value.AsString())
	}
	// Output:
	// user.hash becc25e525b9ff32525233a9557959af
	// tenant.id acme
}
