package interceptors

import (
	"context"
	"strconv"
	"strings"
	"sync"

	otelpropagation "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/propagation"
)

const baggageHeader = "baggage"

// incoming reads a call's headers in place; gRPC has made their keys lower
// case.
type incoming metadata.MD

var _ otelpropagation.ValuesGetter = incoming(nil)

func (c incoming) Get(key string) string {
	if values := c[strings.ToLower(key)]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c incoming) Values(key string) []string { return c[strings.ToLower(key)] }

// Set does nothing: what a peer sent is not ours to change.
func (incoming) Set(string, string) {}

func (c incoming) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// previousAttempts is how often gRPC has tried the call before.
func (c incoming) previousAttempts() uint16 {
	values := c[previousAttemptsHeader]
	if len(values) != 1 {
		return 0
	}
	n, err := strconv.ParseUint(values[0], 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// outgoing collects what the propagator adds to a client's call. A key that
// the application set already is replaced, never sent twice (rules 9 and 19).
type outgoing struct {
	app      metadata.MD // what the application sends; nil when nothing
	set      []string    // key, value, key, value ...
	inline   [4]string   // traceparent and request id
	changed  bool        // app has been
	target   string
	method   string
	external bool
	foreign  bool // there is a propagator that is not ours
}

var outgoings = sync.Pool{New: func() any { return new(outgoing) }}

var (
	_ otelpropagation.ValuesGetter = (*outgoing)(nil)
	_ propagation.Destination      = (*outgoing)(nil)
)

func (c *outgoing) Destination() (target, method string, external bool) {
	return c.target, c.method, c.external
}

func (c *outgoing) Get(key string) string {
	if values := c.Values(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c *outgoing) Values(key string) []string {
	key = strings.ToLower(key)
	for i := 0; i < len(c.set); i += 2 {
		if c.set[i] == key {
			return c.set[i+1 : i+2]
		}
	}
	return c.app[key]
}

// Set sets key. A propagator that knows nothing of third parties does not get
// baggage out to one.
func (c *outgoing) Set(key, value string) {
	key = strings.ToLower(key)
	if c.external && key == baggageHeader {
		return
	}
	for i := 0; i < len(c.set); i += 2 {
		if c.set[i] == key {
			c.set[i+1] = value
			return
		}
	}
	if c.set == nil {
		c.set = c.inline[:0]
	}
	c.set = append(c.set, key, value)
}

// Delete removes what may not leave, also what an application that forwards its
// caller's headers put there. Beside a foreign propagator ours has no say in
// that, except towards a third party.
func (c *outgoing) Delete(key string) {
	if c.foreign && !c.external {
		return
	}
	key = strings.ToLower(key)
	if _, ok := c.app[key]; ok {
		delete(c.app, key)
		c.changed = true
	}
	for i := 0; i < len(c.set); i += 2 {
		if c.set[i] == key {
			c.set = append(c.set[:i], c.set[i+2:]...)
			return
		}
	}
}

func (c *outgoing) Keys() []string {
	keys := make([]string, 0, len(c.app)+len(c.set)/2)
	for k := range c.app {
		keys = append(keys, k)
	}
	for i := 0; i < len(c.set); i += 2 {
		if _, ok := c.app[c.set[i]]; !ok {
			keys = append(keys, c.set[i])
		}
	}
	return keys
}

// context returns ctx with the collected keys in its outgoing metadata.
func (c *outgoing) context(ctx context.Context) context.Context {
	if len(c.set) == 0 && !c.changed {
		return ctx
	}
	if len(c.app) == 0 && !c.changed {
		return metadata.AppendToOutgoingContext(ctx, c.set...)
	}
	for i := 0; i < len(c.set); i += 2 {
		c.app[c.set[i]] = []string{c.set[i+1]}
	}
	return metadata.NewOutgoingContext(ctx, c.app)
}
