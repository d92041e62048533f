// Package examples holds the users service: see README.md. Its code is in cmd and internal; gen is generated from proto.
package examples

//go:generate go tool -modfile=../tools/buf/go.mod buf format --write
//go:generate go tool -modfile=../tools/buf/go.mod buf lint
//go:generate go tool -modfile=../tools/buf/go.mod buf generate
