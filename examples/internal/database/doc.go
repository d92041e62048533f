// Package database opens SQLite for the example services. Each statement is a span beneath the span of the context it is
// given.
package database
