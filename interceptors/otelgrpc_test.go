package interceptors_test

import (
	"github.com/rpcscope/rpcscope/interceptors"
)

// engines are the two that make spans and durations. The option is nil for the
// suite's own.
var engines = []struct {
	name   string
	option interceptors.Option
}{{"own", nil}, {"otelgrpc", interceptors.WithOTelGRPC()}}

// both gives options to both sides, after what configure, which may be nil, does.
func both(configure func(*harness), options ...interceptors.Option) func(*harness) {
	return func(h *harness) {
		if configure != nil {
			configure(h)
		}
		for _, o := range options {
			if o != nil {
				h.servers, h.clients = append(h.servers, o), append(h.clients, o)
			}
		}
	}
}
