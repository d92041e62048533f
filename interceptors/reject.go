package interceptors

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
)

// rejectedReasonKey tells why an interceptor of the suite refused a call.
const rejectedReasonKey = attribute.Key("rpcscope.rejected.reason")

// reject notes that an interceptor of the suite refuses the call, for a reason that
// is one of few: in rpcscope.server.rejected or rpcscope.client.rejected, on the
// span and in the log.
func (c *Call) reject(ctx context.Context, reason string) {
	c.AddAttributes(rejectedReasonKey.String(reason))
	if c.m != nil {
		c.m.e.rejected.Add(ctx, 1, c.m.with(rejectedReasonKey.String(reason)))
	}
}
