// Package load calls the users service as many callers would, and says what came of it.
//
// Calls begin when they are due and not when the one before has its answer (an open model): a server that is slow has more
// of them at once, and not fewer. Where all callers are busy a call begins late, and its latency counts from when it was
// due, so that a server which stops for a second is seen to have delayed everybody who came in that second.
package load
