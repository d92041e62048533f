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
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/processors/baggagecopy"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
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
				rec := tracetest.NewSpanRecorder()
				tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(baggagecopy.NewSpanProcessor(baggagecopy.AllowAllMembers)), sdktrace.WithSpanProcessor(rec))
				defer func() { _ = tp.Shutdown(context.Background()) }()
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

				var server, out sdktrace.ReadOnlySpan
				for _, s := range rec.Ended() {
					switch s.SpanKind() {
					case trace.SpanKindServer:
						server = s
					case trace.SpanKindClient:
						out = s
					}
					for _, kv := range s.Attributes() {
						if kv.Key == "user.id" || kv.Key == "secret" && !trusted {
							t.Errorf("%s has %s", s.Name(), kv.Key)
						}
					}
				}
				if len(rec.Ended()) != 2 || server == nil || out == nil {
					t.Fatalf("%d spans, want one server and one client", len(rec.Ended()))
				}
				if server.Parent().SpanID().String() != parent[36:52] || out.Parent().SpanID() != server.SpanContext().SpanID() {
					t.Error("the spans are not one below the other")
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
