// Command benchmarks measures the suite beside what it is compared with: one
// table of scenarios times one list of contenders, client and server in one
// process.
//
//	go run .                                  # everything, to the terminal
//	go run . -scenario unary -rounds 3        # one scenario, in seconds
//	go run . -scenario 'unary*' -contender bare,otelgrpc,rpcscope
//	go run . -scenario open                   # open streams: goroutines and memory
//	go run . -write                           # everything, to README.md and RESULTS.md; make bench does it
//
// # How it measures
//
// All contenders of a scenario stand side by side, each with a server, a
// connection and OpenTelemetry providers of its own, in each round anew. In a
// round every contender makes the same number of calls, an eighth of them at a
// time, each time after a garbage collection and in another order, so that a
// machine that is slow for a second is slow for all. A time that is compared is
// the median of the ratios of the rounds; CPU is the time that the process used,
// for machines that have other things to do. Allocations are those of the whole
// process per call; they repeat to 1 %, and the budgets in budget_test.go are
// held to them.
//
// Open streams are held by one contender after the other. What they hold is
// what is reachable after collecting, on both sides, without the descriptors of
// goroutines, which the runtime keeps for the next ones.
//
// # What is compared
//
// Every contender records to the same SDK: the same sampler, span limits and
// histograms, a span processor that takes finished spans and drops them, a
// reader that is asked by nobody. TestContendersDoTheirJob holds each to the
// spans, points and records that it is here for.
//
// # Profiles
//
// Each pair of a scenario and a contender is a benchmark too, for go test's
// profiles; spaces in names become underscores:
//
//	go test -run '^$' -bench 'Calls/unary$/^rpcscope$' -benchtime 20000x -memprofilerate 1 -memprofile mem.out
//	go tool pprof -sample_index alloc_objects -top mem.out
//	go test -run '^$' -bench 'Calls/unary$/^rpcscope$' -benchtime 5s -cpuprofile cpu.out
//
// Divide what pprof shows by the number of calls, and take the same profile of
// bare gRPC away: what is left is the contender's. Count with this, and compare
// times only with the command: benchmarks run one after the other.
package main
