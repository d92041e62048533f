package propagation_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/peer"

	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// handled is what a handler behind Handler saw.
type handled struct {
	ctx    context.Context
	header http.Header
}

// serveHTTP runs p.Handler on the loopback interface until the test ends.
func serveHTTP(t testing.TB, p *propagation.Propagator) (base string, seen chan handled) {
	t.Helper()
	seen = make(chan handled, 1)
	srv := httptest.NewServer(p.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- handled{r.Context(), r.Header}
	})))
	t.Cleanup(srv.Close)
	return srv.URL, seen
}

// reply is a response whose body was read.
type reply struct {
	Status int
	Header http.Header
}

func get(t testing.TB, c *http.Client, url string, header http.Header) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return reply{resp.StatusCode, resp.Header}
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestRule24Handler(t *testing.T) {
	loopback := propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("127.0.0.0/8")))
	elsewhere := propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("10.0.0.0/8")))
	for _, tt := range []struct {
		name    string
		opts    []propagation.Option
		send    http.Header
		wantID  string // "": a new one
		wantWho who
		members map[string]string
		removed []string
	}{
		{name: "nothing", send: http.Header{}},
		{name: "request id", send: http.Header{"X-Request-Id": {"a"}}, wantID: "a"},
		{name: "invalid request id", send: http.Header{"X-Request-Id": {"a b"}}},
		{name: "empty request id", send: http.Header{"X-Request-Id": {""}}},
		{name: "conflicting request ids", send: http.Header{"X-Request-Id": {"a", "b"}}},
		{name: "repeated request id", send: http.Header{"X-Request-Id": {"a", "a"}}, wantID: "a"},
		{name: "untrusted request id", opts: []propagation.Option{propagation.WithTrustedRequestIDOnly(), elsewhere}, send: http.Header{"X-Request-Id": {"a"}}},
		{name: "trusted request id", opts: []propagation.Option{propagation.WithTrustedRequestIDOnly(), loopback}, send: http.Header{"X-Request-Id": {"a"}}, wantID: "a"},
		{name: "baggage, no trust", send: http.Header{"Baggage": {"user.id=u,a=1"}}, removed: []string{"Baggage"}},
		{name: "baggage from elsewhere", opts: []propagation.Option{elsewhere},
			send: http.Header{"Baggage": {"user.id=u,a=1"}, "X-Forwarded-For": {"10.0.0.1"}}, removed: []string{"Baggage"}},
		{name: "baggage from a trusted peer", opts: []propagation.Option{loopback}, send: http.Header{"Baggage": {"user.id=u", "a=1"}},
			wantWho: who{propagation.Identity{UserID: "u"}, false, true}, members: map[string]string{"a": "1"}},
		{name: "Grpc-Metadata", opts: []propagation.Option{propagation.WithTrust(propagation.TrustAll)},
			send:    http.Header{"Grpc-Metadata-X-Request-Id": {"a"}, "grpc-metadata-baggage": {"user.id=u"}, "GRPC-METADATA-Traceparent": {someTraceparent}, "Grpc-Metadata-": {"x"}},
			removed: []string{"Grpc-Metadata-X-Request-Id", "Grpc-Metadata-Baggage", "Grpc-Metadata-Traceparent", "Grpc-Metadata-"}},
		{name: "names that only look like it", send: http.Header{"Grpc-Metadata": {"x"}, "Grpc-Meta": {"x"}, "X-Grpc-Metadata-A": {"x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, seen := serveHTTP(t, propagation.New(tt.opts...))
			tt.send["X-Other"] = []string{"kept"}
			tt.send["Traceparent"] = []string{someTraceparent}
			resp := get(t, client(t), base, tt.send)
			got := <-seen

			id := propagation.RequestID(got.ctx)
			if tt.wantID != "" && id != tt.wantID || !propagation.ValidRequestID(id) {
				t.Errorf("request id %q, want %q", id, tt.wantID)
			}
			if tt.wantID == "" && (id == "a" || id == "b") {
				t.Errorf("request id %q is the peer's", id)
			}
			if got := resp.Header.Values("X-Request-Id"); !slices.Equal(got, []string{id}) {
				t.Errorf("response has X-Request-Id %q, want %q", got, id)
			}
			checkWho(t, got.ctx, tt.wantWho)
			if tt.members == nil {
				tt.members = map[string]string{}
			}
			if diff := cmp.Diff(tt.members, membersIn(got.ctx)); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			if sc := trace.SpanContextFromContext(got.ctx); sc.TraceID().String() != someTraceparent[3:35] || !sc.IsRemote() {
				t.Errorf("span context %v, want the peer's", sc)
			}

			want := http.Header{}
			for k, v := range tt.send {
				want[http.CanonicalHeaderKey(k)] = v
			}
			for _, k := range tt.removed {
				delete(want, k)
			}
			if want["X-Request-Id"] != nil {
				want["X-Request-Id"] = []string{id}
			}
			for _, k := range []string{"User-Agent", "Accept-Encoding"} {
				delete(got.header, k)
			}
			if diff := cmp.Diff(want, got.header); diff != "" {
				t.Errorf("headers behind the handler (-want +got):\n%s", diff)
			}
		})
	}
}

// Handler may be there twice, or behind a server that already has a context.
func TestRule24HandlerTwice(t *testing.T) {
	p := propagation.New()
	var ids []string
	inner := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ids = append(ids, propagation.RequestID(r.Context())) })
	middle := p.Handler(inner)
	outer := p.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ids = append(ids, propagation.RequestID(r.Context()))
		middle.ServeHTTP(w, r)
	}))
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("X-Request-Id", "not valid")
	outer.ServeHTTP(w, r)
	if want := []string{ids[0], ids[0]}; !slices.Equal(ids, want) {
		t.Errorf("ids %q, want one", ids)
	}
	if got := r.Header.Get("X-Request-Id"); got != "not valid" {
		t.Errorf("the caller's request was changed: X-Request-Id %q", got)
	}
}

// Behind HTTP/1 and 2 names are canonical already; another server may not do it.
func TestRule24GrpcMetadataInAnyCase(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header = http.Header{"grpc-metadata-a": {"x"}, "GRPC-METADATA-B": {"x"}, "Grpc-Metadata-C": {"x"}, "Other": {"x"}}
	var got http.Header
	propagation.New().Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header })).
		ServeHTTP(httptest.NewRecorder(), r)
	if diff := cmp.Diff(http.Header{"Other": {"x"}}, got); diff != "" {
		t.Errorf("headers behind the handler (-want +got):\n%s", diff)
	}
	if len(r.Header) != 4 {
		t.Errorf("the caller's request was changed: %v", r.Header)
	}
}

func TestRule19HandlerEchoesOnErrors(t *testing.T) {
	w := httptest.NewRecorder()
	propagation.New().Handler(nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/nobody-here", nil)) // nil: DefaultServeMux
	if w.Code != http.StatusNotFound || !propagation.ValidRequestID(w.Header().Get("X-Request-Id")) {
		t.Errorf("status %d, X-Request-Id %q, want 404 and an id", w.Code, w.Header().Get("X-Request-Id"))
	}
}

func TestHandlerHandsOnTheWriter(t *testing.T) {
	w := httptest.NewRecorder()
	propagation.New().Handler(http.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) {
		if got != http.ResponseWriter(w) {
			t.Errorf("writer is a %T, want the server's own", got)
		}
	})).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
}

// What a streaming handler needs works over a real connection.
func TestHandlerStreams(t *testing.T) {
	next := make(chan struct{})
	srv := httptest.NewServer(propagation.New().Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-next
		_, _ = io.WriteString(w, "second\n")
	})))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, len("first\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	close(next)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != "second\n" {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestRule20HandlerTrustMTLS(t *testing.T) {
	ca := newAuthority(t)
	p := propagation.New(propagation.WithTrust(propagation.TrustMTLS(func(leaf *x509.Certificate) bool { return leaf.Subject.CommonName == "gateway" })))
	seen := make(chan handled, 1)
	srv := httptest.NewUnstartedServer(p.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- handled{ctx: r.Context()}
	})))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue("server")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool}
	srv.StartTLS()
	defer srv.Close()
	for name, want := range map[string]bool{"gateway": true, "stranger": false, "": false} {
		cfg := &tls.Config{RootCAs: ca.pool}
		if name != "" {
			cfg.Certificates = []tls.Certificate{ca.issue(name)}
		}
		tr := &http.Transport{TLSClientConfig: cfg}
		get(t, &http.Client{Transport: tr}, srv.URL, http.Header{"Baggage": {"user.id=u"}})
		tr.CloseIdleConnections()
		if got := whoIn((<-seen).ctx); got.Found != want || got.Verified {
			t.Errorf("certificate %q: identity %+v, want found %v, never verified", name, got, want)
		}
	}
}

// A TrustFunc of a user's own finds the HTTP peer where gRPC's is.
func TestRule20OwnTrustFuncOverHTTP(t *testing.T) {
	var got *peer.Peer
	base, seen := serveHTTP(t, propagation.New(propagation.WithTrust(func(ctx context.Context, _ otelprop.TextMapCarrier) bool {
		got, _ = peer.FromContext(ctx)
		return false
	})))
	get(t, client(t), base, http.Header{"Baggage": {"a=1"}})
	<-seen
	if got == nil || !strings.HasPrefix(got.Addr.String(), "127.0.0.1:") || got.Addr.Network() != "tcp" ||
		got.LocalAddr.String() != strings.TrimPrefix(base, "http://") || got.AuthInfo != nil {
		t.Errorf("peer %v, want the connection's", got)
	}
}

// A tracing middleware may be on either side of Handler: there is one server
// span, the caller's span is its parent, and what the handler does is below it.
func TestHandlerBesideTracing(t *testing.T) {
	for _, order := range []string{"tracing outside", "tracing inside"} {
		t.Run(order, func(t *testing.T) {
			rec := telemetrytest.New(t)
			tracer := rec.Telemetry().TracerProvider().Tracer("test")
			p := propagation.New(propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("127.0.0.0/8"))))
			tracing := func(next http.Handler) http.Handler { // what otelhttp does
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ctx := p.Extract(r.Context(), otelprop.HeaderCarrier(r.Header))
					ctx, span := tracer.Start(ctx, "server", trace.WithSpanKind(trace.SpanKindServer))
					defer span.End()
					next.ServeHTTP(w, r.WithContext(ctx))
				})
			}
			seen := make(chan handled, 1)
			var h http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, span := tracer.Start(r.Context(), "work")
				span.End()
				seen <- handled{ctx: r.Context()}
			})
			if order == "tracing outside" {
				h = tracing(p.Handler(h))
			} else {
				h = p.Handler(tracing(h))
			}
			srv := httptest.NewServer(h)
			resp := get(t, client(t), srv.URL, http.Header{"Traceparent": {someTraceparent}, "X-Request-Id": {"not valid"}, "Baggage": {"user.id=u"}})
			got := <-seen
			srv.Close()

			checkWho(t, got.ctx, who{propagation.Identity{UserID: "u"}, false, true})
			if id := propagation.RequestID(got.ctx); id == "" || id != resp.Header.Get("X-Request-Id") {
				t.Errorf("request id %q, echoed %q", id, resp.Header.Get("X-Request-Id"))
			}
			if diff := cmp.Diff("server server\n  work internal\n", rec.Tree()); diff != "" {
				t.Fatalf("spans (-want +got):\n%s", diff)
			}
			server := rec.Spans().Named("server").One()
			if got := server.Parent().SpanID().String(); got != someTraceparent[36:52] {
				t.Errorf("parent of server is %s, want the caller's span", got)
			}
			rec.Spans().Named("work").One().ChildOf(server)
		})
	}
}

// roundTripFunc is a transport that answers by itself.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// recorded returns a transport that keeps the headers it is to send.
func recorded(sent *http.Header) http.RoundTripper {
	return roundTripFunc(func(r *http.Request) (*http.Response, error) {
		*sent = r.Header.Clone()
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
	})
}

func TestRule24RoundTripper(t *testing.T) {
	partner := propagation.WithOutbound(func(_ context.Context, target, method string) propagation.Outbound {
		if target == "api.partner.example:8443" && method == "/v1/quote" {
			return propagation.Outbound{TraceContext: true}
		}
		return propagation.DefaultOutbound()
	})
	const inside, outside = "http://users.internal/v1/users", "https://api.partner.example:8443/v1/quote?q=1"
	copied := http.Header{"Traceparent": {"old"}, "X-Request-Id": {"theirs"}, "Baggage": {"user.id=admin"}, "Accept": {"x"}}
	for _, tt := range []struct {
		name   string
		url    string
		ctx    context.Context
		header http.Header
		want   http.Header
	}{
		{"default", inside, sender(t), nil,
			http.Header{"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}, "X-Request-Id": {someRequestID}, "Baggage": {"user.id=u,tenant.id=t"}}},
		{"application's request id first", inside, sender(t), copied,
			http.Header{"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}, "X-Request-Id": {"theirs"}, "Baggage": {"user.id=u,tenant.id=t"}, "Accept": {"x"}}},
		{"third party", outside, sender(t), nil, http.Header{"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}}},
		{"third party, headers copied", outside, sender(t), copied, http.Header{"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}, "Accept": {"x"}}},
		{"new request id", inside, context.Background(), nil, http.Header{"X-Request-Id": nil}},
		{"no request id for a third party", outside, context.Background(), nil, http.Header{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent http.Header
			req, err := http.NewRequestWithContext(tt.ctx, http.MethodGet, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != nil {
				req.Header = tt.header.Clone()
			}
			before := req.Header.Clone()
			resp, err := propagation.New(partner).RoundTripper(recorded(&sent)).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if id, ok := tt.want["X-Request-Id"]; ok && id == nil {
				if got := sent["X-Request-Id"]; len(got) != 1 || !propagation.ValidRequestID(got[0]) {
					t.Errorf("request id %q, want a new one", got)
				}
				delete(sent, "X-Request-Id")
				delete(tt.want, "X-Request-Id")
			}
			if diff := cmp.Diff(tt.want, sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, req.Header); diff != "" || req.Context() != tt.ctx {
				t.Errorf("the request was modified (-want +got):\n%s", diff)
			}
		})
	}
}

// An instrumented transport within, which knows no destinations, keeps to what
// was decided.
func TestRule21RoundTripperAroundAnInjector(t *testing.T) {
	p := propagation.New(propagation.WithOutbound(func(_ context.Context, target, _ string) propagation.Outbound {
		if target == "partner.example" {
			return propagation.Outbound{TraceContext: true}
		}
		return propagation.DefaultOutbound()
	}))
	var sent http.Header
	injecting := roundTripFunc(func(r *http.Request) (*http.Response, error) { // what otelhttp.Transport does
		r = r.Clone(r.Context())
		p.Inject(r.Context(), otelprop.HeaderCarrier(r.Header))
		return recorded(&sent).RoundTrip(r)
	})
	for url, want := range map[string]http.Header{
		"http://partner.example/": {"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}},
		"http://users.internal/":  {"Traceparent": {someTraceparent}, "Tracestate": {"v=1"}, "X-Request-Id": {someRequestID}, "Baggage": {"user.id=u,tenant.id=t"}},
	} {
		req := httptest.NewRequestWithContext(sender(t), http.MethodGet, url, nil)
		resp, err := p.RoundTripper(injecting).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("%s: sent (-want +got):\n%s", url, diff)
		}
	}
}

// A transport within finds the request id that is sent in the context.
func TestRule19RoundTripperContext(t *testing.T) {
	for set, want := range map[string]string{"app": "app", "not valid": someRequestID, "": someRequestID} {
		req := httptest.NewRequestWithContext(sender(t), http.MethodGet, "http://users.internal/", nil)
		req.Header.Set("X-Request-Id", set)
		var got, sent string
		resp, err := propagation.New().RoundTripper(roundTripFunc(func(r *http.Request) (*http.Response, error) {
			got, sent = propagation.RequestID(r.Context()), r.Header.Get("X-Request-Id")
			return &http.Response{Body: http.NoBody}, nil
		})).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got != want || sent != want {
			t.Errorf("with %q set: %q in the context, %q sent, want %q", set, got, sent, want)
		}
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestRoundTripperClosesTheBody(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer srv.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	rt := propagation.New().RoundTripper(tr)
	for _, tt := range []struct {
		name, url string
		wantErr   bool
	}{
		{"sent", srv.URL, false},
		{"not sent", "unknown-scheme://host/", true},
	} {
		body := &closeCounter{Reader: strings.NewReader("body")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.url, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if (err != nil) != tt.wantErr {
			t.Fatalf("%s: error %v, want one: %v", tt.name, err, tt.wantErr)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		if body.closed == 0 {
			t.Errorf("%s: the body was not closed", tt.name)
		}
	}
}

func TestRoundTripperPassesErrorsOn(t *testing.T) {
	want := errors.New("no route")
	rt := propagation.New().RoundTripper(roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, want }))
	resp, err := rt.RoundTrip(&http.Request{}) // no URL, no header
	if resp != nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, want) || resp != nil {
		t.Errorf("RoundTrip = %v, %v, want the error of the transport", resp, err)
	}
}

type idler struct {
	http.RoundTripper
	closed bool
}

func (i *idler) CloseIdleConnections() { i.closed = true }

func TestRoundTripperClosesIdleConnections(t *testing.T) {
	next := &idler{}
	(&http.Client{Transport: propagation.New().RoundTripper(next)}).CloseIdleConnections()
	if !next.closed {
		t.Error("not handed on")
	}
	(&http.Client{Transport: propagation.New().RoundTripper(roundTripFunc(nil))}).CloseIdleConnections() // has no such method
}

func TestRoundTripperNilIsTheDefaultTransport(t *testing.T) {
	base, seen := serveHTTP(t, propagation.New())
	c := &http.Client{Transport: propagation.New().RoundTripper(nil)}
	resp := get(t, c, base, nil)
	c.CloseIdleConnections()
	if got := (<-seen).header.Get("X-Request-Id"); got == "" || got != resp.Header.Get("X-Request-Id") {
		t.Errorf("sent %q, echoed %q", got, resp.Header.Get("X-Request-Id"))
	}
}

// A proxy between Handler and RoundTripper does not lend its own standing to
// what a stranger sent.
func TestRule20ReverseProxy(t *testing.T) {
	backend, seen := serveHTTP(t, propagation.New(propagation.WithTrust(propagation.TrustPeers(netip.MustParsePrefix("127.0.0.0/8")))))
	target, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	p := propagation.New(propagation.WithTrustedRequestIDOnly()) // trusts nobody
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	proxy := httptest.NewServer(p.Handler(&httputil.ReverseProxy{
		Transport: p.RoundTripper(tr),
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}))
	defer proxy.Close()
	resp := get(t, client(t), proxy.URL, http.Header{
		"Baggage": {"user.id=admin,a=1"}, "X-Request-Id": {"mine"}, "Grpc-Metadata-Baggage": {"user.id=admin"}, "Traceparent": {someTraceparent},
	})
	got := <-seen
	checkWho(t, got.ctx, who{})
	if members := membersIn(got.ctx); len(members) > 0 {
		t.Errorf("members %v, want none", members)
	}
	if got := got.header["Grpc-Metadata-Baggage"]; got != nil {
		t.Errorf("Grpc-Metadata-Baggage %q got through", got)
	}
	id := propagation.RequestID(got.ctx)
	if ids := resp.Header.Values("X-Request-Id"); id == "mine" || !slices.Contains(ids, id) {
		t.Errorf("request id %q behind the proxy, %q in the response, want one new one", id, ids)
	}
	if got := trace.SpanContextFromContext(got.ctx).TraceID().String(); got != someTraceparent[3:35] {
		t.Errorf("trace %s, want the caller's", got)
	}
}
