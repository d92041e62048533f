// Package propagation tests the propagator beside instrumentation that the root
// module does not depend on.
package propagation
