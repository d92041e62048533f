// Package faults tests what callers get, and are told by their telemetry, when the
// network or a dependency fails: real gRPC over real TCP, through a [Proxy] that
// delays, stalls, cuts, resets, refuses, throttles and forgets connections.
//
// Each test is about a fault and says, for all kinds of calls, what the caller gets,
// how long it takes at most, what the attempts were, which have their place in one
// trace and are counted, and that nothing is left behind: no call in flight on
// either side, and no goroutine.
//
// What the same interceptors do for a whole outage, under load, is measured by the
// command in the folder outage, which writes docs/faults.md.
package faults
