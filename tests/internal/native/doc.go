// Package native runs the stack of docker-compose.yml without Docker: Jaeger and Prometheus, built from their Go modules
// and started with the configuration that compose mounts, and the example system under load. Command stack is what
// `make stack` runs; the tests of `make e2e` start the same on free ports.
package native
