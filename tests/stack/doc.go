// Package stack checks what `docker compose up` would start, without Docker: the compose file with compose-go, the
// dashboards and rules with Prometheus' own code, fed by calls that rpcscope really instrumented.
package stack
