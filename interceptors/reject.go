package interceptors

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// rejectedReasonKey tells why an interceptor of the suite refused a call.
const rejectedReasonKey = attribute.Key("rpcscope.rejected.reason")

// reject notes that an interceptor of the suite refuses the call, for a reason
// that is one of few: in rpcscope.server.rejected or rpcscope.client.rejected, on the span and in the log.
func (c *Call) reject(ctx context.Context, reason string) {
	c.AddAttributes(rejectedReasonKey.String(reason))
	if c.m == nil || c.m.e.rejected == nil {
		return
	}
	attrs := append(c.m.attrs[:len(c.m.attrs):len(c.m.attrs)], rejectedReasonKey.String(reason))
	c.m.e.rejected.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attrs...)))
}
