#!/bin/sh
# Fails when gen/ is not what buf makes of proto/, or when proto/ is not formatted. Changes nothing.
set -eu
cd "$(dirname "$0")"
buf() { go tool -modfile=../tools/buf/go.mod buf "$@"; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
buf lint
buf format --diff --exit-code
buf generate --output "$tmp"
diff -r "$tmp/gen" gen || {
	echo "examples/gen differs from what proto/ generates: run 'go generate ./...' in examples and commit the result" >&2
	exit 1
}
