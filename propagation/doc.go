// Package propagation carries the trace context, the request id and the identity
// of a call from service to service, through context, gRPC metadata and HTTP
// headers, behind a trust boundary.
package propagation
