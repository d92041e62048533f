// Package store keeps users in a database.
package store
