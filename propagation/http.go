package propagation

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// gatewayPrefix begins the HTTP headers that grpc-gateway turns into metadata of
// its own calls, whatever their name.
const gatewayPrefix = "Grpc-Metadata-"

// Handler returns a handler that does for a request what [Propagator.Extract]
// does for a call, then calls next; nil is [http.DefaultServeMux]. The request
// gets a request id if it has none, and the response has it as X-Request-Id
// whatever becomes of the request.
//
// [TrustPeers] and [TrustMTLS] see the connection of the request. What next sees
// in the headers agrees with its context, so that nothing behind it believes or
// forwards what was refused: a request id that was not accepted is replaced,
// baggage of an untrusted peer is removed, and so is every header whose name
// begins with Grpc-Metadata-, whoever sent it.
//
// Handler starts no span, and does not replace a span that is already there. The
// ResponseWriter is handed on as it is.
func (p *Propagator) Handler(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = p.receive(r)
		w.Header().Set(RequestIDHeader, RequestID(r.Context()))
		next.ServeHTTP(w, r)
	})
}

// receive returns r with what it brings in its context.
func (p *Propagator) receive(r *http.Request) *http.Request {
	ctx := r.Context()
	if p.trust != nil {
		ctx = peer.NewContext(ctx, httpPeer(r))
	}
	carrier := otelprop.HeaderCarrier(r.Header)
	// A span somebody started for this request is the parent of what follows.
	if sc := trace.SpanContextFromContext(ctx); !sc.IsValid() || sc.IsRemote() {
		ctx = p.extractTraceContext(ctx, carrier)
	}
	ctx, trusted := p.extract(ctx, carrier)
	if RequestID(ctx) == "" {
		ctx = ContextWithRequestID(ctx, NewRequestID())
	}
	sent := r.Header
	r = r.WithContext(ctx)
	r.Header = acceptedHeader(sent, RequestID(ctx), trusted)
	return r
}

// acceptedHeader returns h without what was not accepted, and h itself if there
// is nothing of the kind.
func acceptedHeader(h http.Header, id string, trusted bool) http.Header {
	own := false
	edit := func() http.Header {
		if !own {
			h, own = h.Clone(), true
		}
		return h
	}
	if ids := h.Values(RequestIDHeader); len(ids) > 0 && !slices.Equal(ids, []string{id}) {
		edit().Set(RequestIDHeader, id)
	}
	if !trusted && len(h.Values(baggageHeader)) > 0 {
		edit().Del(baggageHeader)
	}
	for name := range h {
		if len(name) >= len(gatewayPrefix) && strings.EqualFold(name[:len(gatewayPrefix)], gatewayPrefix) {
			delete(edit(), name)
		}
	}
	return h
}

// httpPeer returns the other end of r's connection as gRPC describes it, so that
// one TrustFunc serves both.
func httpPeer(r *http.Request) *peer.Peer {
	p := &peer.Peer{Addr: httpAddr(r.RemoteAddr)}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		p.LocalAddr = local
	}
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *r.TLS,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	return p
}

// httpAddr is the address of an HTTP peer, of which net/http keeps the text.
type httpAddr string

func (httpAddr) Network() string  { return "tcp" }
func (a httpAddr) String() string { return string(a) }

// RoundTripper returns a transport that sends with a request what
// [Propagator.Inject] sends with a call, then hands it to next; nil is
// [http.DefaultTransport]. A request that has no request id, neither as a header
// nor in its context, gets a new one.
//
// The [OutboundFunc] is asked with the host and the path of the URL. What it does
// not allow is removed from the headers, even where the application, or a proxy
// that copied them, had set it.
//
// The request itself is not modified, and next closes its body. It has a method
// CloseIdleConnections for [http.Client.CloseIdleConnections].
func (p *Propagator) RoundTripper(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return &roundTripper{propagator: p, next: next}
}

type roundTripper struct {
	propagator *Propagator
	next       http.RoundTripper
}

func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	header := r.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	ctx := sendContext(r)
	t.propagator.Inject(ctx, sentHeader{otelprop.HeaderCarrier(header)})
	r = r.WithContext(ctx)
	r.Header = header
	return t.next.RoundTrip(r)
}

// sendContext returns the context to send r with: it has a request id, and tells
// a propagator further down where the request goes.
func sendContext(r *http.Request) context.Context {
	to := &destination{}
	if r.URL != nil {
		to.target, to.method = r.URL.Host, r.URL.Path
	}
	next := stateOf(r.Context())
	next.destination = to
	if id, _ := requestIDIn(otelprop.HeaderCarrier(r.Header)); id != "" {
		next.requestID = id
	} else if next.requestID == "" {
		next.requestID = NewRequestID()
	}
	return next.in(r.Context())
}

func (t *roundTripper) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// sentHeader is the carrier of a request's headers, which are ours to clean up.
type sentHeader struct{ otelprop.HeaderCarrier }

func (h sentHeader) Delete(key string) { http.Header(h.HeaderCarrier).Del(key) }
