// Command interceptors measures what the suite's interceptors cost a unary call
// that they let pass, beside those of go-grpc-middleware that do the same.
//
//	go run ./interceptors          # from the folder benchmarks; Markdown on stdout
//	go run ./interceptors -write   # the table in the README
//
// Allocations "in a call" are counted over a connection in memory, with the
// interceptor on its side, as a rule the server, inside of the engine: what a call takes with it less
// what it takes with one that does nothing, so that what the interceptor adds to
// span and log counts as well.
//
// "Alone" is an interceptor that is called with the context and request of a
// server's call and a handler that returns a reply, without engine and
// connection: a connection takes a hundred times as long and would hide it. Breakers
// are compared with failsafe-go's; Token, in a call only, with a credential written
// by hand. The
// suite's and go-grpc-middleware's take turns in every round, and the ratio is
// the median of those of the rounds, with its quartiles. Of the suite's about 0.01 µs
// are for the Call, which is the engine's.
//
// To measure another interceptor write a file with a scenario, and name it in
// the list in scenario.go: tests run all that are there, and hold them to their
// budget.
package main
