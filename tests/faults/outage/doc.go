// Command outage shows what becomes of a caller, and of the dependency that it
// calls, when that fails for a while, then is slow for a while, and is well again:
// with nothing, with retries of several kinds, and with time limits, retries and a
// breaker.
//
//	go run ./faults/outage          # in tests: the figures to the terminal, in three quarters of a minute
//	go run ./faults/outage -write   # into docs/faults.md and docs/faults.svg too
//
// Each set-up has a caller, which is a process of its own, so that its goroutines can
// be counted, and a server of its own, behind a [faults.Proxy]; all of them run at
// the same time. A caller starts its calls at a constant rate, whatever has become of the last
// ones. What the server was asked, what was attempted and retried, what was in flight and
// what the breaker did are the suite's own metrics; times are those that the caller's code
// saw.
package main
