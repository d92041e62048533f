// Command errors measures package errors beside what else makes errors for
// gRPC: gRPC's own status, connect's error and cockroachdb/errors, each used as
// its documentation says.
//
//	go run ./errors                       # from the folder benchmarks; Markdown on stdout
//	go run ./errors > errors/RESULTS.md   # the table in RESULTS.md
//
// The contenders take turns in every round; a time is the least of the rounds,
// what it takes on a machine that does nothing else. Allocations are those of one
// operation and repeat exactly.
//
// Sending is from the error that a handler returns to the bytes of the status in
// the trailer, receiving from there to the error that the caller gets. Connect
// shows its own only as a whole response (its ErrorWriter, which sets HTTP
// headers too), and receives them only within a call, so that it has no row
// there.
package main
