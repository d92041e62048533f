// Package examples holds the users service: README.md tells what it shows. The programs are in cmd, what they are made of
// in internal; gen is generated from proto.
package examples

//go:generate go tool -modfile=../tools/buf/go.mod buf format --write
//go:generate go tool -modfile=../tools/buf/go.mod buf lint
//go:generate go tool -modfile=../tools/buf/go.mod buf generate
