package propagation_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/processors/baggagecopy"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// Handler and RoundTripper beside otelhttp: one server span and one client span
// a request, in one trace, on either side of otelhttp's handler; nothing of an
// untrusted caller's baggage on a span, with baggagecopy installed.
func TestHandlerBesideOTelHTTP(t *testing.T) {
	for _, order := range []string{"otelhttp outside", "otelhttp inside"} {
		for _, trusted := range []bool{true, false} {
			t.Run(order+map[bool]string{true: ", trusted", false: ", untrusted"}[trusted], func(t *testing.T) {
				rec := telemetrytest.New(t, telemetry.WithSpanProcessor(baggagecopy.NewSpanProcessor(baggagecopy.AllowAllMembers)))
				tp := rec.Telemetry().TracerProvider()
				prefix := "198.51.100.0/24"
				if trusted {
					prefix = "127.0.0.0/8"
				}
				p := propagation.New(propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix(prefix))),
					propagation.WithOutbound(func(_ context.Context, target, _ string) propagation.Outbound {
						return propagation.Outbound{TraceContext: true} // a third party
					}))
				opts := []otelhttp.Option{otelhttp.WithPropagators(p), otelhttp.WithTracerProvider(tp)}

				sent := make(chan http.Header, 1)
				party := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent <- r.Header }))
				defer party.Close()
				tr := &http.Transport{}
				defer tr.CloseIdleConnections()
				client := &http.Client{Transport: otelhttp.NewTransport(p.RoundTripper(tr), opts...)}

				var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					id, ok := propagation.IdentityFromContext(r.Context())
					if ok != trusted || trusted && (id.UserID != "u" || id.Verified()) {
						t.Errorf("identity %+v, %v", id, ok)
					}
					if r.Header.Get("Grpc-Metadata-X") != "" {
						t.Error("Grpc-Metadata-X got through")
					}
					req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, party.URL, nil)
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				})
				if order == "otelhttp outside" {
					handler = otelhttp.NewHandler(p.Handler(handler), "web", opts...)
				} else {
					handler = p.Handler(otelhttp.NewHandler(handler, "web", opts...))
				}
				web := httptest.NewServer(handler)
				defer web.Close()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL, nil)
				req.Header.Set("Traceparent", parent)
				req.Header.Set("Baggage", "user.id=u,secret=x")
				req.Header.Set("Grpc-Metadata-X", "x")
				resp, err := (&http.Client{Transport: tr}).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if !propagation.ValidRequestID(resp.Header.Get("X-Request-Id")) {
					t.Error("no request id in the response")
				}
				web.Close()

				server, out := rec.Spans().Kind(trace.SpanKindServer).One(), rec.Spans().Kind(trace.SpanKindClient).One().Lacks("user.id")
				server.Lacks("user.id")
				if !trusted {
					server.Lacks("secret")
					out.Lacks("secret")
				}
				if n := rec.Spans().Len(); n != 2 {
					t.Errorf("%d spans, want one server and one client:\n%s", n, rec.Tree())
				}
				out.ChildOf(server)
				if got := server.Parent().SpanID().String(); got != parent[36:52] {
					t.Errorf("parent of the server's span is %s, want the caller's span", got)
				}
				h := <-sent
				for _, k := range []string{"User-Agent", "Accept-Encoding"} {
					h.Del(k)
				}
				c := otelprop.MapCarrier{}
				otelprop.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), out.SpanContext()), c)
				if diff := cmp.Diff(http.Header{"Traceparent": {c["traceparent"]}}, h); diff != "" {
					t.Errorf("a third party got (-want +got):\n%s", diff)
				}
			})
		}
	}
}
