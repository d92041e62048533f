// Command benchmarks measures the suite beside what it is compared with: one
// table of scenarios times one list of contenders, client and server in one
// process.
//
//	go run .                                  # everything, to the terminal
//	go run . -scenario unary -rounds 3        # one scenario, in seconds
//	go run . -scenario 'unary*' -contender bare,otelgrpc,rpcscope
//
// # How it measures
//
// All contenders of a scenario stand side by side, each with a server, a
// connection and OpenTelemetry providers of its own. In each round every
// contender makes the same number of calls, after a garbage collection, in an
// order that changes from round to round. A time that is compared is the median
// of the ratios of the rounds, so that a machine that is slow for a second is
// slow for both. Allocations are those of the whole process per call; they
// repeat to 1 %.
//
// # What is compared
//
// Every contender records to the same SDK: the same sampler, span limits and
// histograms, a span processor that takes finished spans and drops them, a
// reader that is asked by nobody.
package main
