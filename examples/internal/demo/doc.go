// Package demo runs the users service and the web app in one process, sends requests through both, and shows what their
// telemetry says. It compares that with what should have come, so that it is a test as well.
package demo
