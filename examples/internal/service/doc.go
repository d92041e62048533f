// Package service is the users service: a handler of each gRPC kind over a store, and the server around them.
//
// A handler returns plain Go errors. What they become on the wire, in the span, the metrics and the access log is the
// business of package interceptors; see serve.go for the one line it takes.
package service
