// Package users holds what both ends of the users service agree on: its errors and what a valid user is.
package users
