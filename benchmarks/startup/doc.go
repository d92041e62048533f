// Command startup measures what setting telemetry up costs a program before it
// does anything: the size of the binary, the modules linked into it, the time
// until it is ready, and what is allocated on the way. It compares package
// telemetry with contrib's autoexport and otelconf.
//
//	go run .          # from this folder; the table on stdout
//	go run . -write   # and into the README
//
// The programs are in the folder programs, each as its documentation says: a
// gRPC server on a loopback port, with traces, metrics, those of the Go runtime
// among them, and logs over OTLP/gRPC to a place where nobody listens. They are
// built with -trimpath -ldflags "-s -w" and without cgo, and run in turns. Ready
// is when a program has written its first line to the pipe that is its stdout;
// the time includes that of starting a process, which is what bare needs.
// Ratios are medians of the ratios of each round, with their quartiles.
package main
