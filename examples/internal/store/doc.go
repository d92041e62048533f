// Package store keeps users in SQLite. Each statement is a span beneath the span of the context it is given.
package store
