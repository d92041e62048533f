package propagation_test

import (
	"maps"
	"slices"

	"google.golang.org/grpc/metadata"
)

// mdCarrier is a carrier over gRPC metadata, as the server has it: keys in lower
// case, values handed out without a copy.
type mdCarrier metadata.MD

func (c mdCarrier) Get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c mdCarrier) Values(key string) []string { return c[key] }
func (c mdCarrier) Set(key, value string)      { c[key] = []string{value} }
func (c mdCarrier) Keys() []string             { return slices.Collect(maps.Keys(c)) }

// to is a carrier that knows where it goes and can delete.
type to struct {
	mdCarrier
	target, method string
	external       bool
}

func (c to) Destination() (target, method string, external bool) {
	return c.target, c.method, c.external
}
func (c to) Delete(key string) { delete(c.mdCarrier, key) }
