// Package errors is one error model from a handler to its caller.
package errors
