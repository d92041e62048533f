// Package benchmarks measures the suite beside what it is compared with, one
// table of scenarios for all contenders, client and server in one process over
// an in-memory connection:
//
//	go test -bench . -count 10
//
// Compare allocations, which repeat, and times as ratios within one run.
package benchmarks
