package observe

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// IDs is by what the last call of a client can be found. It is for clients that make one call at a time.
type IDs struct{ Request, Trace string }

// Look is an interceptor that sets i.
func (i *IDs) Look(ctx context.Context, _ *interceptors.Call, next interceptors.Next) error {
	*i = IDs{Request: propagation.RequestID(ctx)}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		i.Trace = sc.TraceID().String()
	}
	return next(ctx)
}
